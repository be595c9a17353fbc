"""Runs commands on separate stand-ins with their own ports and state folder, but shared virtual environments."""

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

from mwaa_local.processes import MARK, marked_processes
from mwaa_local.settings import HOST, REPOSITORY, Passwords, Settings
from mwaa_local.testing.orphans import own_stand_ins
from mwaa_local.testing.state import STATE
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
        """The paths and ports of the stand-ins."""
        return Settings(self.state, *(int(self.environment[name]) for name in PORTS))

    def command(self, *arguments: str, seconds: float = 600, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m mwaa_local <arguments>` and wait for its end."""
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
        """Start the command in a new process group, as a shell does, so that Ctrl-C signals the whole group."""
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
        """Kill the PostgreSQL server whose files are in this folder of the state folder, as in a crash."""
        pid = (self.state / folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0]
        os.kill(int(pid), signal.SIGKILL)

    def on_a_terminal(self, *arguments: str, columns: int = 100) -> str:
        """Return the output of the command on a terminal, without control sequences."""
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
        output = b""
        # Linux reports the end of a terminal as an error.
        with contextlib.suppress(OSError), os.fdopen(leader, "rb", buffering=0) as terminal:
            while chunk := terminal.read(65536):
                output += chunk
        process.wait(60)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())

    def leftovers(self) -> list[str]:
        """Return leftovers of a stopped stand-in: processes, ports in use, files with passwords, temporary files."""
        leftovers = []
        for process in marked_processes(self.state):
            with contextlib.suppress(psutil.Error):
                leftovers.append(f"process {process.pid}: {' '.join(process.cmdline())}")
        for process in psutil.process_iter():
            # A process that renames itself can lose the mark, but not its working directory.
            with contextlib.suppress(psutil.Error, OSError):
                if Path(process.cwd()).is_relative_to(self.state):
                    leftovers.append(f"process {process.pid} in {process.cwd()}")
        for name in PORTS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", int(self.environment[name])))
                except OSError:
                    leftovers.append(f"{name} is in use")
        private = ("passwords.json", "stack.json", "mwaa/tmp", "release.partial")
        leftovers += [name for name in private if (self.state / name).exists()]
        return leftovers + [str(path) for path in Path(self.environment["TMPDIR"]).iterdir()]

    def exposed(self) -> list[str]:
        """Return what other users of this machine can reach: open ports, and passwords in command lines and files."""
        passwords = [password.encode() for password in vars(Passwords.load(self.state)).values()]
        exposed = []
        for process in marked_processes(self.state):
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                exposed += [f"password in the command line {command}" for text in passwords if text in command.encode()]
                for connection in process.net_connections():
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != HOST:
                        exposed.append(f"{command} listens on {connection.laddr.ip}:{connection.laddr.port}")
        for folder, folders, files in os.walk(self.state):
            folders[:] = [name for name in folders if Path(folder, name).stat().st_mode & 0o011]
            for path in (Path(folder, name) for name in files):
                if path.is_file() and path.stat().st_mode & 0o044:
                    content = path.read_bytes()
                    exposed += [f"password in {path}" for text in passwords if text in content]
        return exposed


@dataclass
class Running:
    """A running command."""

    process: subprocess.Popen[bytes]
    out: Path

    @property
    def stdout(self) -> str:
        """The output so far."""
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        """The error output so far."""
        return self.out.with_suffix(".err").read_text()

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Wait until the command has printed `text`."""
        self.wait_until(lambda: text in self.stdout, seconds)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 180) -> None:
        """Wait until `condition()` is true. Fail if the command ends first."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.stdout}\n{self.stderr}"
            assert time.monotonic() < deadline, f"not in time\n{self.stdout}\n{self.stderr}"
            time.sleep(0.05)

    def wait_for_handlers(self) -> None:
        """Wait until the command has installed its signal handlers."""
        status = Path(f"/proc/{self.process.pid}/status")
        sigterm = 1 << (signal.SIGTERM - 1)
        self.wait_until(lambda: int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & sigterm != 0)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Signal the whole process group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = 120) -> int:
        """Wait until the command has ended, and return the exit code that a shell shows.

        Python ends itself with SIGINT if Ctrl-C interrupts `exec`, which dataclasses use.
        """
        code = self.process.wait(seconds)
        return code if code >= 0 else 128 - code


def new_checkout(state: Path, repository: Path = REPOSITORY) -> Checkout:
    """Return separate stand-ins for `repository`. Starts nothing.

    They share this checkout's virtual environments and, with the stand-ins of other tests, what takes long to compute.
    """
    state.mkdir(parents=True, exist_ok=True)
    state = state.resolve()
    own_stand_ins(state)
    (STATE / "venvs").mkdir(parents=True, exist_ok=True)
    (state / "mwaa").mkdir()
    (state / "venvs").symlink_to(STATE / "venvs")
    (state / "mwaa" / "dbt_venv").symlink_to(_dbt_venv(state))
    for name in ("sample-data", "parsed"):
        shared = STATE / "tests" / name
        shared.mkdir(exist_ok=True)
        (state / name).symlink_to(shared)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOCAL_", "AWS_"))}
    ports = {name: str(free_port()) for name in PORTS}
    temporary = state.with_name(f"{state.name}.tmp")
    temporary.mkdir()
    own = {"LOCAL_DIR": str(state), "TMPDIR": str(temporary), "NO_COLOR": "1"}
    return Checkout(repository, state, {**inherited, **own, **ports})


def _dbt_venv(state: Path) -> Path:
    """Return the virtual environment of startup.sh, which all tests share.

    If the tests are stopped while it is installed, its processes end as those of the stand-ins of `state` do.
    """
    home = STATE / "tests"
    home.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PATH": path, MARK: str(state)}
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["/bin/bash", "-c", "source startup.sh"], cwd=REPOSITORY, env=environment, check=True)
    assert not (home / "dbt_venv.error").exists(), (home / "dbt_venv.error").read_text()
    return home / "dbt_venv"


def copy_repository(target: Path) -> Path:
    """Copy the tracked and untracked files of the repository, for tests that change them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        # git also lists deleted files until the deletion is committed.
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    return target


def error_message(text: str) -> str:
    """Return the output of a failed command. Fail unless it is one message without a traceback."""
    assert "Traceback" not in text, text
    assert len(re.findall(r"^(?:Set-up failed|Error): ", text, re.MULTILINE)) == 1, text
    return text.strip()
