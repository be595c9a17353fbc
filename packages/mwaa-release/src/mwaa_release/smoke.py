"""Run a pipeline once on an MWAA environment with the applied release, and report the result."""

import secrets
import time
from datetime import UTC, datetime
from typing import Any

from mwaa_release.airflow_api import AirflowApi, stores_release
from mwaa_release.errors import DeployError
from mwaa_release.progress import Progress, no_progress

# MWAA copies the bucket every 30 seconds, and Airflow parses a DAG file again within minutes.
PARSED_SECONDS = 900.0
# Of the whole smoke test. The credentials of a GitHub job expire after an hour.
TOTAL_SECONDS = 3300.0


def smoke(
    mwaa: Any,
    environment: str,
    dag_id: str,
    release_id: str,
    progress: Progress = no_progress,
    poll_seconds: float = 10.0,
    parsed_seconds: float = PARSED_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
) -> str:
    """Wait until the DAG is parsed from a release, run it, and wait for the end. A paused DAG is unpaused.

    A failure in dbt fails the run, because the pipeline's dbt_check reads the results in the audit table.

    Args:
        mwaa: boto3 client.
        environment: the MWAA environment.
        dag_id: the pipeline.
        release_id: the release that must run.
        progress: receives the current state.
        poll_seconds: interval between requests.
        parsed_seconds: how long to wait for the release.
        total_seconds: how long to wait for the release and the run together.

    Returns:
        The run's id, which is the audit rows' `airflow_run_id`.

    Raises:
        SetupError: the environment does not exist.
        DeployError: the release did not arrive, or the run failed; the message names the failed tasks.
    """
    deadline = time.monotonic() + total_seconds
    airflow = AirflowApi(mwaa, environment)
    dag = _wait_for_release(airflow, dag_id, release_id, progress, poll_seconds, parsed_seconds)
    # Short, because MWAA limits the length of API paths.
    run_id = f"smoke-{secrets.token_hex(4)}"
    started = time.monotonic()
    # An unpaused DAG first starts the run that is due. This run replaces it, so it does not wait.
    due = dag.get("next_dagrun_logical_date") if dag["is_paused"] else None
    due = due if due and datetime.fromisoformat(due) <= datetime.now(UTC) else None
    airflow.call("POST", f"/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": due})
    if dag["is_paused"]:
        airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
    while True:
        run = airflow.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        state = run["state"] if run else "gone"
        if state == "success":
            return run_id
        elapsed = time.monotonic() - started
        if state not in ("queued", "running"):
            raise DeployError(f"{dag_id} on {environment}: run {run_id} is {state}{_failed(airflow, dag_id, run_id)}")
        if time.monotonic() > deadline:
            raise DeployError(
                f"{dag_id} on {environment}: run {run_id} is still {state} after {elapsed / 60:.0f} minutes; "
                "an earlier run may block it. Check it in Airflow"
            )
        progress(f"run {run_id} of {dag_id}: {state}", int(elapsed), int(total_seconds))
        time.sleep(poll_seconds)


def _wait_for_release(
    airflow: AirflowApi, dag_id: str, release_id: str, progress: Progress, poll_seconds: float, parsed_seconds: float
) -> dict[str, Any]:
    started = time.monotonic()
    while True:
        dag = airflow.call("GET", f"/dags/{dag_id}/details")
        tags = [tag["name"] for tag in dag["tags"]] if dag else []
        if dag and stores_release(dag, release_id):
            return dag
        elapsed = time.monotonic() - started
        if elapsed > parsed_seconds:
            displayed = f"the tags {', '.join(tags)}" if dag else "no such DAG"
            raise DeployError(
                f"{dag_id} on {airflow.environment} does not run {release_id} after {elapsed / 60:.0f} minutes; "
                f"Airflow shows {displayed}{_import_errors(airflow)}"
            )
        progress(f"waiting until Airflow has parsed {dag_id} from {release_id}", int(elapsed), int(parsed_seconds))
        time.sleep(poll_seconds)


def _import_errors(airflow: AirflowApi) -> str:
    errors = (airflow.call("GET", "/importErrors") or {}).get("import_errors", [])
    return "".join(f"\n  {error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors)


def _failed(airflow: AirflowApi, dag_id: str, run_id: str) -> str:
    filters = {"dag_ids": [dag_id], "dag_run_ids": [run_id], "state": ["failed"]}
    answer = airflow.call("POST", "/dags/~/dagRuns/~/taskInstances/list", filters)
    tasks = sorted(task["task_id"] for task in (answer or {}).get("task_instances", []))
    return f"; failed: {', '.join(tasks)}. Their logs, and the audit table, say why" if tasks else ""
