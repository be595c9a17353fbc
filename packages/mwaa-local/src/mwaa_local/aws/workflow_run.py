"""A run of a workflow: the definition on an Airflow with its own database, in one process with the workflow's role."""

import contextlib
import io
import os
import shutil
import sqlite3
import subprocess
import threading
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml
from moto.backends import get_backend

from mwaa_local.aws.logged_process import logged_lines, start_process
from mwaa_local.serverless import PROGRAM, airflow_folder
from mwaa_local.settings import ACCOUNT_ID, REGION, Settings

ENDED = ("SUCCESS", "FAILED", "TIMEOUT", "STOPPED")
_STATES = {"success": "SUCCESS", "failed": "FAILED"}
_NO_STATE = {None: "NONE", "skipped": "NONE"}
# dbt gets a minute and a half after a signal, and its results a quarter of a minute; a task of ECS two and a half.
_STOP_SECONDS = 160.0


class Run:
    """A run. `start` starts its process.

    Args:
        folder: of the run; is created.
        settings: with the state folder, which contains the service's Airflow.
        dag_id: the name of the DAG, instead of that in the definition.
        definition: the YAML.
        code: the zip that the worker unpacks; None: none.
        environment: variables of the workflow, and the credentials of its role.
        log_group: for the output of the tasks; empty: none.
        version: of the workflow.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        dag_id: str,
        definition: bytes,
        code: bytes | None,
        environment: dict[str, str],
        log_group: str,
        version: str,
    ) -> None:
        self._folder, self._settings, self._dag_id = folder, settings, dag_id
        self._definition, self._code, self._environment = definition, code, environment
        self._log_group, self.version = log_group, version
        self.state, self.error, self.started, self.ended = "STARTING", "", time.time(), 0.0
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process, which runs all tasks of the definition."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """End the run as StopWorkflowRun does: its tasks get SIGTERM."""
        with self._lock:
            if self.state in ENDED:
                return
            self._is_stopped, self.state = True, "STOPPING"
        if self._process:
            self._process.terminate()
            threading.Thread(target=self._kill_when_idle, daemon=True).start()

    def kill(self) -> None:
        """Kill the processes of the run."""
        self._is_stopped = True
        if self._process and self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for process in [psutil.Process(self._process.pid), *self._children()]:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
            self._process.wait()

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks as GetTaskInstance shows them."""
        columns = "task_id, state, try_number, start_date, end_date, operator"
        tasks = []
        for task_id, state, tries, started, ended, operator in self._query(f"select {columns} from task_instance"):  # noqa: S608
            start, end = _timestamp(started), _timestamp(ended)
            task = {
                "TaskInstanceId": f"ex_{task_id}",
                "TaskId": task_id,
                "Status": _NO_STATE.get(state, str(state).upper()),
                "AttemptNumber": tries,
                "OperatorName": operator,
                "WorkflowVersion": self.version,
            }
            task |= {"StartedAt": start} if start else {}
            task |= {"EndedAt": end, "DurationInSeconds": int(end - start)} if start and end else {}
            tasks.append(task)
        return tasks

    def xcoms(self, task_id: str) -> dict[str, str]:
        """Return the XComs of a task as text."""
        return dict(self._query("select key, value from xcom where task_id = ?", task_id))

    def _run(self) -> None:
        try:
            self._unpack()
            with self._lock:
                if self._is_stopped:
                    self.state, self.ended = "STOPPED", time.time()
                    return
                self._process = self._spawn()
                self.state = "RUNNING"
            self._copy_output(self._process)
            self._process.wait()
            # The code of a run has 140 MB.
            shutil.rmtree(self._folder / "dags", ignore_errors=True)
            self._end(self._process.returncode)
        except Exception as error:  # noqa: BLE001 - the run shows it
            self.state, self.error, self.ended = "FAILED", f"{type(error).__name__}: {error}", time.time()

    def _end(self, exit_code: int) -> None:
        states = self._query("select state from dag_run")
        state = _STATES.get(states[0][0] if states else "", "FAILED")
        with self._lock:
            self.ended = time.time()
            if self._is_stopped:
                self.state = "STOPPED"
                return
            self.state = state
            if state != "SUCCESS":
                self.error = "Workflow execution failed" if states else f"exit code {exit_code}: {self._last_line}"

    def _unpack(self) -> None:
        dags = self._folder / "dags"
        dags.mkdir(parents=True)
        (dag,) = yaml.safe_load(self._definition).values()
        definition = yaml.safe_dump({self._dag_id: dag}, sort_keys=False)
        (self._folder / "definition.yaml").write_text(definition, encoding="utf-8")
        if self._code:
            with zipfile.ZipFile(io.BytesIO(self._code)) as archive:
                archive.extractall(dags)
        shutil.copyfile(airflow_folder(self._settings.state) / "airflow.db", self._folder / "airflow.db")

    def _spawn(self) -> "subprocess.Popen[str]":
        python = airflow_folder(self._settings.state) / "bin" / "python"
        environment = {
            **self._environment,
            "PATH": os.defpath,
            "PYTHONPATH": str(self._folder / "dags"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(self._folder),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._folder / 'airflow.db'}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "SPT_NOENV": "1",
        }
        command = [python, "-P", PROGRAM, self._folder / "definition.yaml"]
        return start_process(self._settings, command, environment, self._folder / "tmp")

    def _copy_output(self, process: "subprocess.Popen[str]") -> None:
        """Copy the output to a log stream and to a file in the state folder, until the process has closed it."""
        path = self._settings.state / "logs" / "workflows" / f"{self._dag_id}-{self._folder.name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        stream, self._last_line = f"workflow_id={self._dag_id}/run_id={self._folder.name}", ""
        with contextlib.suppress(Exception):
            get_backend("logs")[ACCOUNT_ID][REGION].create_log_stream(self._log_group, stream)
        with path.open("w", encoding="utf-8") as file:
            for line in logged_lines(process, self._log_group, stream):
                file.write(line)
                file.flush()
                self._last_line = line.strip() or self._last_line

    def _kill_when_idle(self) -> None:
        """Kill the process when dbt has ended, here or in ECS, so that no further task runs."""
        deadline, stopped = time.monotonic() + _STOP_SECONDS, self._running()
        with contextlib.suppress(psutil.Error):
            while time.monotonic() < deadline and (self._children() or stopped & self._running()):
                time.sleep(0.1)
        self.kill()

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)  # type: ignore[union-attr]

    def _running(self) -> set[str]:
        return {task_id for (task_id,) in self._query("select task_id from task_instance where state = 'running'")}

    def _query(self, query: str, *values: Any) -> list[Any]:
        """Read from Airflow's database. Before it is there, there is nothing to read."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self._folder / 'airflow.db'}?mode=ro", uri=True)
            ) as database:
                return database.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []


def _timestamp(text: str | None) -> float | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else None
