"""Stands in for AWS on a laptop: moto, behind policies that decide; a Lambda that runs code; the MWAA calls moto lacks."""
