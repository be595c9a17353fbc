"""The warehouse as a process: start, stop, kill, options and exit codes."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import redshift_connector

from redshift_local.pytest_plugin import free_port, start_warehouse, stop_warehouse
from redshift_local.server.install import install
from redshift_local.server.postgres import AS_NOBODY, BINARIES, Postgres
from redshift_local.settings import SetupError

# Prefixes that run a command as this user and, if this user is root, as an ordinary user. The ordinary user can pass
# through private folders, in which the Python of root may be installed.
USERS = {"this user": ()}
if os.geteuid() == 0:
    USERS["nobody"] = (*AS_NOBODY, f"--regid={pwd.getpwnam('nobody').pw_gid}")


def processes_of(state: Path) -> list[psutil.Process]:
    """Return all processes that run from this state folder, including PostgreSQL."""
    processes = psutil.process_iter(["cmdline"])
    return [process for process in processes if str(state) in " ".join(process.info["cmdline"] or [])]


def wait_until_gone(state: Path, seconds: float = 20) -> list[psutil.Process]:
    """Wait until all processes of a state folder have ended, and return the remaining processes."""
    until = time.monotonic() + seconds
    while (left := processes_of(state)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def mode_and_owner(folder: Path) -> tuple[int, int, int]:
    status = folder.stat()
    return status.st_mode, status.st_uid, status.st_gid


def query(warehouse, sql: str):
    with warehouse.connect() as connection:
        connection.autocommit = True
        return connection.run(sql)


@pytest.fixture
def state(tmp_path):
    # The path is longer than a Unix socket's limit, so the socket must be in another folder.
    folder = tmp_path / ("deep" * 25)
    yield folder
    for process in processes_of(folder):
        process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_stops_everything_and_keeps_the_data(state, number, code):
    warehouse = start_warehouse(state)
    query(warehouse, "create table t as select 7 as a")
    warehouse.process.send_signal(number)
    assert warehouse.process.wait(30) == code
    assert wait_until_gone(state) == []
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([7],)
    assert stop_warehouse(again) == 0


def test_killed_gateway_leaves_no_postgres(state):
    warehouse = start_warehouse(state)
    query(warehouse, "create table t as select 8 as a")
    warehouse.process.kill()
    warehouse.process.wait()
    assert wait_until_gone(state) == []
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([8],)
    stop_warehouse(again)


def test_data_survives_a_kill_of_all_processes(state):
    warehouse = start_warehouse(state)
    query(warehouse, "create table t as select 9 as a")
    children = psutil.Process(warehouse.process.pid).children(recursive=False)
    watchdog = [process for process in children if process.name() != "postgres"]
    for process in watchdog:
        process.kill()
    warehouse.process.kill()
    warehouse.process.wait()
    assert processes_of(state), "PostgreSQL is an orphan now"
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([9],)
    stop_warehouse(again)
    assert wait_until_gone(state) == []


def test_update_does_not_drop_functions_of_users(warehouse):
    postgres = Postgres(warehouse.state / "warehouse")
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE earlier TEMPLATE template0")
        try:
            with psycopg.connect(postgres.conninfo("earlier"), autocommit=True) as earlier:
                earlier.execute("SET allow_system_table_mods = on")
                earlier.execute("CREATE DOMAIN pg_catalog.super AS jsonb")
                earlier.execute("CREATE FUNCTION mine(super) RETURNS integer LANGUAGE sql AS 'SELECT 1'")
            with pytest.raises(SetupError, match="its tables, views or functions use SUPER"):
                install(postgres, warehouse.database, warehouse.user, warehouse.password)
            with psycopg.connect(postgres.conninfo("earlier"), autocommit=True) as earlier:
                earlier.execute("DROP FUNCTION mine")
            install(postgres, warehouse.database, warehouse.user, warehouse.password)
        finally:
            connection.execute("DROP DATABASE earlier")


def test_query_history_is_complete_after_its_connection_was_lost(warehouse):
    with warehouse.connect() as connection:
        connection.run("select count(*) from sys_query_history")
        with psycopg.connect(Postgres(warehouse.state / "warehouse").conninfo("dev"), autocommit=True) as postgres:
            journal = "application_name = 'pg_redshift journal'"
            postgres.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {journal}")
        connection.run("select 7 as after_the_loss")
        recorded = "select count(*) from sys_query_history where query_text = 'select 7 as after_the_loss'"
        assert connection.run(recorded) == ([1],)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["short", "long" * 25], ids=["short", "long"])
def test_start_does_not_change_folders_above_the_state_folder(user, name):
    private = Path(tempfile.mkdtemp(dir="/tmp", prefix="private-"))
    state = private / name
    state.mkdir()
    if USERS[user]:
        for folder in (private, state):
            shutil.chown(folder, "nobody")
    # The time of the last change shows a mode that was changed and restored. Other processes write to folders above.
    before = private.stat()
    folders = [*state.parents, *BINARIES.parents]
    modes = [mode_and_owner(folder) for folder in folders]
    command = [*USERS[user], sys.executable, "-m", "redshift_local", "serve", f"--port={free_port()}"]
    try:
        for _ in range(2):
            with subprocess.Popen(
                [*command, f"--folder={state}"], stdout=subprocess.PIPE, text=True, cwd="/"
            ) as process:
                assert "accepts connections" in process.stdout.readline()
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
        assert private.stat().st_ctime_ns == before.st_ctime_ns
        assert [mode_and_owner(folder) for folder in folders] == modes
    finally:
        shutil.rmtree(private)


@pytest.mark.parametrize("user", USERS)
def test_server_user_has_access_to_programs_in_private_folders(user, tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    program = shutil.copy(shutil.which("true"), private / "program")
    # It asks by access(), as initdb does.
    assert subprocess.run([*USERS[user], shutil.which("test"), "-x", program], check=False).returncode == 0


def test_socket_folder_of_another_user_is_refused(state, tmp_path):
    server = Postgres(state / "warehouse")
    server.socket_folder.symlink_to(tmp_path)
    try:
        with pytest.raises(SetupError, match=rf"^{server.socket_folder} is not a folder of this user"):
            server.start()
    finally:
        server.socket_folder.unlink()


def test_next_start_removes_the_socket_folder_of_a_deleted_state_folder(state, tmp_path):
    warehouse = start_warehouse(state)
    socket_folder = Postgres(state / "warehouse").socket_folder
    assert socket_folder.is_dir()
    for process in [*psutil.Process(warehouse.process.pid).children(recursive=True), warehouse.process]:
        process.kill()
    warehouse.process.wait()
    shutil.rmtree(state)
    stop_warehouse(start_warehouse(tmp_path / "other"))
    assert not socket_folder.exists()


def test_killed_postgres_is_reported_with_the_next_step(state):
    warehouse = start_warehouse(state)
    connection = warehouse.connect()
    connection.run("create table t as select 10 as a")
    connection.commit()
    postmaster = next(
        process for process in psutil.Process(warehouse.process.pid).children() if process.name() == "postgres"
    )
    postmaster.kill()
    assert warehouse.process.wait(30) == 1
    assert "Start the warehouse again" in (state / "warehouse.out").read_text()
    with pytest.raises((redshift_connector.Error, OSError)):
        connection.run("select 1")
    again = start_warehouse(state)
    assert query(again, "select a from t") == ([10],)
    stop_warehouse(again)


def test_warehouse_stops_when_its_parent_process_is_killed(state):
    code = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-m', 'redshift_local', 'serve', '--with-parent', *sys.argv[2:]],"
        " stdout=open(sys.argv[1], 'w')); time.sleep(100)"
    )
    state.mkdir(parents=True)
    log = state / "output"
    options = [f"--port={free_port()}", f"--folder={state}"]
    parent = subprocess.Popen([sys.executable, "-c", code, str(log), *options])
    deadline = time.monotonic() + 60
    while not (log.exists() and "accepts connections" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "redshift://" not in log.read_text(), "the password is in a log file"
    parent.kill()
    parent.wait()
    assert wait_until_gone(state) == []


def serve(*options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "redshift_local", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_start_prints_an_address_that_clients_can_use(state):
    command = [sys.executable, "-m", "redshift_local", "serve", f"--port={free_port()}", f"--folder={state}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ready, address = process.stdout.readline(), process.stdout.readline().strip()
        assert "accepts connections" in ready
        with psycopg.connect(address.replace("redshift://", "postgresql://")) as connection:
            assert connection.execute("select current_database()").fetchone() == ("dev",)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_busy_port_is_an_error_that_names_the_option(warehouse, tmp_path):
    completed = serve(f"--folder={tmp_path}", f"--port={warehouse.port}")
    assert completed.returncode == 2
    assert "choose another: --port=<port>" in completed.stderr
    assert not (tmp_path / "warehouse").exists()


def test_second_warehouse_on_the_same_folder_is_refused(warehouse):
    completed = serve(f"--folder={warehouse.state}", f"--port={free_port()}")
    assert completed.returncode == 2
    assert f"already runs from {warehouse.state}" in completed.stderr
    assert query(warehouse, "select 1") == ([1],)


@pytest.mark.parametrize("port", ["0", "65536", "many"])
def test_invalid_port_is_refused(port):
    completed = serve(f"--port={port}")
    assert completed.returncode == 2
    assert "--port" in completed.stderr


def test_damaged_password_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "passwords.json").write_text('{"awsuser"')
    completed = serve(f"--folder={tmp_path}", f"--port={free_port()}")
    assert completed.returncode == 2
    assert f"{tmp_path / 'passwords.json'} is damaged; delete it" in completed.stderr
