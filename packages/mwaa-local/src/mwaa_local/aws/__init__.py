"""Stands in for AWS on a laptop: moto behind IAM policies, a Lambda that runs code, the MWAA calls that moto lacks."""
