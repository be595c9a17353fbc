"""The report of a run: the nodes and tasks that failed or warned."""

import logging
import time
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import get_current_context

from mwaa_pipelines.alert import Alert, AlertNode
from mwaa_pipelines.compatibility import AirflowFailException, AirflowRescheduleException
from mwaa_pipelines.lost_worker import end_lost_dbt, store_lost_results
from mwaa_pipelines.results import ERROR_KEY, LAST_WORDS_KEY, RESULTS_KEY
from mwaa_pipelines.row_changes import row_changes
from mwaa_pipelines.run_history import update_history
from mwaa_pipelines.selection import model_asset
from mwaa_pipelines.task_ids import ALERT_TASK, AUDIT_GROUP, ENDED_STATES, NO_AUDIT_TASK, SUCCESS_TASK

FAILED = {"error", "fail", "runtime error", "partial success"}
WARNED = {"warn"}
# dbt skips a node when an upstream node failed.
SKIPPED = {"skipped"}
_BUILT = ("model.", "seed.", "snapshot.", "function.")
# SNS carries 256 KB.
ALERT_NODES = 200
# Of the table in the log of dbt_check.
TABLE_ROWS = 20
_LOOKS, _SECONDS_BETWEEN_LOOKS = 10, 1.0
# The alert's payload, which check_dbt pushed. If check_dbt itself failed, an alert that only names the run is sent.
ALERT = "{{ ti.xcom_pull('dbt_check', key='alert') or {'dag_name': ti.dag_id, 'run_id': run_id} | tojson }}"

log = logging.getLogger(__name__)


def check_dbt(release_id: str, alerts: bool, warnings: str, rows_change_percent: int | None = None) -> list[str]:
    """Raise if any task before this one failed, naming what failed. Push the alert's payload as XCom `alert` first.

    The latest result of a node counts, so a node that succeeded on a retry is not a failure. When the task succeeds,
    Airflow updates the assets of the public models that this run built.

    Args:
        release_id: the release that ran.
        alerts: whether the DAG has a task that sends alerts.
        warnings: `alert` sends an alert if a test warned; `ignore` does not.
        rows_change_percent: send an alert if the rows of a node changed by more than this; None: do not compare them.

    Returns:
        The next tasks of a run without failures. The alert is one of them if a test warned or a run failed before it.

    Raises:
        AirflowFailException: a node or task failed.
    """
    context = get_current_context()
    ti, dag_run = context["ti"], context["dag_run"]
    upstream = context["dag"].get_task(ti.task_id).get_flat_relative_ids(upstream=True)
    tasks = {task_id: context["dag"].get_task(task_id) for task_id in sorted(upstream)}
    states = _final_states(ti, [task_id for task_id, task in tasks.items() if hasattr(task, "producer_task_id")])
    if f"{AUDIT_GROUP}.{NO_AUDIT_TASK}" in tasks:
        log.warning(
            "This run wrote no audit rows: its dbt project has no audit trail. "
            "To get one, list the package audit_trail in the project's packages.yml."
        )
    end_lost_dbt(context, tasks, states)
    store_lost_results(context, release_id, tasks, states)
    failed, warned, built = nodes_to_report(ti, tasks, states)
    changed = row_changes(context, built, rows_change_percent) if rows_change_percent else []
    warned += changed
    # The task's outlets are all public models of the pipeline. The parameter `select` can leave some out of a run.
    updated = {model_asset(node) for node in built}
    context["task"].outlets = [asset for asset in context["task"].outlets if asset.name in updated]
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
        ti.xcom_push(key="alert", value=alert.model_copy(update=update_history(ti, dag_run)).payload())
        raise AirflowFailException("\n".join([f"{len(failed)} failed or skipped:", *_lines(failed)]))
    history = update_history(ti, dag_run) if alerts else {}
    if history.get("again"):
        alert = alert.model_copy(update={**history, "status": "recovered"})
    elif not (changed or (warned and warnings == "alert")):
        return [SUCCESS_TASK]
    if not alerts:
        return [SUCCESS_TASK]
    ti.xcom_push(key="alert", value=alert.payload())
    return [SUCCESS_TASK, ALERT_TASK]


def _lines(nodes: list[dict[str, Any]]) -> list[str]:
    lines = [f"{node['unique_id']} ({node['status']}, try {node['try_number']}): {node['message']}" for node in nodes]
    more = [f"... and {len(lines) - ALERT_NODES} more"] if len(lines) > ALERT_NODES else []
    return lines[:ALERT_NODES] + more


def _final_states(ti: Any, sensors: Collection[str]) -> dict[str, str]:
    """Return the states of this run's tasks when all sensors have ended.

    Sensors start at once, so some can still wait when the last ones of the graph have ended: for a moment, or for a
    retry of tests that read several models.

    Raises:
        AirflowRescheduleException: they have not ended within ten seconds. Airflow starts this task again.
    """
    for _ in range(_LOOKS):
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        if waiting := [task_id for task_id in sensors if states.get(task_id) not in ENDED_STATES]:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        else:
            return states
    log.info("Waiting for %s", ", ".join(waiting))
    raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=_LOOKS * _SECONDS_BETWEEN_LOOKS))


def nodes_to_report(
    ti: Any, tasks: dict[str, Any], states: dict[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int | None]]:
    """Return the failures and the warnings, as entries of the alert, and the nodes that were built, with their rows.

    Failures are failed nodes, nodes that dbt skipped because of them, and tasks that failed without a failed node.

    Args:
        ti: the running task instance, which reads XComs.
        tasks: the tasks to check, by task_id.
        states: their states in this run, by task_id.
    """
    failed_tasks = {task_id for task_id in tasks if states.get(task_id) == "failed"}
    failed_tasks -= _not_run(tasks, states)
    nodes_of = {task_id: set(task.node_ids) for task_id, task in tasks.items() if hasattr(task, "producer_task_id")}
    processes = _stored_results(ti, set(tasks) - set(nodes_of))
    in_trouble = {
        result["unique_id"] for result in _latest_result_by_node(processes) if result["status"] in FAILED | SKIPPED
    }
    # Only the sensor of a failed or skipped node can have run dbt, or each one if dbt has not reported all nodes.
    retried = {
        task_id
        for task_id, nodes in nodes_of.items()
        if nodes & in_trouble or not _is_complete(processes.get(tasks[task_id].producer_task_id))
    }
    latest = _latest_result_by_node(processes | _stored_results(ti, retried | (failed_tasks & set(nodes_of))))

    if latest:
        log.info("%s", _table(latest))
    failed = [result for result in latest if result["status"] in FAILED]
    skipped = [
        {**result, "message": "not built: something it depends on failed"}
        for result in latest
        if result["status"] in SKIPPED
    ]
    reported = {result["unique_id"] for result in failed + skipped}
    for task_id in sorted(failed_tasks):
        # A dbt process that fails because of its nodes is not a separate failure. One that was interrupted is, because
        # no task runs the tests of sources that it did not reach.
        explained = nodes_of[task_id] & reported if task_id in nodes_of else _in_trouble(processes.get(task_id))
        if not explained:
            error = ti.xcom_pull(task_ids=task_id, key=ERROR_KEY) or {}
            last_error = ti.xcom_pull(task_ids=task_id, key=LAST_WORDS_KEY)
            failed.append(
                {
                    "unique_id": task_id,
                    "status": "failed",
                    "message": last_error
                    or error.get("message")
                    or "ended without an error message, as when its worker is lost. See its log in Airflow",
                    "try_number": error.get("try_number", 1),
                }
            )
    # Skipped tests of a skipped node add no information.
    missing = [result for result in skipped if result["unique_id"].startswith(_BUILT)]
    warned = [result for result in latest if result["status"] in WARNED]
    built = {result["unique_id"]: result.get("rows") for result in latest if result["status"] == "success"}
    return _entries(failed + (missing or skipped)), _entries(warned), built


def _table(results: list[dict[str, Any]]) -> str:
    """Return the number of nodes by status, and a table of the nodes to look at: not passed first, then the slowest."""
    counts = Counter(result["status"] for result in results)
    passed = {"success", "pass"}
    first = sorted(results, key=lambda result: (result["status"] in passed, -(result["execution_time"] or 0)))
    lines = [f"{'status':<14} {'seconds':>8} {'rows':>9}  node"]
    for result in first[:TABLE_ROWS]:
        rows = "" if result.get("rows") is None else result["rows"]
        lines.append(f"{result['status']:<14} {result['execution_time'] or 0:>8.1f} {rows:>9}  {result['unique_id']}")
    more = [f"... and {len(results) - TABLE_ROWS} faster ones"] if len(results) > TABLE_ROWS else []
    return "\n".join([", ".join(f"{count} {status}" for status, count in counts.most_common()), *lines, *more])


def _entries(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Entries from Airflow have no duration.
    keys = ("unique_id", "status", "message", "try_number", "execution_time")
    return [{key: result.get(key) for key in keys} for result in results]


def _not_run(tasks: dict[str, Any], states: dict[str, str]) -> set[str]:
    """Return the sensors that failed only because a task failed that they need. Its failure is reported."""
    failed = {task_id for task_id, state in states.items() if state in ("failed", "upstream_failed")}
    sensors = {task_id: task for task_id, task in tasks.items() if hasattr(task, "producer_task_id")}
    return {
        task_id
        for task_id, task in sensors.items()
        if task_id in failed and failed & {*task.upstream_task_ids, task.task_of_model}
    }


def _stored_results(ti: Any, task_ids: set[str]) -> dict[str, dict[str, Any]]:
    """Return what push_results pushed for each of these tasks, by task_id."""
    results = {task_id: ti.xcom_pull(task_ids=task_id, key=RESULTS_KEY) for task_id in sorted(task_ids)}
    return {task_id: process for task_id, process in results.items() if process}


def _is_complete(process: dict[str, Any] | None) -> bool:
    return bool(process and process.get("is_complete"))


def _in_trouble(process: dict[str, Any] | None) -> bool:
    results = process["results"] if process and _is_complete(process) else []
    return any(result["status"] in FAILED | SKIPPED for result in results)


def _latest_result_by_node(processes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest result of each node in these dbt processes."""
    latest: dict[tuple[str, ...], dict[str, Any]] = {}
    for process in sorted(processes.values(), key=lambda process: process["generated_at"]):
        for result in process["results"]:
            key = (result["unique_id"],)
            # A hook runs in every process, and its success in a later process does not undo a failure.
            if result["unique_id"].startswith("operation."):
                key += (process["invocation_id"],)
            latest[key] = {**result, "try_number": process["try_number"]}
    return list(latest.values())
