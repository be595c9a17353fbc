"""A stack whose components a test can break. A component that ends stays down until the test restarts it."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow, NoAnswerError
from mwaa_local.processes import marked_processes, spawn, stop
from mwaa_local.settings import Passwords
from mwaa_local.stack import Stack, connect, rows
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_local.testing.project import sample_project
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build
from mwaa_release.progress import Steps
from mwaa_release.release import Artifact
from mwaa_release.schedules import write_schedules

DAG = "flights_pipeline"
AUDIT, PRODUCER = "audit_dbt_task.audit_table_model_build", "transform_data.dbt_producer_watcher"
CHECK, ALERT = "dbt_check", "sns_notification_for_failure"
ENDED = {"success", "failed", "skipped", "upstream_failed"}
# Options with which Airflow sees in seconds that a task or a scheduler is lost; by default it waits five minutes. On
# a busy machine, it can wait a minute for the socket of a task's process that has ended, without heartbeats ("Process
# exited with open sockets", supervisor.py of Airflow 3.3.1). That wait must be shorter than the time without
# heartbeats.
SEES_LOSSES_SOON = {
    "scheduler.task_instance_heartbeat_timeout": 20,
    "scheduler.task_instance_heartbeat_timeout_detection_interval": 5,
    "scheduler.scheduler_health_check_threshold": 15,
    "scheduler.orphaned_tasks_check_interval": 10,
    "workers.socket_cleanup_timeout": 5,
}


def small_project(folder: Path, models: Mapping[str, str]) -> Path:
    """Create a project with only the audit trail and `models` (contents by path below the folder `models`)."""
    sample_project(folder)
    for name in ("models", "seeds", "snapshots"):
        shutil.rmtree(folder / name)
    for test in (folder / "tests").glob("*.sql"):
        test.unlink()
    for name, content in models.items():
        path = folder / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


class Scene(Stack):
    """The stand-ins, their DAG, and a client of Airflow.

    Args:
        checkout: the checkout in which they run.
        options: Airflow's configuration options in MWAA's form, `section.name`.
    """

    # Settings of the pipeline.
    settings_of_pipeline = "schedule: null"
    # Parameters of infra/environment.yml.
    parameters: Mapping[str, str] = MappingProxyType({})

    def __init__(self, checkout: Checkout, options: Mapping[str, object]) -> None:
        super().__init__(checkout.settings, self.parameters)
        self.checkout, self.options = checkout, options
        self.client: Airflow
        self._environments: dict[str, dict[str, str]] = {}

    def begin(self, project: Path) -> None:
        """Start all stand-ins with a project of `small_project`."""
        self.take_lock()
        release_id = self.start(Steps(), project)
        self.passwords = Passwords.load(self.settings.state)
        self.client = Airflow(self.settings.airflow_port, self.passwords.airflow_admin)
        self.client.wait_for_dag(DAG, release_id, 120)
        self._environments = {child.name: psutil.Process(child.process.pid).environ() for child in self.components}

    def release(self, steps: Steps, project: Path) -> str:
        """Release the project with short waits and the scene's settings, and return the release_id."""
        folder = self.settings.state / "artifact"
        wheels = self.parameters.get("PackageSource") == "wheels"
        build(folder, [project], wheels=wheels, cache=self.settings.parse_cache)
        pipelines = folder / "dags" / "pipelines.yml"
        text = pipelines.read_text().replace("retry_delay_seconds: 30", "retry_delay_seconds: 1")
        # There are no files to load.
        text = re.sub(r"^    load:.*\n(?:      .*\n)+", "", text, flags=re.MULTILINE)
        pipelines.write_text(text.replace(f"dag_name: {DAG}\n", f"dag_name: {DAG}\n    {self.settings_of_pipeline}\n"))
        write_schedules(pipelines.parent)
        with (folder / "startup.sh").open("a") as startup:
            for name, value in self.options.items():
                startup.write(f"export AIRFLOW__{name.replace('.', '__').upper()}={value}\n")
        applied = apply(Artifact.read(folder), Bucket(seed.DAGS_BUCKET, seed.client(self.settings, "s3")))
        return applied.releases["flights"]

    # --- components -----------------------------------------------------------------------------------------------

    @property
    def components(self) -> list[Any]:
        """Return Airflow's processes."""
        return self._mwaa.children

    def component(self, name: str) -> psutil.Process:
        """Return the process of a component, such as `scheduler`."""
        (child,) = [child for child in self.components if child.name == f"airflow {name}"]
        return psutil.Process(child.process.pid)

    def revive(self) -> None:
        """Restart the ended components of Airflow, as MWAA restarts its containers."""
        for number, child in enumerate(self.components):
            if child.process.poll() is not None:
                log = child.log.with_name(f"{child.name.split()[-1]}.{time.monotonic_ns()}.log")
                environment = self._environments[child.name]
                folder = Path(environment["TMPDIR"])
                self._mwaa.end_sessions(environment["PGAPPNAME"])
                self.components[number] = spawn(child.name, child.process.args, environment, log, folder)

    def source_startup(self) -> None:
        """Run startup.sh as a starting worker does."""
        self._mwaa.run_startup_script("hybrid")

    def stop_warehouse(self) -> None:
        """Stop the warehouse cleanly. `start_warehouse` starts it again."""
        stop([child for child in self.children if child.name == "warehouse"])

    def restart_metadata(self) -> None:
        """Restart Airflow's database after it was killed."""
        self._mwaa.stop_database()
        self._mwaa.start_database()

    def dbt_at_work(self, nodes: int) -> psutil.Process | None:
        """Return the producer's dbt process once it has finished this many nodes, or None."""
        for process in marked_processes(self.settings.state):
            with contextlib.suppress(psutil.Error, OSError):
                command = process.cmdline()
                log = Path(process.cwd(), "logs", "dbt.log")
                if {"build", "--exclude"} <= set(command) and log.read_text().count('"NodeFinished"') >= nodes:
                    return process
        return None

    # --- runs -----------------------------------------------------------------------------------------------------

    def ended(self, run_id: str, seconds: float = 300) -> str:
        """Return the final state of a run, and restart components of Airflow that end before it."""

        def final() -> str | None:
            self.revive()
            with contextlib.suppress(NoAnswerError):
                state = self.client.run_state(DAG, run_id)
                return state if state in FINAL else None
            return None

        return wait(final, seconds)

    def states(self, run_id: str) -> dict[str, str]:
        """Return the states of a run's tasks by task_id."""
        return {task["task_id"]: task["state"] for task in self.client.tasks(DAG, run_id)}

    def clear(self, run_id: str, *task_ids: str) -> str:
        """Clear the failed tasks, as the runbook says, or only the given tasks. Return the run's final state."""
        which = {"dry_run": False, "only_failed": True, "reset_dag_runs": True, "dag_run_id": run_id}
        if task_ids:
            which |= {"task_ids": task_ids}
        self.client.call("POST", f"/dags/{DAG}/clearTaskInstances", which)
        wait(lambda: self.client.run_state(DAG, run_id) not in FINAL, 60)
        return self.ended(run_id)

    def log(self, run_id: str, task_id: str) -> str:
        """Return the log of a task's last try from Airflow."""
        path = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/{task_id}"
        number = self.client.call("GET", path)["try_number"]
        return "\n".join(_texts(self.client.call("GET", f"{path}/logs/{number}", full_content="true")["content"]))

    def alerts(self) -> list[dict[str, str]]:
        """Return and delete the alerts that have arrived."""
        return seed.read_alerts(self.settings)

    def query(self, statement: str, user: str = "dbt_user") -> list[Any]:
        """Run a query, commit, and return its rows."""
        with contextlib.closing(connect(self.settings, user, getattr(self.passwords, user))) as connection:
            connection.autocommit = True
            return rows(connection, statement)[1]

    @contextlib.contextmanager
    def held_gate(self) -> Iterator[None]:
        """Block models that read the table landing.gate, until the context ends or the warehouse stops."""
        with contextlib.closing(connect(self.settings, "awsuser", self.passwords.awsuser)) as connection:
            connection.cursor().execute("lock landing.gate")
            yield
            with contextlib.suppress(Exception):
                connection.rollback()


def _texts(content: Any) -> Iterator[str]:
    """Return the texts of a structured log: messages, and errors with their frames."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from _texts(item)


def wait(condition: Callable[[], Any], seconds: float) -> Any:
    """Wait until `condition` returns a true value, and return that value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {seconds} s"
        time.sleep(0.5)
    return value


@contextlib.contextmanager
def running(
    folder: Path, models: Mapping[str, str], options: Mapping[str, object], kind: type[Scene] = Scene
) -> Iterator[Scene]:
    """Yield a scene in a new state folder, and stop it at the end."""
    before = dict(os.environ)
    checkout = new_checkout(folder / "state")
    # Use the environment of the checkout's commands.
    os.environ.update(checkout.environment | checkout.settings.aws_environment())
    scene = kind(checkout, options)
    try:
        scene.begin(small_project(folder / "project", models))
        yield scene
    finally:
        scene.stop()
        os.environ.clear()
        os.environ.update(before)
