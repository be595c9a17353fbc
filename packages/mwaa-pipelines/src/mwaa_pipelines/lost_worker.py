"""Results of a dbt process that were lost with its worker, or that it could not store. Sensors saw what passed."""

import logging
import uuid
from typing import Any

from mwaa_pipelines.audit_rows import run_values
from mwaa_pipelines.node_outcomes import SUCCEEDED, read_outcomes
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.unwritten_rows import SAFE_KEY, store_results

MESSAGE = "Airflow saw that it passed; the worker was lost before dbt reported more"

log = logging.getLogger(__name__)


def store_lost_results(context: Any, release_id: str, tasks: dict[str, Any], states: dict[str, str]) -> None:
    """Store the nodes that passed in a lost dbt process in S3; the next run writes them. dbt_check calls this.

    Sensors have run the other nodes since, or run them when somebody clears the run.

    Args:
        context: Airflow's task context.
        release_id: the release that ran.
        tasks: the tasks before dbt_check, by task_id.
        states: their states, by task_id.
    """
    # An exception here would prevent the report.
    try:
        # A cleared run was handled before.
        if context["ti"].try_number > 1:
            return
        for producer in (task for task in tasks.values() if hasattr(task, "watched_together")):
            results = lost_results(context, producer, tasks, states)
            if results:
                store_results(_run(context, producer.task_id, release_id), results, context)
    except Exception:
        log.exception("The results of a lost dbt process could not be stored")


def end_lost_dbt(context: Any, tasks: dict[str, Any], states: dict[str, str]) -> None:
    """Stop dbt that a lost worker has left running in ECS, before the next run starts. dbt_check calls this.

    Args:
        context: Airflow's task context.
        tasks: the tasks before dbt_check, by task_id. All have ended.
        states: their states, by task_id.
    """
    ecs = next((task.ecs for task in tasks.values() if hasattr(task, "ecs")), None)
    if not ecs or all(states.get(task_id) == "success" for task_id in tasks):
        return
    # Imported here, because boto3 takes long, and DAG files are parsed often.
    from mwaa_pipelines.ecs_job import stop_left_running

    stop_left_running(ecs, context["ti"].dag_id, context["dag_run"].run_id, tasks)


def lost_results(context: Any, producer: Any, tasks: dict[str, Any], states: dict[str, str]) -> list[dict[str, Any]]:
    """Return the nodes that passed in a lost dbt process, as entries of run_results.json; otherwise nothing."""

    def pull(task_id: str, key: str) -> Any:
        return context["ti"].xcom_pull(task_ids=task_id, key=key)

    def passed_in_dbt(task: Any) -> bool:
        if states.get(task.task_id) != "success" or sensor_results[task.task_id]:
            return False
        # With a selection, the tasks of deselected nodes succeed, too.
        outcome = outcomes.get(task.outcome_key, {})
        return not is_selective or outcome.get("status") in SUCCEEDED

    # Airflow may retry a lost task. Cosmos skips that try.
    if states.get(producer.task_id) not in {"failed", "skipped"}:
        return []
    # A task whose worker was lost has not pushed this.
    safe = (pull(producer.task_id, SAFE_KEY) or {"unique_ids": []})["unique_ids"]
    if safe is None:
        return []
    is_selective = (context.get("params") or {}).get("select")
    outcomes = read_outcomes(lambda key: pull(producer.task_id, key)) if is_selective else {}
    sensors = [task for task in tasks.values() if getattr(task, "producer_task_id", None) == producer.task_id]
    sensor_results = {task.task_id: pull(task.task_id, RESULTS_KEY) for task in sensors}
    passed: dict[str, str] = {}
    # A test that reads several models belongs to the test task of each model. One of them may have run it, or will.
    elsewhere = {result["unique_id"] for process in sensor_results.values() if process for result in process["results"]}
    for task in sensors:
        nodes = task.node_ids
        if passed_in_dbt(task):
            passed |= {node: "pass" if node.startswith("test.") else "success" for node in nodes}
        elif states.get(task.task_id) != "success":
            elsewhere.update(nodes)
    return [
        {
            **dict.fromkeys(("execution_time", "failures", "thread_id", "max_loaded_at")),
            "unique_id": unique_id,
            "status": status,
            "message": MESSAGE,
            "timing": [],
            "adapter_response": {},
        }
        for unique_id, status in passed.items()
        if unique_id not in elsewhere and unique_id not in safe
    ]


def _run(context: Any, task_id: str, release_id: str) -> dict[str, Any]:
    """Return the values that all rows share, as far as Airflow knows them; the same at every call for one run."""
    run_uuid = uuid.uuid5(uuid.NAMESPACE_URL, f"{context['ti'].dag_id}/{context['dag_run'].run_id}/{task_id}")
    values = run_values(context, f"lost-{run_uuid}", "build", release_id)
    return {**values, "airflow_task_id": task_id, "airflow_try_number": "1", "airflow_log_url": None}
