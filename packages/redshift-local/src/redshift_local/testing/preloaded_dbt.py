"""Runs dbt for tests: each command in a process of its own, which need not import dbt first.

The imports take two of the four seconds of a short command. A server process of multiprocessing does them once, and
each command runs in a new fork of it. It needs dbt-redshift, which this package does not require.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["dbt.cli.main", "dbt.adapters.redshift"])


def run_preloaded_dbt(
    *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 600
) -> "subprocess.CompletedProcess[str]":
    """Run one dbt command, and return its exit code and output.

    Args:
        arguments: the command and its options.
        cwd: working directory.
        env: all environment variables.
        timeout: seconds.

    Raises:
        subprocess.TimeoutExpired: dbt took longer, and was killed with the programs that it started.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        process = _context.Process(target=_run, args=(arguments, str(cwd), dict(env), output.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["dbt", *arguments], timeout)
        return subprocess.CompletedProcess(["dbt", *arguments], process.exitcode, output.read())


def _run(arguments: Sequence[str], cwd: str, env: Mapping[str, str], output: str) -> None:
    from dbt.cli.main import cli

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    with open(output, "ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["dbt", "--no-use-colors", *arguments]
    cli()
