"""The program that runs dbt outside of Airflow: `python -m mwaa_pipelines.runner`. It needs dbt, boto3 and PyYAML."""
