"""Stand-ins of a test end after their test process, however it ends."""

import subprocess
import sys
from pathlib import Path

import psutil

from mwaa_local.processes import MARK, marked_processes
from mwaa_local.testing.orphans import end_orphans

# Starts a stand-in, as a test does, and waits.
TEST = """
import subprocess, sys, time
from pathlib import Path
from mwaa_local.testing.orphans import own_stand_ins

if sys.argv[2] == "owns":
    own_stand_ins(Path(sys.argv[1]))
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""


def killed_test(state: Path, owns: str) -> psutil.Process:
    """Kill a test, and return its stand-in. As long as the test runs, its stand-in stays."""
    environment = {"PATH": "", MARK: str(state)}
    command = [sys.executable, "-c", TEST, str(state), owns]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as test:
        assert test.stdout.readline() == b"started\n"
        end_orphans()
        assert test.poll() is None
        (stand_in,) = [process for process in marked_processes(state) if process.pid != test.pid]
        test.kill()
    return stand_in


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_stand_ins_of_a_killed_test_are_ended(tmp_path: Path) -> None:
    (tmp_path / "passwords.json").touch()
    stand_in = killed_test(tmp_path, "owns")
    assert not ended(stand_in)
    end_orphans()
    assert ended(stand_in)
    assert not (tmp_path / "passwords.json").exists()


def test_stand_ins_that_no_test_started_stay(tmp_path: Path) -> None:
    stand_in = killed_test(tmp_path, "does not own")
    try:
        end_orphans()
        assert not ended(stand_in)
    finally:
        stand_in.kill()
