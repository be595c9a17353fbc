"""Measures runs of a stack to which the projects are released. stage.py starts it."""

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.pipelines.projects import PASSWORD, Size
from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow
from mwaa_local.processes import base_environment
from mwaa_local.settings import Settings, SetupError
from mwaa_local.stack import connect, rows
from mwaa_pipelines.task_ids import AUDIT_GROUP, PRODUCER_TASK, TRANSFORM_GROUP
from mwaa_release.serverless.run import failure, run_workflow
from mwaa_release.serverless.workflows import Workflows

USER = "bench_user"
_POLL_SECONDS = 1.0
_PARSED_SECONDS = 180
_RUN_SECONDS = 1800


@dataclass(frozen=True)
class RunTimes:
    """Seconds from the start of a run to the end of its parts.

    Attributes:
        run: the end of the run.
        models: the end of the last model.
        audit: the end of the audit group; 0 without an audit group.
        first: the start of the first model; 0 if unknown.
        dbt: the end of the dbt process that builds all models; 0 without such a process.
    """

    run: float
    models: float
    audit: float = 0.0
    first: float = 0.0
    dbt: float = 0.0


class Scene:
    """Running stand-ins to which the projects are released.

    Args:
        settings: the settings of the stand-ins.
        airflow: a client of Airflow.
        folders: the projects by name.
        password: the password of the database user of all pipelines.
    """

    def __init__(self, settings: Settings, airflow: Airflow, folders: dict[str, Path], password: str) -> None:
        self.settings = settings
        self._airflow = airflow
        self._folders = folders
        self._password = password

    def bare(self, size: Size) -> RunTimes:
        """Measure `dbt build` of the whole project. Like a release on a worker, its target folder stays."""
        outputs = self.settings.state / "bare" / size.name
        environment = {**base_environment(), PASSWORD: self._password, "PATH": os.environ["PATH"]}
        environment |= {"DBT_TARGET_PATH": str(outputs / "target"), "DBT_LOG_PATH": str(outputs / "logs")}
        folder = self._folders[size.name]
        dbt = self.settings.state / "mwaa" / "dbt_venv" / "bin" / "dbt"
        start = datetime.now(UTC)
        completed = subprocess.run(
            [dbt, "build", "--profiles-dir", folder],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        taken = _seconds(start, datetime.now(UTC))
        if completed.returncode:
            raise SetupError(f"dbt build of {size.name} failed:\n{completed.stdout[-2000:]}")
        results = json.loads((outputs / "target" / "run_results.json").read_text())["results"]
        ended = max(
            step["completed_at"]
            for result in results
            if result["unique_id"].startswith("model.")
            for step in result["timing"]
        )
        return RunTimes(taken, _seconds(start, datetime.fromisoformat(ended)))

    def seconds_to_alert(self, size: Size) -> float:
        """Measure a run that fails: seconds from the end of its last node, which is a retry, to its alert.

        Raises:
            SetupError: the run did not fail, or sent no alert.
        """
        seed.read_alerts(self.settings)
        _, run_id, _ = self._run(size.name, "failed")
        last = self._models(size, run_id)[1]
        alerts = seed.read_alerts(self.settings)
        if len(alerts) != 1:
            raise SetupError(f"the run {run_id} of {size.name} sent {len(alerts)} alerts")
        return _seconds(last, datetime.fromisoformat(alerts[0]["sent_at"]))

    def dag(self, dag_id: str, size: Size) -> RunTimes:
        """Measure a run of a DAG, from the request that triggers it to the end that Airflow records.

        Raises:
            SetupError: the run failed or did not end.
        """
        start, run_id, tasks = self._run(dag_id, "success")
        end = datetime.fromisoformat(self._airflow.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["end_date"])

        def ended(task_id: str) -> float:
            return _seconds(start, datetime.fromisoformat(tasks[task_id]["end_date"])) if task_id in tasks else 0.0

        if "dbt_build" in tasks:
            return RunTimes(_seconds(start, end), 0.0)
        first, last = self._models(size, run_id)
        return RunTimes(
            run=_seconds(start, end),
            models=_seconds(start, last),
            audit=ended(f"{AUDIT_GROUP}.audit_table_model_build"),
            first=_seconds(start, first),
            dbt=ended(PRODUCER_TASK),
        )

    def workflow(self, size: Size) -> RunTimes:
        """Measure a run of a workflow, from the request that starts it to the end of its last task.

        Raises:
            SetupError, DeployError: the run failed or did not end.
        """
        serverless = seed.client(self.settings, "mwaa-serverless")
        start = datetime.now(UTC)
        run = run_workflow(serverless, find_workflows(self.settings), size.name, poll_seconds=_POLL_SECONDS)
        if not run.succeeded:
            raise SetupError(f"{failure(size.name, run)}; logs are in {self.settings.state}/logs/workflows")
        return workflow_times(start, run.tasks, *self._models(size, run.airflow_run_id))

    def _run(self, dag_id: str, expected: str) -> tuple[datetime, str, dict[str, Any]]:
        """Run a DAG, and return the time of the request, the run's id, and its tasks by task_id."""
        start = datetime.now(UTC)
        run = self._airflow.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None})
        path = f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}"
        deadline = time.monotonic() + _RUN_SECONDS
        while run["state"] not in FINAL:
            if time.monotonic() > deadline:
                raise SetupError(f"the run of {dag_id} did not end in {_RUN_SECONDS} s")
            time.sleep(_POLL_SECONDS)
            run = self._airflow.call("GET", path)
        tasks = {task["task_id"]: task for task in self._airflow.tasks(dag_id, run["dag_run_id"])}
        if run["state"] != expected:
            states = {task_id: task["state"] for task_id, task in tasks.items()}
            raise SetupError(
                f"the run of {dag_id} ended as {run['state']}: {states}; logs are in {self.settings.state}/mwaa/logs"
            )
        return start, run["dag_run_id"], tasks

    def _models(self, size: Size, run_id: str) -> tuple[datetime, datetime]:
        """Return the start of a run's first model and the end of its last model."""
        query = (
            f"select min(started_at), max(completed_at) from {size.schema}.audit_table "  # noqa: S608 - the name is fixed
            "where airflow_run_id = %s and resource_type = 'model' and name <> 'audit_table'"
        )
        with contextlib.closing(connect(self.settings, USER, self._password)) as connection:
            ((first, last),) = rows(connection, query, (run_id,))[1]
        return first.replace(tzinfo=UTC), last.replace(tzinfo=UTC)

    def wait_for_dags(self, dag_ids: list[str]) -> None:
        """Wait until all DAGs are parsed, and unpause them. They have no schedule.

        Raises:
            SetupError: a DAG was not parsed in time. The message contains Airflow's import errors.
        """
        deadline = time.monotonic() + _PARSED_SECONDS
        for dag_id in dag_ids:
            while True:
                try:
                    self._airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
                    break
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != httpx.codes.NOT_FOUND or time.monotonic() > deadline:
                        problems = self._airflow.call("GET", "/importErrors")["import_errors"]
                        raise SetupError(f"Airflow does not show the DAG {dag_id}: {problems}") from error
                    time.sleep(1)


def find_workflows(settings: Settings) -> Workflows:
    """Return the workflows of the stand-in."""
    return Workflows(*(seed.client(settings, name) for name in ("mwaa-serverless", "ssm")), seed.DAGS_BUCKET)


def workflow_times(start: datetime, tasks: list[dict[str, Any]], first: datetime, last: datetime) -> RunTimes:
    """Return the times of a run of a workflow.

    Args:
        start: the request that started the run.
        tasks: as GetTaskInstance returns them.
        first: the start of the first model.
        last: the end of the last model.
    """
    ends = {task["TaskId"]: _seconds(start, task["EndedAt"]) for task in tasks if "EndedAt" in task}
    return RunTimes(
        run=max(ends.values()),
        models=_seconds(start, last),
        audit=ends.get(AUDIT_GROUP, 0.0),
        first=_seconds(start, first),
        dbt=max(end for task_id, end in ends.items() if task_id.startswith(TRANSFORM_GROUP)),
    )


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
