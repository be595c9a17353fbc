"""Starts and stops the processes of the stand-ins without leftovers, even after a command was killed."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from mwaa_local.settings import SetupError

# Every descendant of a command inherits this variable with the state folder of its checkout. Process groups are not
# enough, because Airflow's tasks start dbt in new sessions.
MARK = "LOCAL_STAND_IN_OF"
# Lock files in the state folder: for the command that owns the stand-ins, and for the one that runs the pipeline.
STACK_LOCK = "lock"
RUN_LOCK = "run.lock"
# File in the state folder with the sessions whose processes can hide the mark: a line of id and start time for each.
_SESSIONS = "sessions"
_GRACE_SECONDS = 10.0


@dataclass
class Child:
    """A process that this package has started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise if the process has ended.

        Raises:
            SetupError: the process has ended; the text shows the end of its log.
        """
        if self.process.poll() is not None:
            raise SetupError(how_it_ended(self.name, self.process.returncode, self.log))


def how_it_ended(name: str, exit_code: int, log: Path) -> str:
    """Return a message about a process that has ended, with the end of its log."""
    end = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    text = tail(log)
    return f"{name} {end}; {log} ends with:\n{text}" if text else f"{name} {end}; its log {log} is empty"


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, indented."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def mark_this_command(state: Path) -> None:
    """Mark all processes that this command starts from now on."""
    os.environ[MARK] = str(state)


def base_environment() -> dict[str, str]:
    """Return this process's environment without variables that could mislead a stand-in: AWS, Airflow, dbt, Python."""
    prefixes = ("AWS_", "AIRFLOW", "DBT_", "PYTHON", "REDSHIFT_", "MAKE", "VIRTUAL_ENV", "MWAA_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    # Airflow renames its processes, which by default overwrites the environment with the mark.
    # https://github.com/dvarrazzo/py-setproctitle
    return {**environment, "PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}


def take_lock(path: Path, message: str) -> IO[str]:
    """Lock the file `path`, and write this process's id into it. Closing the returned file unlocks it.

    Raises:
        SetupError: another process has the lock; the text is `message`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    # lock_holder takes the lock for a moment.
    for wait in (0.1, 0.2, 0.4, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if wait is None:
                file.close()
                raise SetupError(message) from None
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
    """Start a process in a new session, so that Ctrl-C reaches only the command, which stops its children in order."""
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
    record_session(process.pid, environment)
    return Child(name, process, log)


def record_session(session: int, environment: Mapping[str, str]) -> None:
    """Record a session that has just started, so that its processes are found even if they hide their environment.

    Airflow's supervisor makes workers and tasks non-dumpable. Only root can read the environment of such a process.
    Their session is readable. (`_make_process_nondumpable` in Airflow 3.3.1)

    Args:
        session: the process id of its leader.
        environment: of the leader. Without the mark of a state folder, nothing is recorded.
    """
    if state := environment.get(MARK):
        Path(state).mkdir(parents=True, exist_ok=True)
        with Path(state, _SESSIONS).open("a") as file:
            file.write(f"{session} {time.time()}\n")


def wait_for_line(child: Child, text: str, seconds: float) -> None:
    """Wait until the child's log holds `text`.

    Raises:
        SetupError: the child ended, or its log did not hold the text in time.
    """
    until = time.monotonic() + seconds
    while text not in child.log.read_text(errors="replace"):
        child.check()
        if time.monotonic() > until:
            raise SetupError(
                f"{child.name} was not ready after {seconds:.0f} s; {child.log} ends with:\n{tail(child.log)}"
            )
        time.sleep(0.05)


def stop(children: list[Child], seconds: float | None = None) -> None:
    """Stop processes and their groups, the last one first. Kill those that have not ended after `seconds`."""
    for child in reversed(children):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGTERM)
    until = time.monotonic() + (_GRACE_SECONDS if seconds is None else seconds)
    for child in reversed(children):
        try:
            child.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def sweep(*states: Path, seconds: float = _GRACE_SECONDS) -> int:
    """Stop all processes with the mark of one of the state folders, except this process and its ancestors.

    Args:
        states: the state folders.
        seconds: the time to end that the processes have before they are killed.

    Returns:
        The number of stopped processes.
    """
    count = 0
    # A process can start another one before it ends.
    for _ in range(5):
        left = marked_processes(*states)
        if not left:
            break
        count += len(left)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        killed = _still_running(left, seconds)
        for process in killed:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _still_running(killed, _GRACE_SECONDS)
    else:
        return count
    for state in states:
        (state / _SESSIONS).unlink(missing_ok=True)
    return count


def _still_running(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, and return those that have not ended in time."""
    until = time.monotonic() + seconds
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    # In a container, an ended process can stay a zombie.
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def marked_processes(*states: Path) -> list[psutil.Process]:
    """Return the processes with the mark of one of the state folders, except this process and its ancestors.

    The environment of a process can be unreadable. Such a process is returned if its session was recorded.
    """
    marks = {str(state) for state in states}
    sessions = {session for state in states for session in _recorded_sessions(state)}
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    marked = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            try:
                is_marked = process.environ().get(MARK) in marks
            except (psutil.AccessDenied, PermissionError):
                is_marked = os.getsid(process.pid) in sessions and _runs(process)
            if is_marked:
                marked.append(process)
    return marked


def _recorded_sessions(state: Path) -> Iterator[int]:
    """Yield the ids of the recorded sessions. The system can have given the id of one that ended to a new process."""
    path = state / _SESSIONS
    for line in path.read_text().splitlines() if path.exists() else ():
        # A full disk can have cut the last line off.
        with contextlib.suppress(ValueError):
            session, started = line.split()
            if psutil.boot_time() < float(started) and not _is_younger(int(session), float(started)):
                yield int(session)


def _is_younger(pid: int, started: float) -> bool:
    # The clock of process times has steps of a hundredth of a second.
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time() > started + 1
    return False
