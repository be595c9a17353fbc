"""The warehouse as a process: start, stop, what is left when something is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redshift_connector

from redshift_local.pytest_plugin import start_warehouse, stop_warehouse


def ours(state: Path) -> list[psutil.Process]:
    """Every process that runs from this state folder, PostgreSQL's included."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(state) in line or (process.info["environ"] or {}).get("LOCAL_DIR") == str(state):
            found.append(process)
    return found


def wait_until_gone(state: Path, seconds: float = 20) -> list[psutil.Process]:
    """Wait for the last process of a state folder; returns what is left."""
    until = time.monotonic() + seconds
    while (left := ours(state)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def query(warehouse, sql: str):
    with warehouse.connect() as connection:
        connection.autocommit = True
        return connection.run(sql)


@pytest.fixture
def state(tmp_path):
    # Longer than a Unix socket's path may be, so that the socket has to move.
    folder = tmp_path / ("deep" * 25)
    yield folder
    for process in ours(folder):
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(state, number):
    warehouse = start_warehouse(state)
    query(warehouse, "create table t as select 7 as a")
    warehouse.process.send_signal(number)
    assert warehouse.process.wait(30) == 0
    assert wait_until_gone(state) == []
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([7],)
    assert stop_warehouse(again) == 0


def test_a_killed_gateway_leaves_no_postgres(state):
    warehouse = start_warehouse(state)
    query(warehouse, "create table t as select 8 as a")
    warehouse.process.kill()
    warehouse.process.wait()
    assert wait_until_gone(state) == []
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([8],)
    stop_warehouse(again)


def test_everything_killed_at_once_is_recovered(state):
    warehouse = start_warehouse(state)
    query(warehouse, "create table t as select 9 as a")
    children = psutil.Process(warehouse.process.pid).children(recursive=False)
    watchdog = [each for each in children if each.name() != "postgres"]
    for each in watchdog:
        each.kill()
    warehouse.process.kill()
    warehouse.process.wait()
    assert ours(state), "PostgreSQL is an orphan now"
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([9],)
    stop_warehouse(again)
    assert wait_until_gone(state) == []


def test_a_killed_postgres_is_an_error_that_names_the_next_step(state):
    warehouse = start_warehouse(state)
    connection = warehouse.connect()
    connection.run("create table t as select 10 as a")
    connection.commit()
    postmaster = next(each for each in psutil.Process(warehouse.process.pid).children() if each.name() == "postgres")
    postmaster.kill()
    assert warehouse.process.wait(30) == 1
    assert "Start the warehouse again" in (state / "warehouse.out").read_text()
    with pytest.raises((redshift_connector.Error, OSError)):
        connection.run("select 1")
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([10],)
    stop_warehouse(again)


def test_it_ends_with_the_process_that_started_it(state):
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'redshift_local', '--with-parent'],"
        " stdout=open(sys.argv[1], 'w')); import time; time.sleep(100)"
    )
    state.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "LOCAL_DIR": str(state), "LOCAL_WAREHOUSE_PORT": str(port)}
    out = state / "out"
    parent = subprocess.Popen([sys.executable, "-c", code, str(out)], env=environment)
    until = time.monotonic() + 60
    while not (out.exists() and "accepts connections" in out.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert wait_until_gone(state) == []


def refused_start(environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "redshift_local"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_busy_port_is_named(warehouse, tmp_path):
    code, text = refused_start({"LOCAL_DIR": str(tmp_path), "LOCAL_WAREHOUSE_PORT": str(warehouse.port)})
    assert code == 2
    assert "LOCAL_WAREHOUSE_PORT" in text
    assert not (tmp_path / "warehouse").exists()


def test_a_second_one_on_the_same_folder_is_refused(warehouse):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code, text = refused_start({"LOCAL_DIR": str(warehouse.state), "LOCAL_WAREHOUSE_PORT": str(port)})
    assert code == 2
    assert "LOCAL_DIR" in text
    assert query(warehouse, "select 1") == ([1],)
