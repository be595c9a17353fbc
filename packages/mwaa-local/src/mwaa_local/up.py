"""`make up` and `make down`: the stand-ins in the background, owned by one process that lives until told to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from mwaa_local.dag_run import DAG_ID
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
from mwaa_local.stack import DATABASE, Stack, clean
from mwaa_release.progress import Steps, console

SETUP_FAILED = 2
_START_SECONDS = 600.0
_STOP_SECONDS = 60.0


def running(settings: Settings) -> bool:
    """Whether `make up` keeps the stand-ins of this checkout running."""
    return _owner(settings) is not None


def check(settings: Settings) -> None:
    """Raise if the stand-ins that `make up` kept running have ended.

    Raises:
        SetupError: they have; the text is what their owner said last.
    """
    if not running(settings):
        log = _log(settings)
        why = _said(settings).get("ended") or f"{log} says:\n{tail(log)}"
        raise SetupError(f"the stand-ins of make up have ended: {why}")


def start(settings: Settings) -> int:
    """Start the background process, show its progress until everything is up, and print where it is.

    Returns:
        0, or the exit code of a background process that could not start everything; it has said why.
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
    """Address of the warehouse for a user."""
    return f"redshift://{user}:{password}@{HOST}:{settings.warehouse_port}/{DATABASE}"


def stop(settings: Settings) -> None:
    """Stop whatever of this checkout runs: a run in another terminal, the background process, what either left."""
    with console.status("Stopping ...") if console.is_terminal else Steps():
        # A drill that uses the stand-ins of `make up` puts them in order while they still run.
        holders = 0
        for lock in (RUN_LOCK, STACK_LOCK):
            if holder := lock_holder(settings.state / lock):
                end(holder, _STOP_SECONDS)
                holders += 1
        found = clean(settings)
    console.print("Stopped." if holders or found else "Nothing was running.")


def keep(settings: Settings) -> None:
    """Start the stand-ins with the DAG parsed, say so in stack.json, and keep them until SIGTERM.

    Raises:
        SetupError: something could not be started, or ended by itself.
    """
    stack = Stack(settings)
    try:
        stack.take_lock()
        with Steps() as steps:
            release_id = stack.start(steps)
            with steps.step(f"DAG {DAG_ID} from release {release_id}"), stack.airflow() as airflow:
                airflow.wait_for_dag(DAG_ID, release_id, 120)
                airflow.end_open_runs(DAG_ID)
        said = settings.state / "stack.json"
        said.write_text(json.dumps({"pid": os.getpid()}))
        try:
            while True:
                stack.check()
                time.sleep(1)
        except SetupError as error:
            # At once, for a run that uses the stand-ins: stopping what is left takes seconds.
            said.write_text(json.dumps({"pid": os.getpid(), "ended": str(error)}))
            raise
    finally:
        stack.stop()


def _start(settings: Settings) -> int:
    log = _log(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    mark_this_command(settings.state)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mwaa_local", "keep-running"],
            cwd=REPOSITORY,
            env=base_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _follow(settings, process)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _follow(settings: Settings, process: "subprocess.Popen[bytes]") -> int:
    """Print what the background process prints until it is up (0) or has ended (its exit code)."""
    log = _log(settings)
    until = time.monotonic() + _START_SECONDS
    with log.open(errors="replace") as said, console.status("Starting ...") if console.is_terminal else Steps():
        while True:
            # Looked at before the text is read, so that what was said last is read too.
            ready, code = running(settings), process.poll()
            console.print(said.read(), end="", markup=False, soft_wrap=True)
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
    said = _said(settings)
    return holder if holder and holder.pid == said.get("pid") and "ended" not in said else None


def _said(settings: Settings) -> dict[str, Any]:
    """What the background process has written about itself: its pid once all is up, and why it ends."""
    try:
        return json.loads((settings.state / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
