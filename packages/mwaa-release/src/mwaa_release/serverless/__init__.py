"""Pipelines as workflows of Amazon MWAA Serverless: definition, code package, release."""
