"""The documentation of a DAG in Airflow's UI."""

from mwaa_pipelines.release import Release
from mwaa_pipelines.selection import Selection
from mwaa_pipelines.settings import Pipeline

# In the repository.
RUNBOOK = "docs/runbooks/pipeline-failed.md"


def documentation(pipeline: Pipeline, release: Release, selection: Selection) -> str:
    """Return the DAG's documentation in Markdown: what it builds, and what to do after a failure."""
    selected = " ".join(pipeline.select) or (pipeline.selector and f"selector:{pipeline.selector}")
    what = f"`{selected}` of the" if selected else "The"
    environment = f", environment `{pipeline.environment}`" if pipeline.environment else ""
    alert = (
        f"the Lambda function `{pipeline.sns_lambda_function_name}`" if pipeline.sns_lambda_function_name else "nobody"
    )
    if pipeline.deadline_minutes:
        alert += f", and so does one that is not over after {pipeline.deadline_minutes} minutes"
    links = dict(pipeline.links)
    if release.repository:
        commit = release.git_sha
        links |= {
            "Runbook for a failed run": f"{release.repository}/blob/{commit}/{RUNBOOK}",
            "Commit of this release": f"{release.repository}/commit/{commit}",
        }
    tables = ", ".join(f"`{table.table}`" for table in pipeline.load)
    load = f"First, new files in S3 are loaded into {tables}.\n" if tables else ""
    folders = "Each task of its nodes is a folder, whose log names them.\n" if selection.folders else ""
    return f"""{what} dbt project `{pipeline.project_name}`, release `{release.release_id}`, built into schema
`{pipeline.target_schema}` of database `{pipeline.target_database}`
(connection `{pipeline.redshift_connection_id}`{environment}).
{folders}{load}
A failed run tells {alert}; `dbt_check` names what failed. To run it again, clear its failed tasks.
The runbook is `{RUNBOOK}` in the repository.
A successful run updates the asset `{pipeline.dag_name}`.
If the project has the audit trail, every result is in `{pipeline.target_schema}.audit_table`.

{"\n".join(f"- [{text}]({address})" for text, address in links.items())}
"""
