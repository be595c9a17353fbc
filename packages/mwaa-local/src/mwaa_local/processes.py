"""Starts and stops the processes of the stand-ins, so that none is left, whatever ended the command."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from mwaa_local.settings import SetupError

# Every process that a command starts, and all that they start, carries this variable: the state folder of its checkout.
# Airflow's tasks put dbt into sessions of their own, so process groups alone would not find them.
MARK = "LOCAL_STAND_IN_OF"
# Lock files in the state folder: of the command that owns the stand-ins, and of the one that runs the pipeline.
STACK_LOCK = "lock"
RUN_LOCK = "run.lock"
_GRACE_SECONDS = 10.0


@dataclass
class Child:
    """A running process of ours."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise if the process has ended.

        Raises:
            SetupError: it has; the text ends with the last lines of its log.
        """
        if self.process.poll() is not None:
            raise SetupError(how_it_ended(self.name, self.process.returncode, self.log))


def how_it_ended(name: str, exit_code: int, log: Path) -> str:
    """Say that a process has ended by itself, and why as far as its log says so."""
    end = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    said = tail(log)
    return f"{name} {end}; {log} says:\n{said}" if said else f"{name} {end}; its log, {log}, says nothing"


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, indented."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def mark_this_command(state: Path) -> None:
    """Make every process that this command starts from here on carry the mark."""
    os.environ[MARK] = str(state)


def base_environment() -> dict[str, str]:
    """The caller's environment without what could lead a stand-in elsewhere: AWS, Airflow, dbt and Python settings."""
    prefixes = ("AWS_", "AIRFLOW", "DBT_", "PYTHON", "REDSHIFT_", "MAKE", "VIRTUAL_ENV", "MWAA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    # Airflow names its processes anew, which by default writes over the environment that the mark is read from.
    # https://github.com/dvarrazzo/py-setproctitle
    return {**kept, "PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}


def take_lock(path: Path, refusal: str) -> IO[str]:
    """Hold the lock file `path`, with our pid in it, until the returned file is closed or this process is gone.

    Raises:
        SetupError: another process holds it; the text is `refusal`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    # Who only looks at the lock holds it for a moment.
    for wait in (0.1, 0.2, 0.4, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if wait is None:
                file.close()
                raise SetupError(refusal) from None
            time.sleep(wait)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def lock_holder(path: Path) -> psutil.Process | None:
    """Return the process that holds the lock file `path`, or None."""
    if not path.exists():
        return None
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            with contextlib.suppress(ValueError, psutil.Error):
                return psutil.Process(int(file.read()))
    return None


def end(process: psutil.Process, seconds: float) -> None:
    """Ask a process to end, and kill it if it has not after `seconds`."""
    with contextlib.suppress(psutil.Error):
        process.terminate()
        if _still_running([process], seconds):
            process.kill()
            _still_running([process], _GRACE_SECONDS)


def spawn(name: str, command: list[str], environment: dict[str, str], log: Path, cwd: Path | None = None) -> Child:
    """Start a process in a session of its own (Ctrl-C reaches only the command, which stops its children in order)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


def wait_for_line(child: Child, text: str, seconds: float) -> None:
    """Wait until the child's log holds `text`.

    Raises:
        SetupError: the child ended, or did not say so in time.
    """
    until = time.monotonic() + seconds
    while text not in child.log.read_text(errors="replace"):
        child.check()
        if time.monotonic() > until:
            raise SetupError(f"{child.name} was not ready after {seconds:.0f} s; {child.log} says:\n{tail(child.log)}")
        time.sleep(0.05)


def stop(children: list[Child]) -> None:
    """Stop processes and their groups in reverse order of their start; one that does not end in time is killed."""
    for child in reversed(children):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGTERM)
    until = time.monotonic() + _GRACE_SECONDS
    for child in reversed(children):
        try:
            child.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def sweep(state: Path) -> int:
    """Stop whatever carries the mark of `state`, whoever started it, but for this process and those above it.

    Returns:
        How many processes were found.
    """
    count = 0
    # What is being stopped may start something yet.
    for _ in range(5):
        left = marked_processes(state)
        if not left:
            break
        count += len(left)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        killed = _still_running(left, _GRACE_SECONDS)
        for process in killed:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _still_running(killed, _GRACE_SECONDS)
    return count


def _still_running(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes that are not our children have ended; return those that have not in time."""
    until = time.monotonic() + seconds
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    # In a container nobody may be there to collect what has ended.
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def marked_processes(state: Path) -> list[psutil.Process]:
    """Return the processes that carry the mark of `state`, but for this process and those above it."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in spared and process.environ().get(MARK) == str(state):
                found.append(process)
    return found
