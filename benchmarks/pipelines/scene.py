"""Starts a separate stack on free ports with all measured DAGs, and measures their runs."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.pipelines.dag_files import write_dag_files
from benchmarks.pipelines.projects import PASSWORD, Size, write_project
from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow
from mwaa_local.processes import base_environment, mark_this_command
from mwaa_local.settings import HOST, Passwords, Settings, SetupError
from mwaa_local.stack import Stack, connect, rows
from mwaa_pipelines.task_ids import AUDIT_GROUP, PRODUCER_TASK
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build
from mwaa_release.progress import Steps
from mwaa_release.redshift import apply_grants
from mwaa_release.release import Artifact

_USER = "bench_user"
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
        with contextlib.closing(connect(self.settings, _USER, self._password)) as connection:
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


@contextlib.contextmanager
def staged(projects_and_modes: list[tuple[Size, list[str]]]) -> Iterator[Scene]:
    """Start a stack, release the projects, and wait for their DAGs. The end of the context removes everything.

    Args:
        projects_and_modes: the projects, each with the alternatives (`watcher`, `local`) to measure.

    Raises:
        SetupError, DeployError: a stand-in did not start, or a project does not parse.
    """
    checkout = Settings.from_environment()
    settings = _settings(checkout)
    before = dict(os.environ)
    # The stand-ins read each other's addresses from the environment.
    os.environ.update(_environment(settings))
    stack = Stack(settings)
    try:
        stack.take_lock()
        projects = settings.state / "projects"
        folders = {
            size.name: write_project(projects / size.name, size, settings.warehouse_port, _USER)
            for size, _ in projects_and_modes
        }
        # Steps are not entered, because the benchmark shows its own progress.
        stack.start(Steps(), folders[projects_and_modes[0][0].name])
        password = f"Aa1{secrets.token_hex(16)}"
        _create_logins(settings, [size for size, _ in projects_and_modes], password)
        _release(settings, projects_and_modes, folders)
        with stack.airflow() as airflow:
            scene = Scene(settings, airflow, folders, password)
            scene.wait_for_dags(_dag_ids(projects_and_modes))
            yield scene
    finally:
        stack.stop()
        shutil.rmtree(settings.state, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)
        mark_this_command(checkout.state)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def _settings(checkout: Settings) -> Settings:
    state = checkout.state / "bench-pipelines"
    shutil.rmtree(state, ignore_errors=True)
    (state / "mwaa").mkdir(parents=True)
    (state / "venvs").symlink_to(checkout.state / "venvs")
    # startup.sh always installs the same packages, which takes a minute.
    installed = checkout.state / "mwaa" / "dbt_venv"
    if (installed / ".ready").exists():
        (state / "mwaa" / "dbt_venv").symlink_to(installed)
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
        return Settings(state, *(probe.getsockname()[1] for probe in probes))


def _environment(settings: Settings) -> dict[str, str]:
    ports = {"WAREHOUSE": settings.warehouse_port, "AWS": settings.aws_port, "AIRFLOW": settings.airflow_port}
    named = {f"LOCAL_{name}_PORT": str(port) for name, port in ports.items()}
    return {**settings.aws_environment(), **named, "LOCAL_DIR": str(settings.state)}


def _dag_ids(projects_and_modes: list[tuple[Size, list[str]]]) -> list[str]:
    return [
        name for size, modes in projects_and_modes for name in (size.name, *(f"{size.name}_{mode}" for mode in modes))
    ]


def _create_logins(settings: Settings, sizes: list[Size], password: str) -> None:
    """Create the database user, and the connections and secrets of all DAGs."""
    admin = Passwords.load(settings.state).awsuser
    with contextlib.closing(connect(settings, "awsuser", admin)) as connection:
        for size in sizes:
            apply_grants(connection, _USER, password, "landing", size.schema)
    manager = seed.client(settings, "secretsmanager")
    seed.let_tasks_read(settings, "*/login")
    address = {"conn_type": "redshift", "host": HOST, "port": settings.warehouse_port, "schema": "dev"}
    address |= {"extra": {"sslmode": "disable"}}
    for size in sizes:
        login = {"login": _USER, "password": password}
        for name, value in (
            (f"{size.name}/login", {"username": _USER, "password": password}),
            (f"airflow/connections/{size.name}", address),
            (f"airflow/connections/{size.name}_plain", {**address, **login}),
        ):
            manager.create_secret(Name=name, SecretString=json.dumps(value))


def _release(settings: Settings, projects_and_modes: list[tuple[Size, list[str]]], folders: dict[str, Path]) -> None:
    folder = settings.state / "artifact"
    build(folder, list(folders.values()))
    write_dag_files(folder / "dags", projects_and_modes, folders)
    apply(Artifact.read(folder), Bucket(seed.DAGS_BUCKET, seed.client(settings, "s3")))
