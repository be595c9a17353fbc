"""Runs dbt as a process that can be stopped without losing its results."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# After a signal, dbt cancels its queries and writes its results. ECS kills the container after `stopTimeout`, which is
# at most 120 seconds on Fargate.
STOP_SECONDS = 90.0


class DbtProcess:
    """One dbt process, in a session of its own. `stop` can be called from a signal handler, at any time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.was_stopped = False

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, on_line: Callable[[str], None]
    ) -> int:
        """Run a command and return its exit code, which is negative if a signal ended it.

        Args:
            command: program and arguments.
            environment: all of its variables.
            folder: its working directory.
            on_line: called with each line of its output.
        """
        if self.was_stopped:
            return -signal.SIGINT
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )
        if self.was_stopped:
            # The signal came before the process was known.
            self._signal(signal.SIGINT)
        assert self._process.stdout is not None  # noqa: S101 - for mypy
        for line in self._process.stdout:
            on_line(line.rstrip("\n"))
        return self._process.wait()

    def stop(self) -> None:
        """Let dbt cancel its queries and write its results. Kill it if that takes longer than 90 seconds."""
        self.was_stopped = True
        if self._process:
            self._signal(signal.SIGINT)
            timer = threading.Timer(STOP_SECONDS, self._signal, (signal.SIGKILL,))
            timer.daemon = True
            timer.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
