"""Adds a model that fails, and one that depends on it, to a copy of the dbt project."""

import shutil
from pathlib import Path

from mwaa_local.dag_run import Outcome
from mwaa_pipelines.task_ids import ALERT_TASK, CHECK_TASK
from mwaa_release.manifest import install_packages

MODEL = "drill_fails"
DEPENDENT = "drill_reads_what_fails"

_MODEL = """{{ config(materialized='table') }}
-- Added by the drill: a division by zero.
select row_count / (row_count - row_count) as fails
from (select count(*) as row_count from (select 1 as one))
"""
_DEPENDENT = f"{{{{ config(materialized='view') }}}}\nselect fails from {{{{ ref('{MODEL}') }}}}\n"


def altered_project(project: Path, folder: Path) -> Path:
    """Copy `project` into `folder`, add the models, and return the copy's path. Replaces an earlier copy."""
    copy = folder / project.name
    shutil.rmtree(copy, ignore_errors=True)
    install_packages(project)
    shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns("target", "logs"))
    models = copy / "models" / "drill"
    models.mkdir()
    (models / f"{MODEL}.sql").write_text(_MODEL)
    (models / f"{DEPENDENT}.sql").write_text(_DEPENDENT)
    return copy


def find_problems(outcome: Outcome, lambda_works: bool) -> list[str]:
    """Return the ways in which the failure was not reported correctly. An empty list means that the drill passed."""
    states = {task["task_id"]: task["state"] for task in outcome.tasks}
    audit = [dict(zip(outcome.audit_columns, values, strict=True)) for values in outcome.audit_rows]
    problems = []
    if outcome.state != "failed":
        problems.append(f"the run ended {outcome.state}, not failed")
    if states.get(CHECK_TASK) != "failed":
        problems.append(f"{CHECK_TASK} ended {states.get(CHECK_TASK)}, not failed")
    if not any(row["name"] == MODEL and row["status"] == "error" for row in audit):
        problems.append(f"the audit table has no row for model {MODEL} with status error")
    # All other models must be built.
    ended_well = {row["name"] for row in audit if row["status"] == "success"}
    others = {row["name"] for row in audit if row["resource_type"] == "model"} - {MODEL, DEPENDENT}
    if unbuilt := sorted(others - ended_well):
        problems.append(f"models that do not depend on the failed model were not built: {', '.join(unbuilt)}")
    if lambda_works:
        naming = [alert for alert in outcome.alerts if MODEL in alert["message"] and "zero" in alert["message"].lower()]
        if len(outcome.alerts) != 1 or len(naming) != 1:
            problems.append(
                f"{len(outcome.alerts)} alerts arrived and {len(naming)} name the model and its error; expected 1 and 1"
            )
    elif outcome.alerts or states.get(ALERT_TASK) != "failed":
        problems.append(f"the task of the broken alert ended {states.get(ALERT_TASK)}, not failed")
    return problems
