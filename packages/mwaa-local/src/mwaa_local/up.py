"""`make up` and `make down`: one background process owns the stand-ins until it gets a signal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from mwaa_local.processes import (
    RUN_LOCK,
    STACK_LOCK,
    base_environment,
    end,
    lock_holder,
    mark_this_command,
    tail,
)
from mwaa_local.settings import HOST, REPOSITORY, Passwords, Settings, SetupError
from mwaa_local.signals import deferred
from mwaa_local.stack import DATABASE, Stack, clean
from mwaa_release.manifest import DEPS_VARIABLES
from mwaa_release.pipelines import all_pipelines
from mwaa_release.progress import Steps, console, errors

SETUP_FAILED = 2
_START_SECONDS = 600.0
_STOP_SECONDS = 60.0


def running(settings: Settings) -> bool:
    """Whether `make up` keeps the stand-ins of this checkout running."""
    return _owner(settings) is not None


def check(settings: Settings) -> None:
    """Raise if the stand-ins of `make up` have ended.

    Raises:
        SetupError: the stand-ins have ended; the text is the last message of the background process.
    """
    if not running(settings):
        log = _log(settings)
        why = _status(settings).get("ended") or f"{log} ends with:\n{tail(log)}"
        raise SetupError(f"the stand-ins of make up have ended: {why}")


def start(settings: Settings) -> int:
    """Start the background process, show its progress, and print the addresses of the stand-ins.

    Returns:
        0, or the exit code of the background process, which has printed its error.
    """
    if running(settings):
        console.print("Already running.")
    elif code := _start(settings):
        return code
    passwords = Passwords.load(settings.state)
    console.print(f"Airflow:   http://{HOST}:{settings.airflow_port}  user admin, password {passwords.airflow_admin}")
    console.print(f"AWS:       AWS_ENDPOINT_URL={settings.aws_url}")
    for user in ("dbt_user", "awsuser"):
        console.print(f"Warehouse: {dsn(settings, user, getattr(passwords, user))}")
    console.print("Run the pipeline: make run. Stop everything: make down.")
    return 0


def dsn(settings: Settings, user: str, password: str) -> str:
    """Return the address of the warehouse for a user."""
    return f"redshift://{user}:{password}@{HOST}:{settings.warehouse_port}/{DATABASE}"


def stop(settings: Settings) -> None:
    """Stop a run in another terminal, the background process, and everything that both have left behind."""
    with console.status("Stopping ...") if console.is_terminal else Steps():
        # Stop a drill first, because it restores the stand-ins of `make up`.
        holders = 0
        for lock in (RUN_LOCK, STACK_LOCK):
            if holder := lock_holder(settings.state / lock):
                end(holder, _STOP_SECONDS)
                holders += 1
        stopped = clean(settings)
    console.print("Stopped." if holders or stopped else "Nothing was running.")


def keep(settings: Settings) -> None:
    """Start the stand-ins, write stack.json when the DAG is parsed, and keep running until SIGTERM.

    Raises:
        SetupError: a stand-in could not start, or has ended.
    """
    stack = Stack(settings)
    try:
        stack.take_lock()
        with Steps() as steps:
            releases = stack.start(steps, load=True)
            for pipeline in all_pipelines():
                if release_id := releases.get(pipeline.project_name):
                    dag_id = pipeline.dag_name
                    with steps.step(f"DAG {dag_id} from release {release_id}"), stack.airflow() as airflow:
                        airflow.wait_for_dag(dag_id, release_id, 120)
                        airflow.end_open_runs(dag_id)
        status = settings.state / "stack.json"
        status.write_text(json.dumps({"pid": os.getpid()}))
        try:
            while True:
                stack.check()
                time.sleep(1)
        except SetupError as error:
            # Before the clean-up, which takes seconds, so that a run that uses the stand-ins fails at once. The
            # clean-up removes the file, and a run that looks later reads the log.
            status.write_text(json.dumps({"pid": os.getpid(), "ended": str(error)}))
            errors.print(f"Set-up failed: {error}", style="red", markup=False)
            raise SystemExit(SETUP_FAILED) from None
    finally:
        stack.stop()


def _start(settings: Settings) -> int:
    log = _log(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    mark_this_command(settings.state)
    # The process builds releases, too.
    for_packages = {name: value for name, value in os.environ.items() if name.startswith(DEPS_VARIABLES)}
    process = None
    try:
        with log.open("wb") as output, deferred():
            process = subprocess.Popen(
                [sys.executable, "-m", "mwaa_local", "keep-running"],
                cwd=REPOSITORY,
                env=base_environment() | for_packages,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _follow(settings, process)
    except BaseException:
        if process:
            process.send_signal(signal.SIGTERM)
            process.wait()
        raise


def _follow(settings: Settings, process: "subprocess.Popen[bytes]") -> int:
    """Print the output of the background process. Return 0 when it is up, or its exit code when it has ended."""
    log = _log(settings)
    until = time.monotonic() + _START_SECONDS
    with log.open(errors="replace") as output, console.status("Starting ...") if console.is_terminal else Steps():
        while True:
            # Before reading the log, so that its last lines are printed too.
            ready, code = running(settings), process.poll()
            console.print(output.read(), end="", markup=False, soft_wrap=True)
            if ready:
                return 0
            if code is not None:
                return code if code > 0 else SETUP_FAILED
            if time.monotonic() > until:
                raise SetupError(f"the stand-ins were not up after {_START_SECONDS:.0f} s; see {log}")
            time.sleep(0.2)


def _log(settings: Settings) -> Path:
    return settings.state / "logs" / "up.log"


def _owner(settings: Settings) -> psutil.Process | None:
    holder = lock_holder(settings.state / STACK_LOCK)
    status = _status(settings)
    return holder if holder and holder.pid == status.get("pid") and "ended" not in status else None


def _status(settings: Settings) -> dict[str, Any]:
    """Return the content of stack.json: the pid once everything is up, and the reason why the process ends."""
    try:
        return json.loads((settings.state / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
