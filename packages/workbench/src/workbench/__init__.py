"""Tools for analytics engineers: build, test, show and compare a model on the local warehouse in seconds."""
