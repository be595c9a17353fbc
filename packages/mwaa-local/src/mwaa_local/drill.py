"""A failure on purpose: a copy of the dbt project with a model that cannot be built, and one that reads it."""

import shutil
from pathlib import Path

from mwaa_local.dag_run import Outcome
from mwaa_release.manifest import install_packages

MODEL = "drill_fails"
DEPENDENT = "drill_reads_what_fails"
UNIQUE_ID = f"model.flights.{MODEL}"

_MODEL = """{{ config(materialized='table') }}
-- Added by the drill: no warehouse can divide by this.
select row_count / (row_count - row_count) as fails
from (select count(*) as row_count from pg_catalog.pg_namespace)
"""
_DEPENDENT = f"{{{{ config(materialized='view') }}}}\nselect fails from {{{{ ref('{MODEL}') }}}}\n"


def altered_project(project: Path, folder: Path) -> Path:
    """Copy `project` into `folder`, replacing what is there, add the models, and return the copy's path."""
    copy = folder / project.name
    shutil.rmtree(copy, ignore_errors=True)
    install_packages(project)
    shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns("target", "logs"))
    models = copy / "models" / "drill"
    models.mkdir()
    (models / f"{MODEL}.sql").write_text(_MODEL)
    (models / f"{DEPENDENT}.sql").write_text(_DEPENDENT)
    return copy


def problems(outcome: Outcome, lambda_works: bool) -> list[str]:
    """Return what did not go as a failure must: nothing, if the drill is passed."""
    states = {task["task_id"]: task["state"] for task in outcome.tasks}
    audit = [dict(zip(outcome.audit_columns, values, strict=True)) for values in outcome.audit_rows]
    found = []
    if outcome.state != "failed":
        found.append(f"the run ended {outcome.state}, not failed")
    if states.get("dbt_check") != "failed":
        found.append(f"dbt_check ended {states.get('dbt_check')}, not failed")
    if not any(row["unique_id"] == UNIQUE_ID and row["status"] == "error" for row in audit):
        found.append(f"no audit row says that {UNIQUE_ID} ended with status error")
    # What does not read the failing model is built all the same.
    ended_well = {row["unique_id"] for row in audit if row["status"] == "success"}
    others = {row["unique_id"] for row in audit if row["resource_type"] == "model"} - {UNIQUE_ID}
    if unbuilt := sorted(others - ended_well - {f"model.flights.{DEPENDENT}"}):
        found.append(f"models that do not depend on it were not built: {', '.join(unbuilt)}")
    if lambda_works:
        naming = [alert for alert in outcome.alerts if MODEL in alert["message"] and "zero" in alert["message"].lower()]
        if len(outcome.alerts) != 1 or len(naming) != 1:
            found.append(f"{len(outcome.alerts)} alerts arrived, {len(naming)} name the model and its error; 1 must")
    elif outcome.alerts or states.get("sns_notification_for_failure") != "failed":
        found.append(f"the broken alert ended {states.get('sns_notification_for_failure')}, not failed")
    return found
