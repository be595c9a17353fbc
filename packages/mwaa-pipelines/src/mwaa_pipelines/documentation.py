"""The documentation of a DAG in Airflow's UI."""

from mwaa_pipelines.release import Release
from mwaa_pipelines.settings import Pipeline


def documentation(pipeline: Pipeline, release: Release) -> str:
    """Return the DAG's documentation in Markdown: what it builds, and what to do after a failure."""
    selected = " ".join(pipeline.select) or (pipeline.selector and f"selector:{pipeline.selector}")
    what = f"`{selected}` of the" if selected else "The"
    environment = f", environment `{pipeline.environment}`" if pipeline.environment else ""
    alert = (
        f"the Lambda function `{pipeline.sns_lambda_function_name}`" if pipeline.sns_lambda_function_name else "nobody"
    )
    if pipeline.deadline_minutes:
        alert += f", and so does one that is not over after {pipeline.deadline_minutes} minutes"
    tables = ", ".join(f"`{table.table}`" for table in pipeline.load)
    load = f"First, new files in S3 are loaded into {tables}.\n" if tables else ""
    return f"""{what} dbt project `{pipeline.project_name}`, release `{release.release_id}`, built into schema
`{pipeline.target_schema}` of database `{pipeline.target_database}`
(connection `{pipeline.redshift_connection_id}`{environment}).
{load}
A failed run tells {alert}; `dbt_check` names what failed. To run it again, clear its failed tasks.
A successful run updates the asset `{pipeline.dag_name}`.
If the project has the audit trail, every result is in `{pipeline.target_schema}.audit_table`.
"""
