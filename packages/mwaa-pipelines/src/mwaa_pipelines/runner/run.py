"""Runs one job: release, login, dbt, results."""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import yaml

from mwaa_pipelines.freshness import push_freshness
from mwaa_pipelines.login import Login, iam_profile
from mwaa_pipelines.node_ids import state_arguments
from mwaa_pipelines.node_outcomes import NodeOutcomes
from mwaa_pipelines.reporting import LOG
from mwaa_pipelines.results import push_results
from mwaa_pipelines.runner.connection import Connection, read_connection
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.outcome import Outcome, out_of_memory
from mwaa_pipelines.runner.parsed import ParsedProject
from mwaa_pipelines.runner.process import DbtProcess
from mwaa_pipelines.runner.release_files import fetch_release
from mwaa_pipelines.unwritten_rows import KEPT_RESULTS, store_unwritten_results

_TARGET = "prod"
# dbt hides the values of variables with this beginning in its log.
_PASSWORD = "DBT_ENV_SECRET_REDSHIFT_PASSWORD"  # noqa: S105 - the name of a variable

log = logging.getLogger(__name__)


@dataclass
class Runner:
    """Runs a job.

    Args:
        job: what to do.
        push: takes an XCom of the task: key and value.
        say: takes a line of output.
        folder: an empty folder for the project, the profile and dbt's files.
    """

    job: Job
    push: Callable[[str, Any], None]
    say: Callable[[str], None]
    folder: Path
    dbt: DbtProcess = field(default_factory=DbtProcess)
    _secrets: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """End dbt as Ctrl-C does. Can be called from a signal handler."""
        self.dbt.stop()

    def run(self) -> Outcome:
        """Run dbt, push the outcome of each node, and store results that dbt could not write to the audit table.

        Raises:
            PipelineError: dbt could not start; the message says why.
        """
        job, project = self.job, self.folder / "project"
        s3_client = boto3.client("s3")
        archive = f"{job.parsed}.zip" if job.parsed else ""
        release_id = fetch_release(s3_client, job.projects, job.project_name, job.release_id, project, archive)
        parsed = ParsedProject(s3_client, job.parsed, project)
        parsed.load()
        profiles, login_variables = self._log_in()
        context = self._context()
        outcomes = NodeOutcomes(job.watched_together or {})
        outcomes.log_file = project / LOG

        def read_line(line: str) -> None:
            if job.watched_together is not None:
                outcomes.read(line, context["ti"])
            parsed.read(line)
            self.say(self._masked(_text(line)))

        command = [
            *(*_dbt(), *job.command, *state_arguments(self.folder / "state", job.selected_ids)),
            *("--project-dir", str(project)),
            *("--profiles-dir", str(profiles), "--profile", job.project_name, "--target", _TARGET),
        ]
        environment = {
            **os.environ,
            # For people who read the log. The job's own variables win.
            "DBT_USE_COLORS": "false",
            # For NodeOutcomes and ParsedProject, which look for events.
            "DBT_LOG_FORMAT": "json",
            **job.environment,
            "DBT_RELEASE_ID": release_id,
            **login_variables,
        }
        exit_code = self.dbt.run(command, environment, project, read_line)
        # Results are stored first, because the container may be killed soon.
        os.environ[KEPT_RESULTS] = job.kept_results
        store_unwritten_results(str(project), context)
        push = push_results if job.freshness_is_required is None else push_freshness
        push(str(project), context)
        return self._outcome(exit_code)

    def _log_in(self) -> tuple[Path, dict[str, str]]:
        """Write profiles.yml, and return its folder and the variables with the password."""
        job, folder = self.job, self.folder / "profiles"
        folder.mkdir(mode=0o700)
        connection = read_connection(boto3.client("secretsmanager"), job.connection_secret, job.conn_id)
        login = Login(job.conn_id, job.secret_name, job.secret_env, self._hide, self.folder / "warehouse_roles")
        login.complete(connection)
        variables = login.variables(connection.extra_dejson)
        if connection.extra_dejson.get("iam"):
            profile = iam_profile(connection, job.profile_args)
        else:
            profile = _password_profile(connection, job.profile_args)
            self._hide(str(connection.password))
            variables[_PASSWORD] = str(connection.password)
        content = {job.project_name: {"target": _TARGET, "outputs": {_TARGET: profile}}}
        (folder / "profiles.yml").write_text(yaml.safe_dump(content))
        return folder, variables

    def _context(self) -> dict[str, Any]:
        """Return what the callbacks of dbt need of Airflow's task context."""
        job = self.job
        ti = SimpleNamespace(dag_id=job.dag_id, run_id=job.run_id, task_id=job.task_id, try_number=job.try_number)
        ti.xcom_push = lambda key, value: self.push(key, json.loads(json.dumps(value)))
        task = SimpleNamespace(is_required=job.freshness_is_required)
        if job.watched_together is not None:
            task.watched_together = job.watched_together
        return {"ti": ti, "task": task}

    def _outcome(self, exit_code: int) -> Outcome:
        # Linux counts in KiB, macOS in bytes.
        unit = 1024**2 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit
        limit = f" of {self.job.memory}" if self.job.memory else ""
        self.say(f"dbt ended with exit code {exit_code}. Its largest process used {peak}{limit} MiB of memory")
        if self.dbt.was_stopped and exit_code:
            return Outcome(
                exit_code if exit_code >= 0 else 128 - exit_code,
                "dbt was stopped before it had built everything. Its results so far were kept",
            )
        if exit_code == -signal.SIGKILL:
            return Outcome(128 - exit_code, out_of_memory(self.job.memory))
        if exit_code < 0:
            return Outcome(128 - exit_code, f"dbt was ended by signal {-exit_code}")
        return Outcome(exit_code)

    def _hide(self, secret: str) -> None:
        # A short text would hide parts of words.
        if len(secret) >= 4:
            self._secrets.append(secret)

    def _masked(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


def _dbt() -> list[str]:
    """Return the command of dbt. A folder with packages, unlike a virtual environment, has no script."""
    script = Path(sys.executable).with_name("dbt")
    if script.is_file() and not sys.flags.no_site:
        return [str(script)]
    program = "import sys; from dbt.cli.main import cli; sys.exit(cli())"
    return [sys.executable, *(["-S"] if sys.flags.no_site else []), "-c", program]


def _password_profile(connection: Connection, profile_args: dict[str, Any]) -> dict[str, Any]:
    """Return the dbt profile of a connection with login and password, as Cosmos does for tasks of Airflow."""
    profile = {
        "type": "redshift",
        "host": connection.host,
        "port": connection.port or 5439,
        "user": connection.login,
        "dbname": connection.schema,
        **{key: connection.extra_dejson.get(key) for key in ("timeout", "sslmode", "region")},
        **profile_args,
        "password": f"{{{{ env_var('{_PASSWORD}') }}}}",
    }
    return {key: value for key, value in profile.items() if value is not None}


def _text(line: str) -> str:
    """Return time and message of a line of dbt's JSON output; other lines as they are."""
    try:
        info = json.loads(line)["info"]
        return f"{info['ts'][11:19]}  {info['msg']}"
    except (ValueError, LookupError, TypeError):
        return line
