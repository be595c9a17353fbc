"""The failure report: which nodes and tasks of a run failed, from what dbt and Airflow reported."""

import json
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from dbt_pipeline.results import ERROR_KEY, RESULTS_KEY

FAILED = {"error", "fail", "runtime error", "partial success"}
# dbt skips a node when something it reads failed.
SKIPPED = {"skipped"}
_BUILT = ("model.", "seed.", "snapshot.")
# Lambda takes 6 MB, but what people read and SNS carries is 256 KB.
ALERT_NODES = 200
# The alert's payload: what check_dbt pushed; or, so that an alert is sent even if that broke down, what names the run.
ALERT = "{{ ti.xcom_pull('dbt_check', key='alert') or {'dag_name': ti.dag_id, 'run_id': run_id} | tojson }}"


def check_dbt(groups: list[str], release_id: str) -> list[dict[str, Any]]:
    """Raise if anything in the task groups failed, naming it; the alert's payload is pushed as XCom `alert` before.

    A node counts by its last result, so one that failed and then passed on a further try is fine.

    Args:
        groups: ids of the task groups to look at.
        release_id: the release that ran.

    Returns:
        The failed nodes of a clean run: none.

    Raises:
        AirflowFailException: something failed.
    """
    context = get_current_context()
    ti, dag_run = context["ti"], context["dag_run"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[dag_run.run_id]).get(dag_run.run_id, {})
    tasks = {
        task_id: task
        for task_id, task in context["dag"].task_dict.items()
        if task_id.split(".", maxsplit=1)[0] in groups
    }
    failed = failed_nodes(ti, tasks, states)
    if not failed:
        return []

    alert = {
        "dag_name": ti.dag_id,
        "run_id": dag_run.run_id,
        "logical_date": dag_run.logical_date.isoformat() if dag_run.logical_date else None,
        "release_id": release_id,
        "log_url": ti.log_url,
        "failed": failed[:ALERT_NODES],
    }
    ti.xcom_push(key="alert", value=json.dumps(alert))
    lines = [f"{node['unique_id']} ({node['status']}, try {node['try_number']}): {node['message']}" for node in failed]
    more = [f"... and {len(lines) - ALERT_NODES} more"] if len(lines) > ALERT_NODES else []
    raise AirflowFailException("\n".join([f"{len(failed)} failed or skipped:", *lines[:ALERT_NODES], *more]))


def failed_nodes(ti: Any, tasks: dict[str, Any], states: dict[str, str]) -> list[dict[str, Any]]:
    """Return what failed, as the alert carries it: nodes, nodes skipped for them, tasks that failed without a node.

    Args:
        ti: the running task instance; reads XComs.
        tasks: the tasks to look at, by task_id.
        states: their states in this run, by task_id.
    """
    failed_tasks = {task_id for task_id in tasks if states.get(task_id) == "failed"}
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
            failed.append(
                {
                    "unique_id": task_id,
                    "status": "failed",
                    "message": error.get("message") or "ended without a word; see its log in Airflow",
                    "try_number": error.get("try_number", 1),
                }
            )
    # That the tests of a node that was not built did not run either says nothing more.
    missing = [result for result in skipped if result["unique_id"].startswith(_BUILT)]
    keys = ("unique_id", "status", "message", "try_number")
    return [{key: result[key] for key in keys} for result in failed + (missing or skipped)]


def _tests(tasks: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in tasks.values():
        found |= getattr(task, "tests_per_model", {})
    return found


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
