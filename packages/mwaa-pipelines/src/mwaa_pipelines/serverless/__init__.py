"""Pipelines as workflows of Amazon MWAA Serverless: its limits, the settings that it cannot run, and the tasks."""
