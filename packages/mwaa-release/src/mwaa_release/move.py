"""Move a pipeline from one MWAA environment to another, for a blue/green upgrade. The DAG is never on in both."""

import time
from typing import Any

from mwaa_release.airflow_api import AirflowApi
from mwaa_release.errors import DeployError, SetupError, StoppedError
from mwaa_release.progress import Progress, no_progress

# Temporary credentials often expire after an hour, and switching back needs them.
DRAIN_SECONDS = 2700.0


def move(
    mwaa: Any,
    dag_id: str,
    source: str,
    target: str,
    progress: Progress = no_progress,
    poll_seconds: float = 10.0,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Wait until the DAG has no unfinished run in `source`, switch it off there, and switch it on in `target`.

    The DAG stays on until its runs end, because Airflow starts no further tasks of a paused DAG: its run would stay
    unfinished, without check and alert. After an error or Ctrl-C the DAG is on in `source` again.

    Args:
        mwaa: boto3 client.
        dag_id: the pipeline.
        source: the MWAA environment in which it is on.
        target: the MWAA environment in which it is off.
        progress: receives the unfinished runs.
        poll_seconds: interval between requests.
        drain_seconds: how long to wait for the runs.

    Raises:
        SetupError: an environment or the DAG does not exist, or the DAG is not on in exactly `source`.
        DeployError: a run does not end, or AWS or Airflow refused a request. The message says where the DAG is on.
        StoppedError: Ctrl-C. The message says where the DAG is on.
    """
    blue, green = AirflowApi(mwaa, source), AirflowApi(mwaa, target)
    _check(dag_id, blue, green)
    paused = False
    try:
        deadline = time.monotonic() + drain_seconds
        while True:
            _wait_for_runs(blue, dag_id, progress, poll_seconds, deadline, drain_seconds)
            paused = True
            _switch(blue, dag_id, on=False)
            # A run can start between the last look and the pause.
            if not _unfinished_runs(blue, dag_id):
                break
            _switch(blue, dag_id, on=True)
            paused = False
        progress(f"switching {dag_id} on in {target}", 1, 1)
        _switch(green, dag_id, on=True)
    except BaseException as error:
        state = _restore(blue, green, dag_id) if paused else f"{dag_id} is still on in {source}; nothing changed"
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(f"interrupted; {state}") from None
        if isinstance(error, DeployError):
            raise type(error)(f"{error}; {state}") from error
        raise


def _check(dag_id: str, blue: AirflowApi, green: AirflowApi) -> None:
    source, target = blue.environment, green.environment
    if source == target:
        raise SetupError(f"--from and --to are both {source}; choose two environments")
    details = {}
    for airflow in (blue, green):
        details[airflow.environment] = airflow.call("GET", f"/dags/{dag_id}/details")
        if details[airflow.environment] is None:
            raise SetupError(
                f"{airflow.environment} has no DAG {dag_id}; check its name, and release to that environment first"
            )
    on = [name for name in (source, target) if not details[name]["is_paused"]]
    if on != [source]:
        where = " and ".join(on) or "neither environment"
        advice = {
            (source, target): f"Switch it off in {target}, wait for its run, then move it",
            (target,): "It has been moved already",
            (): f"Switch it on in {source} or {target} in Airflow's UI",
        }[tuple(on)]
        raise SetupError(f"{dag_id} is on in {where}, and must be on only in {source} (--from). {advice}")
    if details[target]["catchup"]:
        raise SetupError(
            f"{dag_id} has catchup on: {target} knows no earlier run and would start one for each scheduled time since "
            "start_date. Set catchup to false in dags/pipelines.yml and release to both environments"
        )


def _wait_for_runs(
    airflow: AirflowApi, dag_id: str, progress: Progress, poll_seconds: float, deadline: float, limit: float
) -> None:
    while runs := _unfinished_runs(airflow, dag_id):
        left = deadline - time.monotonic()
        if left < 0:
            raise DeployError(
                f"{dag_id} on {airflow.environment}: {_names(runs)} did not end within {limit / 60:.0f} minutes; "
                "move it later, or wait longer (--timeout)"
            )
        progress(f"waiting for {_names(runs)} of {dag_id} on {airflow.environment}", int(limit - left), int(limit))
        time.sleep(poll_seconds)


def _unfinished_runs(airflow: AirflowApi, dag_id: str) -> list[str]:
    filters = {"dag_ids": [dag_id], "states": ["queued", "running"]}
    answer = airflow.call("POST", "/dags/~/dagRuns/list", filters)
    return sorted(run["dag_run_id"] for run in (answer or {}).get("dag_runs", []))


def _names(run_ids: list[str]) -> str:
    return f"run {run_ids[0]}" + (f" and {len(run_ids) - 1} more" if run_ids[1:] else "")


def _switch(airflow: AirflowApi, dag_id: str, *, on: bool) -> None:
    if airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": not on}) is None:
        raise DeployError(f"{airflow.environment} has no DAG {dag_id} any more")


def _restore(blue: AirflowApi, green: AirflowApi, dag_id: str) -> str:
    """Make the DAG run in the source only, and return where it is on."""
    try:
        # A request without an answer can have switched it on.
        _switch(green, dag_id, on=False)
        _switch(blue, dag_id, on=True)
    except DeployError as error:
        return (
            f"switching back failed too ({error}). Look at {dag_id} in both environments: it must be on in "
            f"{blue.environment} and off in {green.environment}"
        )
    return f"{dag_id} is on in {blue.environment} again, and off in {green.environment}"
