"""The module of a code package that the tasks of a definition name. The build copies it to the package's root."""

from mwaa_pipelines.serverless.tasks import check_dbt, run_dbt

__all__ = ["check_dbt", "run_dbt"]
