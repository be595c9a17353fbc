"""Stands in for AWS on a laptop: moto over HTTP, a Lambda that runs the deployed code, the MWAA calls moto lacks."""
