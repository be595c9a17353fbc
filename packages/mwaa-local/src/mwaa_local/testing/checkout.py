"""The commands that people type, on stand-ins of their own: own state folder and ports, only installs are shared."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from mwaa_local.processes import marked_processes
from mwaa_local.settings import REPOSITORY, Settings
from redshift_local.pytest_plugin import free_port

PORTS = ("LOCAL_WAREHOUSE_PORT", "LOCAL_AWS_PORT", "LOCAL_AIRFLOW_PORT")


@dataclass
class Checkout:
    """A repository and the state folder of its stand-ins."""

    repository: Path
    state: Path
    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        """Its paths and ports."""
        return Settings(self.state, *(int(self.environment[name]) for name in PORTS))

    def command(self, *arguments: str, seconds: float = 600, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m mwaa_local <arguments>` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mwaa_local", *arguments],
            cwd=self.repository,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def begin(self, *arguments: str, command: tuple[str, ...] = (sys.executable, "-m", "mwaa_local")) -> "Running":
        """Start the command as a shell does: in a process group of its own, which Ctrl-C in a terminal signals."""
        out = self.state / f"out.{time.monotonic_ns()}"
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=self.repository,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )
        return Running(process, out)

    def kill_postgres(self, folder: str) -> None:
        """Kill the server whose files are in `folder` of the state, as a crash does."""
        pid = (self.state / folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0]
        os.kill(int(pid), signal.SIGKILL)

    def on_a_terminal(self, *arguments: str, columns: int = 100) -> str:
        """What the command shows on a terminal, control sequences aside."""
        leader, follower = os.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "mwaa_local", *arguments],
            cwd=self.repository,
            env={**self.environment, "TERM": "xterm-256color"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        shown = b""
        # Linux says the end of a terminal as an error.
        with contextlib.suppress(OSError), os.fdopen(leader, "rb", buffering=0) as terminal:
            while chunk := terminal.read(65536):
                shown += chunk
        process.wait(60)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())

    def leftovers(self) -> list[str]:
        """What must not be there when nothing runs: processes, held ports, files with passwords, temporary files."""
        found = []
        for process in marked_processes(self.state):
            with contextlib.suppress(psutil.Error):
                found.append(f"process {process.pid}: {' '.join(process.cmdline())}")
        for process in psutil.process_iter():
            # A process that names itself anew can lose the mark; its files still tell.
            with contextlib.suppress(psutil.Error, OSError):
                if Path(process.cwd()).is_relative_to(self.state):
                    found.append(f"process {process.pid} in {process.cwd()}")
        for name in PORTS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", int(self.environment[name])))
                except OSError:
                    found.append(f"{name} is held")
        private = ("passwords.json", "stack.json", "mwaa/tmp", "release.partial")
        found += [name for name in private if (self.state / name).exists()]
        return found + [str(path) for path in Path(self.environment["TMPDIR"]).iterdir()]


@dataclass
class Running:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    out: Path

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self.out.with_suffix(".err").read_text()

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Wait until it has printed `text`."""
        self.wait_until(lambda: text in self.stdout, seconds)

    def wait_until(self, there: Callable[[], bool], seconds: float = 180) -> None:
        """Wait until `there()`, while the command runs."""
        until = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.stdout}\n{self.stderr}"
            assert time.monotonic() < until, f"not in time\n{self.stdout}\n{self.stderr}"
            time.sleep(0.05)

    def wait_for_handlers(self) -> None:
        """Wait until the command hears signals: before that it is Python that starts, and Python that answers."""
        status = Path(f"/proc/{self.process.pid}/status")
        sigterm = 1 << (signal.SIGTERM - 1)
        self.wait_until(lambda: int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & sigterm != 0)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Signal the whole process group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = 120) -> int:
        """Wait for its end, and return the exit code."""
        return self.process.wait(seconds)


def new_checkout(state: Path, repository: Path = REPOSITORY) -> Checkout:
    """Stand-ins of their own for `repository`: nothing runs yet, what is installed is shared with this checkout."""
    state.mkdir(parents=True, exist_ok=True)
    state = state.resolve()
    (REPOSITORY / ".local" / "venvs").mkdir(parents=True, exist_ok=True)
    (state / "mwaa").mkdir()
    (state / "venvs").symlink_to(REPOSITORY / ".local" / "venvs")
    (state / "mwaa" / "dbt_venv").symlink_to(_dbt_venv())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCAL_", "AWS_"))}
    ports = {name: str(free_port()) for name in PORTS}
    temporary = state.with_name(f"{state.name}.tmp")
    temporary.mkdir()
    own = {"LOCAL_DIR": str(state), "TMPDIR": str(temporary), "NO_COLOR": "1"}
    return Checkout(repository, state, {**kept, **own, **ports})


def _dbt_venv() -> Path:
    """The virtual environment that startup.sh makes, once for all tests."""
    home = REPOSITORY / ".local" / "tests"
    home.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PATH": path}
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["/bin/bash", "-c", "source startup.sh"], cwd=REPOSITORY, env=environment, check=True)
    assert not (home / "dbt_venv.error").exists(), (home / "dbt_venv.error").read_text()
    return home / "dbt_venv"


def copy_repository(target: Path) -> Path:
    """Copy what git tracks, or would, so that a test may spoil it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        # A file that was deleted and not yet committed is listed too.
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    return target


def the_message(text: str) -> str:
    """The one message in what a command said; fails if it said more, or showed a traceback."""
    assert "Traceback" not in text, text
    assert len(re.findall(r"^(?:Set-up failed|Error): ", text, re.MULTILINE)) == 1, text
    return text.strip()
