"""Ctrl-C ends `make lint` at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mwaa_local.settings import REPOSITORY

LINTERS = ("python", "sqlfluff", "cfn-lint", "zizmor", "yamllint", "shellcheck", "ruff")
# It ignores Ctrl-C, as a linter does that cleans up first.
LINTER = """#!/bin/sh
trap '' INT
touch "$0.started"
exec sleep 60
"""
# Signals that a background shell ignores stop it, too.
LINT = """
import pathlib, signal, sys
from workbench.lint import lint
signal.signal(signal.SIGINT, signal.default_int_handler)
lint(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.timeout(40)
def test_ctrl_c_stops_running_linters_and_starts_no_others(tmp_path: Path) -> None:
    for name in LINTERS:
        (tmp_path / name).write_text(LINTER)
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, "-c", LINT, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
    ) as process:
        cores = min(os.cpu_count() or 1, len(LINTERS))
        while len(list(tmp_path.glob("*.started"))) < cores:
            assert process.poll() is None
            time.sleep(0.05)
        interrupted = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate()
    assert time.monotonic() - interrupted < 3
    assert "KeyboardInterrupt" in error.decode()
    assert len(list(tmp_path.glob("*.started"))) == cores
