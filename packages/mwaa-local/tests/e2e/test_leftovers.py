"""Commands that are interrupted, killed or lose a server leave nothing behind, and the next command works."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import Airflow
from mwaa_local.processes import MARK, lock_holder, marked_processes
from mwaa_local.settings import Passwords
from mwaa_local.testing.checkout import Checkout, error_message, new_checkout
from mwaa_local.testing.orphans import own_stand_ins
from mwaa_local.testing.scene import wait
from mwaa_release.bucket import Bucket

DAG = "flights_pipeline"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """One state folder for all tests, so that each test starts with the leftovers of the test before it."""
    separate = new_checkout(tmp_path_factory.mktemp("leftovers") / "state")
    yield separate
    separate.command("down")
    assert separate.leftovers() == []


@pytest.fixture
def up(checkout: Checkout) -> Checkout:
    """The checkout with `make up`, which keeps running until a test stops it."""
    completed = checkout.command("up")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return checkout


def _airflow(checkout: Checkout) -> "contextlib.closing[Airflow]":
    passwords = Passwords.load(checkout.state)
    return contextlib.closing(Airflow(checkout.settings.airflow_port, passwords.airflow_admin))


def _live_release(checkout: Checkout) -> bytes | None:
    return Bucket(seed.DAGS_BUCKET, seed.client(checkout.settings, "s3")).read("dags/dbt/flights/CURRENT")


# --- stopped runs ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        # One handler gets all signals, so each moment is tested with one of them. A closed terminal sends SIGHUP.
        (signal.SIGINT, 0.2),
        (signal.SIGHUP, 1.5),
        (signal.SIGTERM, 3.0),
        (signal.SIGINT, 6.0),
        (signal.SIGHUP, 12.0),
        # make down, in a test below, sends SIGTERM at this moment.
        (signal.SIGINT, "Run: "),
    ],
)
def test_stopped_run_leaves_no_processes_or_files(checkout: Checkout, number: int, moment: float | str) -> None:
    running = checkout.begin("run")
    running.wait_for_handlers()
    if isinstance(moment, str):
        running.wait_for(moment)
    else:
        time.sleep(moment)
    running.interrupt(number)
    assert running.end() == 130, running.stdout + running.stderr
    assert running.stderr in ("Stopped.\n", "")
    assert "Traceback" not in running.stdout
    assert checkout.leftovers() == []


@pytest.mark.slow
def test_ctrl_c_stops_a_run_that_make_started(checkout: Checkout) -> None:
    running = checkout.begin("run", command=(shutil.which("make"),))
    running.wait_until(lambda: lock_holder(checkout.state / "lock") is not None)
    time.sleep(4)
    running.interrupt()
    time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        running.interrupt()
    # make exits with a signal status of its own. The run must have ended too.
    running.end()
    deadline = time.monotonic() + 30
    while lock_holder(checkout.state / "lock"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "Traceback" not in running.stdout + running.stderr
    assert checkout.leftovers() == []


@pytest.mark.slow
def test_next_command_cleans_up_after_a_killed_run(checkout: Checkout) -> None:
    running = checkout.begin("run")
    running.wait_for("Run: ")
    running.process.kill()
    running.end()
    assert marked_processes(checkout.state)
    # The next command stops the leftover processes before it starts.
    completed = checkout.command("up")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    with _airflow(checkout) as airflow:
        assert airflow.call("GET", f"/dags/{DAG}")["is_paused"]
        assert airflow.call("GET", f"/dags/{DAG}/dagRuns", state="running")["total_entries"] == 0
    holder = lock_holder(checkout.state / "lock")
    assert holder
    holder.kill()
    completed = checkout.command("down")
    assert (completed.returncode, completed.stdout) == (0, "Stopped.\n")
    assert checkout.leftovers() == []


@pytest.mark.slow
def test_stopped_up_leaves_no_processes_or_files(checkout: Checkout) -> None:
    for seconds in (0.4, 2.0, 9.0):
        running = checkout.begin("up")
        running.wait_for_handlers()
        time.sleep(seconds)
        running.interrupt()
        assert running.end() == 130, running.stdout + running.stderr
        assert running.stderr in ("Stopped.\n", "")
        assert checkout.leftovers() == []


SLEEPING = """
from mwaa_local.testing.checkout import new_checkout

def test_one(aws, redshift, tmp_path_factory):
    # The last one stays when its parent ends.
    running = new_checkout(tmp_path_factory.mktemp("stack") / "state").begin("warehouse")
    running.wait_for("redshift://")
    (tmp_path_factory.getbasetemp().parent.parent / "started").touch()
    __import__("time").sleep(600)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("default_hangup")
def test_tests_that_are_stopped_or_killed_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_sleeping.py").write_text(SLEEPING)
    (tmp_path / "test_next.py").write_text("def test_one(): pass")
    # If this test is killed, the next tests end its own.
    own_stand_ins(tmp_path)
    marked = {**os.environ, MARK: str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/data"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        started = tmp_path / "started"
        started.unlink(missing_ok=True)
        parallel = [*command, "-n", "1", tmp_path / "test_sleeping.py"]
        with subprocess.Popen(parallel, env=marked, stdout=subprocess.DEVNULL, process_group=0) as process:
            wait(started.exists, 120)
            workers = psutil.Process(process.pid).children()
            processes = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, number)
            # xdist's own limit is 10 seconds. Then the tests look for what is left, which takes long on a busy machine.
            wait(lambda: not running(workers), 9)  # noqa: B023
            assert process.wait(60) == (-number if number == signal.SIGKILL else 2)
        assert len(processes) >= 8
        if number == signal.SIGKILL:
            # The processes of the warehouse that stays. The next tests end them.
            assert running(processes)
            assert subprocess.run([*command, tmp_path / "test_next.py"], env=marked, check=False).returncode == 0
        wait(lambda: not running(processes), 20)  # noqa: B023


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    left = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left


@pytest.mark.slow
def test_dead_server_stops_a_run(checkout: Checkout) -> None:
    run = checkout.begin("run")
    run.wait_for("Run: ")
    checkout.kill_postgres("warehouse")
    assert run.end() == 2, run.stdout + run.stderr
    assert "PostgreSQL stopped" in error_message(run.stderr)
    assert checkout.leftovers() == []


# --- make up --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_up_and_run_on_a_terminal_show_progress_and_a_summary(checkout: Checkout) -> None:
    output = checkout.on_a_terminal("up")
    assert "✓ Warehouse" in output
    assert "Airflow: " in output
    output = checkout.on_a_terminal("run")
    assert "Run: 0 of" in output
    assert "tasks ended, running: " in output
    for heading in ("✓ Run", "Tasks: ", "Audit rows of this run: ", "Slowest: ", ": success in"):
        assert heading in output, output[-5000:]
    # Runs that earlier tests have stopped failed.
    assert "Alerts: none" in output or "OK AGAIN" in output
    assert json.loads((checkout.state / "last-run.json").read_text())["state"] == "success"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_and_drills_use_the_stand_ins_of_up_and_restore_them(up: Checkout) -> None:
    with _airflow(up) as airflow:
        assert airflow.call("GET", f"/dags/{DAG}")["is_paused"]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(up.state) and not process.name().startswith("postgres"):
                assert process.environ().get(MARK) == str(up.state), process.cmdline()

    again = up.command("up")
    assert again.returncode == 0
    assert again.stdout.startswith("Already running.\nAirflow: ")
    assert up.command("sql", "select count(*) from landing.flights").stdout == "count\n336776\n"

    live = _live_release(up)
    function = seed.client(up.settings, "lambda").get_function_configuration(FunctionName=seed.FUNCTION)
    drill = up.begin("drill", "--broken-lambda")
    drill.wait_for("Run: ")
    second = up.command("run")
    assert second.returncode == 2
    assert "another make run or make drill is running in this checkout" in error_message(second.stderr)
    assert drill.end(400) == 0, drill.stdout + drill.stderr
    tasks = json.loads((up.state / "last-run.json").read_text())["tasks"]
    assert (tasks["dbt_check"], tasks["sns_notification_for_failure"]) == ("failed", "failed")
    assert _live_release(up) == live
    after = seed.client(up.settings, "lambda").get_function_configuration(FunctionName=seed.FUNCTION)
    assert after["Environment"] == function["Environment"]
    assert seed.read_alerts(up.settings) == []

    # A drill that is stopped also restores the release, and ends its run in Airflow.
    drill = up.begin("drill")
    drill.wait_for("Run: ")
    drill.interrupt()
    assert drill.end() == 130
    assert drill.stderr == "Stopped.\n"
    assert _live_release(up) == live
    with _airflow(up) as airflow:
        assert airflow.call("GET", f"/dags/{DAG}")["is_paused"]
        assert airflow.call("GET", f"/dags/{DAG}/dagRuns", state="running")["total_entries"] == 0

    run = up.begin("run")
    run.wait_for("Run: ")
    down = up.command("down")
    assert (down.returncode, down.stdout) == (0, "Stopped.\n")
    assert run.end(10) == 130
    assert run.stderr == "Stopped.\n"
    assert up.leftovers() == []


@pytest.mark.slow
def test_dead_server_stops_make_up_and_the_run_that_uses_it(up: Checkout) -> None:
    run = up.begin("run")
    run.wait_for("Run: ")
    up.kill_postgres("mwaa/database")
    message = "Airflow's metadata database was killed by signal 9"
    assert run.end() == 2, run.stdout + run.stderr
    assert "the stand-ins of make up have ended" in error_message(run.stderr)
    assert message in run.stderr
    deadline = time.monotonic() + 60
    while marked_processes(up.state):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert message in (up.state / "logs" / "up.log").read_text()
    assert up.leftovers() == []
    assert up.command("sql", "select 1").returncode == 2


# --- help ---------------------------------------------------------------------------------------------------------


def test_help_describes_each_command_in_one_line(checkout: Checkout) -> None:
    completed = checkout.command("--help")
    assert completed.returncode == 0
    assert "..." not in completed.stdout.partition("Commands:")[2]
    for command in ("run", "drill", "up", "down", "warehouse", "sql"):
        assert f"\n  {command} " in completed.stdout
        command_help = checkout.command(command, "--help")
        assert command_help.returncode == 0
        assert command_help.stdout.startswith(f"Usage: python -m mwaa_local {command}")
