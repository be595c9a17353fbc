"""For those who write models: build, test, show and compare one on the local warehouse, in seconds."""
