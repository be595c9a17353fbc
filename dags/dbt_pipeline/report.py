"""The failure report: which nodes and tasks of a run failed, from what dbt and Airflow reported."""

import json
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from dbt_pipeline.results import ERROR_KEY, RESULTS_KEY

FAILED = {"error", "fail", "runtime error", "partial success"}
# dbt skips a node when something it reads failed.
SKIPPED = {"skipped"}
# Lambda takes 6 MB, but what people read and SNS carries is 256 KB.
ALERT_NODES = 200


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
    raise AirflowFailException("\n".join([f"{len(failed)} failed or skipped:", *lines]))


def failed_nodes(ti: Any, tasks: dict[str, Any], states: dict[str, str]) -> list[dict[str, Any]]:
    """Return what failed, as the alert carries it: nodes, nodes skipped for them, tasks that failed without a node.

    Args:
        ti: the running task instance; reads XComs.
        tasks: the tasks to look at, by task_id.
        states: their states in this run, by task_id.
    """
    failed_tasks = {task_id for task_id in tasks if states.get(task_id) == "failed"}
    sensors = {task_id: task.model_unique_id for task_id, task in tasks.items() if hasattr(task, "producer_task_id")}
    last = _last_results(ti, set(tasks) - set(sensors))
    in_trouble = {unique_id for unique_id, result in last.items() if result["status"] in FAILED | SKIPPED}
    tests = _tests(tasks)
    nodes_of = {
        task_id: {unique_id, *tests.get(unique_id, ())} if task_id.endswith("test") else {unique_id}
        for task_id, unique_id in sensors.items()
    }
    # Only a sensor whose node was in trouble can have run dbt itself.
    retried = {task_id for task_id, nodes in nodes_of.items() if nodes & in_trouble}
    last = _last_results(ti, set(tasks) - set(sensors) | retried | (failed_tasks & set(sensors)))

    failed = [result for result in last.values() if result["status"] in FAILED]
    skipped = [
        {**result, "message": "not built: something it depends on failed"}
        for result in last.values()
        if result["status"] in SKIPPED
    ]
    found = {result["unique_id"] for result in failed + skipped}
    for task_id in sorted(failed_tasks):
        explained = nodes_of[task_id] & found if task_id in sensors else failed
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
    keys = ("unique_id", "status", "message", "try_number")
    return [{key: result[key] for key in keys} for result in failed + skipped]


def _tests(tasks: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in tasks.values():
        found |= getattr(task, "tests_per_model", {})
    return found


def _last_results(ti: Any, task_ids: set[str]) -> dict[str, dict[str, Any]]:
    """Return the newest result of each node, by unique_id, over the dbt processes of these tasks."""
    kept = [ti.xcom_pull(task_ids=task_id, key=RESULTS_KEY) for task_id in sorted(task_ids)]
    last: dict[str, dict[str, Any]] = {}
    for invocation in sorted(filter(None, kept), key=lambda invocation: invocation["generated_at"]):
        for result in invocation["results"]:
            last[result["unique_id"]] = {**result, "try_number": invocation["try_number"]}
    return last
