"""Processes that run programs of the account, such as a container. Their output goes to a log stream."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from moto.backends import get_backend

from mwaa_local.processes import MARK, record_session
from mwaa_local.settings import ACCOUNT_ID, REGION, Settings


def start_process(
    settings: Settings, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
) -> "subprocess.Popen[str]":
    """Start a process in a session of its own. Read its output with `logged_lines`.

    Args:
        settings: with the addresses of the stand-in.
        command: program and arguments.
        environment: its variables, without those that the addresses and the folder need.
        folder: is created; its working directory, its home and its folder for temporary files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        **settings.aws_environment(),
        **environment,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        **({MARK: os.environ[MARK]} if MARK in os.environ else {}),
    }
    process = subprocess.Popen(
        command,
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    record_session(process.pid, variables)
    return process


def logged_lines(process: "subprocess.Popen[str]", log_group: str, stream: str) -> Iterator[str]:
    """Yield each line of a process's output after it was written to a log stream.

    It ends when the process has closed its output. Without the log group, the process goes on, and nothing is written.
    """
    logs = get_backend("logs")[ACCOUNT_ID][REGION]
    for line in process.stdout or ():
        event = {"timestamp": int(time.time() * 1000), "message": line.rstrip("\n") or " "}
        with contextlib.suppress(Exception):
            logs.put_log_events(log_group, stream, [event])
        yield line
