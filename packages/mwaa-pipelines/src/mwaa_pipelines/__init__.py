"""What dags/pipelines.py makes DAGs of: settings, releases, credentials, dbt's results, the failure report."""
