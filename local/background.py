"""`make up` and `make down`: the stand-ins in the background, owned by one process that lives until told to stop."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil

from local.processes import base_environment, sweep, tail
from local.progress import Steps, console
from local.settings import HOST, REPOSITORY, Passwords, Settings, SetupError
from local.stack import DATABASE, Stack

_START_SECONDS = 600.0


def running(settings: Settings) -> bool:
    """Whether `make up` keeps the stand-ins of this checkout running."""
    return _owner(settings) is not None


def start(settings: Settings) -> None:
    """Start the background process, show its progress until everything is up, and print where it is.

    Raises:
        SetupError: it could not be started; the text is the background process's own.
    """
    if not running(settings):
        log = settings.state / "logs" / "up.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "local", "keep-running"],
                cwd=REPOSITORY,
                env=base_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _follow(settings, process)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    passwords = Passwords.load(settings.state)
    console.print(f"Airflow:   http://{HOST}:{settings.airflow_port}  user admin, password {passwords.airflow_admin}")
    console.print(f"AWS:       AWS_ENDPOINT_URL={settings.aws_url}")
    for user in ("dbt_user", "awsuser"):
        console.print(f"Warehouse: {dsn(settings, user, getattr(passwords, user))}")
    console.print("Run the pipeline: make run. Stop everything: make down.")


def dsn(settings: Settings, user: str, password: str) -> str:
    """Address of the warehouse for a user."""
    return f"redshift://{user}:{password}@{HOST}:{settings.warehouse_port}/{DATABASE}"


def stop(settings: Settings) -> None:
    """Stop the background process and whatever else of this checkout runs."""
    owner = _owner(settings)
    with console.status("Stopping ...") if console.is_terminal else Steps():
        if owner:
            owner.terminate()
            try:
                owner.wait(60)
            except psutil.TimeoutExpired:
                owner.kill()
        found = sweep(settings.state)
    for name in ("stack.json", "passwords.json"):
        (settings.state / name).unlink(missing_ok=True)
    console.print("Stopped." if owner or found else "Nothing was running.")


def keep(settings: Settings) -> None:
    """Start the stand-ins, say so in stack.json, and keep them until SIGTERM.

    Raises:
        SetupError: something could not be started, or ended by itself.
    """
    stack = Stack(settings)
    stack.take_lock()
    try:
        with Steps() as steps:
            stack.start(steps)
        (settings.state / "stack.json").write_text(json.dumps({"pid": os.getpid()}))
        while True:
            stack.check()
            time.sleep(1)
    finally:
        stack.stop()


def _follow(settings: Settings, process: "subprocess.Popen[bytes]") -> None:
    """Print what the background process prints, until it is up."""
    log = settings.state / "logs" / "up.log"
    shown = 0
    until = time.monotonic() + _START_SECONDS
    while not running(settings):
        text = log.read_text(errors="replace")
        console.print(text[shown:], end="", markup=False)
        shown = len(text)
        if process.poll() is not None:
            raise SetupError(f"the stand-ins did not start; {log} says:\n{tail(log)}")
        if time.monotonic() > until:
            raise SetupError(f"the stand-ins were not up after {_START_SECONDS:.0f} s; see {log}")
        time.sleep(0.2)
    console.print(log.read_text(errors="replace")[shown:], end="", markup=False)


def _owner(settings: Settings) -> psutil.Process | None:
    try:
        process = psutil.Process(json.loads((settings.state / "stack.json").read_text())["pid"])
        return process if "keep-running" in process.cmdline() else None
    except (FileNotFoundError, ValueError, KeyError, psutil.Error):
        return None
