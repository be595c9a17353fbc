"""The report of a run: which nodes and tasks failed or warned, from what dbt and Airflow reported."""

import logging
from typing import Any

from airflow.sdk import get_current_context

from mwaa_pipelines.alert import Alert, AlertNode
from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.lost_worker import keep_lost
from mwaa_pipelines.results import ERROR_KEY, LAST_WORDS_KEY, RESULTS_KEY
from mwaa_pipelines.task_ids import ALERT_TASK, AUDIT_GROUP, SUCCESS_TASK

FAILED = {"error", "fail", "runtime error", "partial success"}
WARNED = {"warn"}
# dbt skips a node when something it reads failed.
SKIPPED = {"skipped"}
_BUILT = ("model.", "seed.", "snapshot.")
# Lambda takes 6 MB, but what people read and SNS carries is 256 KB.
ALERT_NODES = 200
# The alert's payload: what check_dbt pushed; or, so that an alert is sent even if that broke down, what names the run.
ALERT = "{{ ti.xcom_pull('dbt_check', key='alert') or {'dag_name': ti.dag_id, 'run_id': run_id} | tojson }}"

log = logging.getLogger(__name__)


def check_dbt(release_id: str, alerts: bool, warnings: str) -> list[str]:
    """Raise if any task before this one failed, naming what failed. Push the alert's payload as XCom `alert` first.

    A node counts by its last result, so one that failed and then passed on a further try is fine.

    Args:
        release_id: the release that ran.
        alerts: whether the DAG has a task that sends alerts.
        warnings: `alert`: one is sent if a test warns; `ignore`: none is.

    Returns:
        The tasks that follow on a run without failures: the alert is among them if a test warned, or all is well again.

    Raises:
        AirflowFailException: something failed.
    """
    context = get_current_context()
    ti, dag_run = context["ti"], context["dag_run"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[dag_run.run_id]).get(dag_run.run_id, {})
    upstream = context["dag"].get_task(ti.task_id).get_flat_relative_ids(upstream=True)
    tasks = {task_id: context["dag"].get_task(task_id) for task_id in sorted(upstream)}
    if not any(task_id.startswith(f"{AUDIT_GROUP}.") for task_id in tasks):
        log.warning(
            "This run wrote no audit rows: its dbt project has no audit trail. "
            "To get one, list the package audit_trail in the project's packages.yml."
        )
    keep_lost(context, release_id, tasks, states)
    failed, warned = nodes_to_report(ti, tasks, states)
    alert = Alert(
        dag_name=ti.dag_id,
        run_id=dag_run.run_id,
        logical_date=dag_run.logical_date.isoformat() if dag_run.logical_date else None,
        release_id=release_id,
        log_url=ti.log_url,
        status="failed" if failed else "warned",
        failed=[AlertNode(**node) for node in failed[:ALERT_NODES]],
        warned=[AlertNode(**node) for node in warned[:ALERT_NODES]],
    )
    if warned:
        log.warning("%s warned:\n%s", len(warned), "\n".join(_lines(warned)))
    if failed:
        # Pushed before the history is read, so that a failure while reading it cannot suppress the alert.
        ti.xcom_push(key="alert", value=alert.payload())
        ti.xcom_push(key="alert", value=alert.model_copy(update=_history(ti)).payload())
        raise AirflowFailException("\n".join([f"{len(failed)} failed or skipped:", *_lines(failed)]))
    history = _history(ti) if alerts else {}
    if history.get("again"):
        alert = alert.model_copy(update={**history, "status": "recovered"})
    elif not (warned and warnings == "alert"):
        return [SUCCESS_TASK]
    if not alerts:
        return [SUCCESS_TASK]
    ti.xcom_push(key="alert", value=alert.payload())
    return [SUCCESS_TASK, ALERT_TASK]


def _lines(nodes: list[dict[str, Any]]) -> list[str]:
    lines = [f"{node['unique_id']} ({node['status']}, try {node['try_number']}): {node['message']}" for node in nodes]
    more = [f"... and {len(lines) - ALERT_NODES} more"] if len(lines) > ALERT_NODES else []
    return lines[:ALERT_NODES] + more


def _history(ti: Any) -> dict[str, Any]:
    """Whether the run before this one failed, and which was the last to succeed; nothing, if Airflow does not say.

    Airflow orders runs by their logical date: one that was started without has no history. A run that was cleared
    after it failed is known by the number of its try.
    """
    try:
        before, success = ti.get_previous_dagrun(), ti.get_previous_dagrun(state="success")
        last = success.logical_date or success.run_after if success else None
        return {
            "again": ti.try_number > 1 or bool(before and before.state == "failed"),
            "last_success": last.isoformat() if last else None,
        }
    except Exception:
        log.exception("Airflow does not say how earlier runs ended")
        return {}


def nodes_to_report(ti: Any, tasks: dict[str, Any], states: dict[str, str]) -> tuple[list[dict[str, Any]], ...]:
    """Return what failed and what warned, as the alert carries it.

    What failed: nodes, nodes skipped for them, and tasks that failed without a node.

    Args:
        ti: the running task instance; reads XComs.
        tasks: the tasks to look at, by task_id.
        states: their states in this run, by task_id.
    """
    failed_tasks = {task_id for task_id in tasks if states.get(task_id) == "failed"}
    failed_tasks -= _tests_of_failed(tasks, failed_tasks)
    tests = _tests(tasks)
    nodes_of = {
        task_id: set(tests.get(task.model_unique_id, ())) if task.is_test_sensor else {task.model_unique_id}
        for task_id, task in tasks.items()
        if hasattr(task, "producer_task_id")
    }
    processes = _kept(ti, set(tasks) - set(nodes_of))
    in_trouble = {result["unique_id"] for result in _last(processes) if result["status"] in FAILED | SKIPPED}
    # Only a sensor whose node was in trouble can have run dbt itself.
    retried = {task_id for task_id, nodes in nodes_of.items() if nodes & in_trouble}
    last = _last(processes | _kept(ti, retried | (failed_tasks & set(nodes_of))))

    failed = [result for result in last if result["status"] in FAILED]
    skipped = [
        {**result, "message": "not built: something it depends on failed"}
        for result in last
        if result["status"] in SKIPPED
    ]
    found = {result["unique_id"] for result in failed + skipped}
    for task_id in sorted(failed_tasks):
        # A dbt process fails with its nodes, and each of them counts by its last result.
        explained = nodes_of[task_id] & found if task_id in nodes_of else _in_trouble(processes.get(task_id))
        if not explained:
            error = ti.xcom_pull(task_ids=task_id, key=ERROR_KEY) or {}
            words = ti.xcom_pull(task_ids=task_id, key=LAST_WORDS_KEY)
            failed.append(
                {
                    "unique_id": task_id,
                    "status": "failed",
                    "message": words
                    or error.get("message")
                    or "ended without a word, as when its worker is lost; see its log in Airflow",
                    "try_number": error.get("try_number", 1),
                }
            )
    # That the tests of a node that was not built did not run either says nothing more.
    missing = [result for result in skipped if result["unique_id"].startswith(_BUILT)]
    warned = [result for result in last if result["status"] in WARNED]
    return _entries(failed + (missing or skipped)), _entries(warned)


def _entries(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # What Airflow says of a task has no duration.
    keys = ("unique_id", "status", "message", "try_number", "execution_time")
    return [{key: result.get(key) for key in keys} for result in results]


def _tests(tasks: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in tasks.values():
        found |= getattr(task, "tests_per_model", {})
    return found


def _tests_of_failed(tasks: dict[str, Any], failed_tasks: set[str]) -> set[str]:
    """The tasks that show the tests of a node whose own task failed: they fail with it."""
    sensors = {task_id: task for task_id, task in tasks.items() if hasattr(task, "producer_task_id")}
    failed = {
        task.model_unique_id for task_id, task in sensors.items() if task_id in failed_tasks and not task.is_test_sensor
    }
    return {task_id for task_id, task in sensors.items() if task.is_test_sensor and task.model_unique_id in failed}


def _kept(ti: Any, task_ids: set[str]) -> dict[str, dict[str, Any]]:
    """What keep_results pushed for the dbt process of each of these tasks, by task_id."""
    kept = {task_id: ti.xcom_pull(task_ids=task_id, key=RESULTS_KEY) for task_id in sorted(task_ids)}
    return {task_id: process for task_id, process in kept.items() if process}


def _in_trouble(process: dict[str, Any] | None) -> bool:
    return any(result["status"] in FAILED | SKIPPED for result in (process or {}).get("results", []))


def _last(processes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest result of each node over these dbt processes."""
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for process in sorted(processes.values(), key=lambda process: process["generated_at"]):
        for result in process["results"]:
            key = (result["unique_id"],)
            # A hook runs in every process: that it passed in a later one does not make up for a failure.
            if result["unique_id"].startswith("operation."):
                key += (process["invocation_id"],)
            last[key] = {**result, "try_number": process["try_number"]}
    return list(last.values())
