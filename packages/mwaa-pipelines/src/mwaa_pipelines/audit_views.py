"""The audit views are built by the audit task, once per release and not in every run."""

import json
import logging
from pathlib import Path
from typing import Any

# The XCom of the audit task that names the release whose views it built.
VIEWS_KEY = "audit_views_release"
VIEWS_SELECTOR = "tag:audit_view"
_SUCCEEDED = {"success", "pass", "warn", "no-op"}

log = logging.getLogger(__name__)


def select_audit_views(context: Any) -> None:
    """Let the audit task build the audit views if its release has not built them; called by Airflow before it starts.

    A further try always builds them, so clearing the task repairs views that somebody dropped.
    """
    ti, task = context["ti"], context["task"]
    built_by = ti.xcom_pull(task_ids=ti.task_id, key=VIEWS_KEY, include_prior_dates=True)
    if built_by != _release_id(task) or ti.try_number > 1:
        task.select = f"{task.select} {VIEWS_SELECTOR}"


def record_audit_views(project_dir: str, context: Any) -> None:
    """Push which release's audit views there are now; called by Cosmos after dbt ended, failed or not.

    Args:
        project_dir: the folder that dbt ran in.
        context: Airflow's task context.
    """
    task = context["task"]
    if VIEWS_SELECTOR not in task.select.split():
        return
    # An exception here would hide dbt's own error.
    try:
        results = json.loads((Path(project_dir) / "target" / "run_results.json").read_text())["results"]
        if all(result["status"] in _SUCCEEDED for result in results):
            context["ti"].xcom_push(key=VIEWS_KEY, value=_release_id(task))
    except Exception:
        log.exception("the release of the audit views could not be recorded; the next run builds them again")


def _release_id(task: Any) -> str:
    return Path(task.project_dir).name
