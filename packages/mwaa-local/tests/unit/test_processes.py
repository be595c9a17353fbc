"""Starting, finding and stopping processes, including orphans and processes that ignore SIGTERM."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mwaa_local import processes
from mwaa_local.processes import MARK, Child, base_environment, lock_holder, marked_processes, spawn, sweep, take_lock
from mwaa_local.settings import SetupError

# Starts a process that ignores SIGTERM in a new session, then exits and orphans it.
ORPHAN = """
import subprocess, sys
resists = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", resists], start_new_session=True)
"""
# Starts a process that hides its environment, as Airflow's supervisor does (PR_SET_DUMPABLE is 4). Then waits and ends.
HIDES = """
import ctypes, os, signal, sys, time
if os.fork() == 0:
    assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setpgid(0, 0)
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(float(sys.argv[1]))
"""
# Sweeps without root's capabilities to read the environment of all processes: PR_CAPBSET_DROP (24) of CAP_SYS_PTRACE,
# CAP_SYS_ADMIN and CAP_PERFMON.
SWEEPS_AS_USER = """
import ctypes, os, sys
for capability in (19, 21, 38):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
code = "from mwaa_local.processes import sweep, Path; import sys; print(sweep(Path(sys.argv[1]), seconds=1))"
os.execv(sys.executable, [sys.executable, "-c", code, sys.argv[1]])
"""


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(MARK, str(tmp_path))
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 1.0)
    yield tmp_path
    for process in marked_processes(tmp_path):
        process.kill()


def _wait(child: Child, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in child.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sweep_kills_orphans_that_ignore_sigterm(marked: Path) -> None:
    child = spawn("orphan", [sys.executable, "-c", ORPHAN], base_environment(), marked / "log")
    _wait(child, "up")
    assert child.process.wait(20) == 0
    (orphan,) = marked_processes(marked)
    assert sweep(marked, seconds=1) == 1
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert sweep(marked) == 0


def _hidden_process(state: Path, leader_seconds: int) -> tuple[psutil.Process, Child]:
    """Return a process that hides its environment, and the leader of its session."""
    leader = spawn("leader", [sys.executable, "-c", HIDES, str(leader_seconds)], base_environment(), state / "log")
    _wait(leader, "\n")
    hidden = psutil.Process(int(leader.log.read_text()))
    assert os.getsid(hidden.pid) == leader.process.pid
    return hidden, leader


def _sweep_as_user(state: Path) -> int:
    command = [sys.executable, "-c", SWEEPS_AS_USER, str(state)]
    return int(subprocess.run(command, env=base_environment(), capture_output=True, check=True).stdout)


def test_sweep_ends_orphans_that_hide_their_environment(marked: Path) -> None:
    hidden, leader = _hidden_process(marked, leader_seconds=0)
    assert leader.process.wait(20) == 0
    assert _sweep_as_user(marked / "other") == 0
    assert hidden.is_running()
    assert _sweep_as_user(marked) == 1
    assert not hidden.is_running() or hidden.status() == psutil.STATUS_ZOMBIE
    assert not (marked / "sessions").exists()


def test_sweep_spares_hidden_processes_of_a_later_session_with_the_same_number(marked: Path) -> None:
    hidden, leader = _hidden_process(marked, leader_seconds=600)
    recorded = marked / "sessions"
    recorded.write_text(f"{leader.process.pid} {psutil.Process(leader.process.pid).create_time() - 5}\n")
    _sweep_as_user(marked)
    assert hidden.is_running()
    processes.stop([leader])
    recorded.write_text(f"{leader.process.pid} {psutil.boot_time() - 5}\ncut")
    assert _sweep_as_user(marked) == 0
    assert hidden.is_running()
    recorded.write_text(f"{leader.process.pid} {time.time()}\n")
    assert _sweep_as_user(marked) == 1


def test_sweep_leaves_other_checkouts_alone(marked: Path) -> None:
    other_mark = {**base_environment(), MARK: str(marked / "other")}
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=other_mark)
    try:
        assert sweep(marked) == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(("grace", "seconds"), [(0.2, None), (60, 0.2)])
def test_stop_kills_a_process_that_ignores_sigterm(
    marked: Path, monkeypatch: pytest.MonkeyPatch, grace: float, seconds: float | None
) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", grace)
    resists = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    child = spawn("stubborn", [sys.executable, "-c", resists], base_environment(), marked / "log")
    _wait(child, "up")
    started = time.monotonic()
    processes.stop([child], seconds)
    assert child.process.returncode == -9
    assert time.monotonic() - started < 30


def test_ended_process_error_includes_the_end_of_its_log(tmp_path: Path) -> None:
    ends = "print('one\\ntwo [/x]'); raise SystemExit(3)"
    child = spawn("warehouse", [sys.executable, "-c", ends], dict(os.environ), tmp_path / "w.log")
    child.process.wait(20)
    with pytest.raises(
        SetupError, match=r"^warehouse ended with exit code 3; .*w\.log ends with:\n    one\n    two \[/x\]$"
    ):
        child.check()


def test_killed_process_error_names_the_signal(tmp_path: Path) -> None:
    child = spawn("aws", [sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), tmp_path / "a.log")
    child.process.kill()
    child.process.wait(20)
    with pytest.raises(SetupError, match=r"^aws was killed by signal 9; its log .*a\.log is empty$"):
        child.check()


def test_process_that_is_not_ready_in_time_is_an_error(tmp_path: Path) -> None:
    child = spawn("aws", [sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), tmp_path / "a.log")
    try:
        with pytest.raises(SetupError, match="aws was not ready after 0 s"):
            processes.wait_for_line(child, "ready", 0.2)
    finally:
        processes.stop([child])


def test_lock_has_one_holder_and_names_it(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "lock"
    assert lock_holder(lock) is None
    with take_lock(lock, "no"):
        assert lock_holder(lock) == psutil.Process()
        with pytest.raises(SetupError, match=r"^taken$"):
            take_lock(lock, "taken")
        assert lock_holder(lock) == psutil.Process()
    assert lock_holder(lock) is None
    with take_lock(lock, "no"):
        assert lock_holder(lock) == psutil.Process()


def test_lock_is_released_when_its_holder_dies(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    hold_lock = (
        "import pathlib, subprocess, sys, time; from mwaa_local.processes import take_lock;"
        "held = take_lock(pathlib.Path(sys.argv[1]), 'no'); subprocess.Popen(['sleep', '60']); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold_lock, str(lock)], env={**os.environ, MARK: str(tmp_path)})
    try:
        deadline = time.monotonic() + 20
        while (owner := lock_holder(lock)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert owner.pid == holder.pid
        while len(marked_processes(tmp_path)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        holder.kill()
        holder.wait()
        # The holder's child process still runs but does not hold the lock.
        assert len(marked_processes(tmp_path)) == 1
        take_lock(lock, "no").close()
    finally:
        holder.kill()
        sweep(tmp_path)


def test_environment_variables_of_other_tools_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_PROFILE",
        "AIRFLOW_HOME",
        "DBT_TARGET",
        "PYTHONPATH",
        "REDSHIFT_HOST",
        "VIRTUAL_ENV",
        "MAKEFLAGS",
    ):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://index.example")
    environment = base_environment()
    assert "elsewhere" not in environment.values()
    assert environment["UV_DEFAULT_INDEX"] == "http://index.example"
