"""Results of a dbt process that was lost with its worker, its log and its report: Airflow's sensors saw what passed."""

import logging
import uuid
from datetime import UTC, datetime
from typing import Any

from mwaa_pipelines.results import LAST_WORDS_KEY, RESULTS_KEY
from mwaa_pipelines.unwritten_rows import keep

MESSAGE = "seen by Airflow to have passed; the worker was lost before dbt could report more"

log = logging.getLogger(__name__)


def keep_lost(context: Any, release_id: str, tasks: dict[str, Any], states: dict[str, str]) -> None:
    """Keep in S3, for the next run to write, what passed in a dbt process that was lost; called by dbt_check.

    What did not pass in it has been run by its sensor since, or is run when the run is cleared.

    Args:
        context: Airflow's task context.
        release_id: the release that ran.
        tasks: those of dbt, by task_id.
        states: their states, by task_id.
    """
    # An exception here would hold back the report.
    try:
        # A run that was cleared has been looked at; a selection leaves nodes out, whose tasks are green, too.
        if context["ti"].try_number > 1 or (context.get("params") or {}).get("select"):
            return
        for producer in (task for task in tasks.values() if hasattr(task, "tests_per_model")):
            results = lost_results(context["ti"], producer, tasks, states)
            if results:
                keep(_run(context, producer.task_id, release_id), results, context)
    except Exception:
        log.exception("results of a dbt process that was lost could not be kept")


def lost_results(ti: Any, producer: Any, tasks: dict[str, Any], states: dict[str, str]) -> list[dict[str, Any]]:
    """Return, as entries of run_results.json, what passed in the producer's dbt if that was lost; else nothing."""

    def kept(task_id: str, key: str) -> Any:
        return ti.xcom_pull(task_ids=task_id, key=key)

    # Airflow may have given a lost task a second try, which Cosmos skips.
    if states.get(producer.task_id) not in {"failed", "skipped"}:
        return []
    if any(kept(producer.task_id, key) is not None for key in (RESULTS_KEY, LAST_WORDS_KEY)):
        return []
    sensors = [task for task in tasks.values() if getattr(task, "producer_task_id", None) == producer.task_id]
    own = {task.task_id: kept(task.task_id, RESULTS_KEY) for task in sensors}
    passed: dict[str, str] = {}
    for task in sensors:
        if states.get(task.task_id) == "success" and not own[task.task_id]:
            node = task.model_unique_id
            tests = producer.tests_per_model.get(node, []) if task.is_test_sensor else []
            passed |= dict.fromkeys(tests, "pass") if task.is_test_sensor else {node: "success"}
    # A test of several models has a task of each of them, and one of these may have run it.
    heard = {result["unique_id"] for process in own.values() if process for result in process["results"]}
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
        if unique_id not in heard
    ]


def _run(context: Any, task_id: str, release_id: str) -> dict[str, Any]:
    """What the rows share, as far as Airflow knows; the same at every call for one run."""
    ti, dag_run = context["ti"], context["dag_run"]
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{ti.dag_id}/{dag_run.run_id}/{task_id}")
    logical_date = dag_run.logical_date and dag_run.logical_date.astimezone(UTC).replace(tzinfo=None)
    return {
        "invocation_id": f"lost-{name}",
        "model_execution_date": f"{datetime.now(UTC):%Y-%m-%d}",
        "dbt_command": "build",
        "full_refresh": bool((context.get("params") or {}).get("full_refresh")),
        "target_name": "prod",
        "dbt_version": None,
        "release_id": release_id,
        "code_version": release_id.split("-", 1)[1] if "-" in release_id else None,
        "airflow_dag_id": ti.dag_id,
        "airflow_run_id": dag_run.run_id,
        "airflow_task_id": task_id,
        "airflow_try_number": "1",
        "airflow_logical_date": str(logical_date) if logical_date else None,
        "airflow_log_url": None,
    }
