"""`make warehouse` and `make sql`: their output, their errors, and that they leave nothing behind."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import redshift_connector

from mwaa_local.processes import marked_processes
from mwaa_local.settings import REPOSITORY, Passwords
from mwaa_local.testing.checkout import Checkout, Running, error_message, new_checkout


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, Running]]:
    """A checkout in which `make warehouse` is running."""
    separate = new_checkout(tmp_path_factory.mktemp("alone") / "state")
    running = separate.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    yield separate, running
    running.interrupt()
    assert running.end() == 130
    assert running.stderr == "Stopped.\n"
    assert separate.leftovers() == []


def test_warehouse_prints_a_working_address_for_each_user(warehouse: tuple[Checkout, Running]) -> None:
    checkout, running = warehouse
    port = checkout.environment["LOCAL_WAREHOUSE_PORT"]
    users = []
    for line in running.stdout.splitlines():
        match = re.fullmatch(rf"redshift://(\w+):(\w+)@127\.0\.0\.1:{port}/dev", line)
        assert match, line
        users.append(match[1])
        with contextlib.closing(
            redshift_connector.connect(
                host="127.0.0.1", port=int(port), database="dev", user=match[1], password=match[2], ssl=False
            )
        ) as connection:
            cursor = connection.cursor()
            cursor.execute("select current_user, count(*) from pg_namespace where nspname = 'landing' group by 1")
            assert [list(row) for row in cursor.fetchall()] == [[match[1], 1]]
    assert users == ["dbt_user", "awsuser"]
    assert running.stderr == ""


def test_other_users_reach_no_port_and_no_password(warehouse: tuple[Checkout, Running]) -> None:
    checkout, running = warehouse
    # The command prints the passwords of two users, and the test writes its output to a file.
    assert checkout.exposed() == [f"password in {running.out}"] * 2


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("select null as a, 'b' as b, 1.50 as c", "a\tb\tc\n\tb\t1.50\n"),
        ("select '[/x] [red]100%' as a, 7 % 4 as b", "a\tb\n[/x] [red]100%\t3\n"),
        ("select 1 as a where 1 = 2", "a\n"),
        ("set search_path to public", ""),
        ("select 'ä' as a, chr(10) || '?' as b", "a\tb\nä\t\n?\n"),
    ],
)
def test_sql_prints_tab_separated_rows_into_a_pipe(
    warehouse: tuple[Checkout, Running], query: str, output: str
) -> None:
    completed = warehouse[0].command("sql", "--", query)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, output, "")


def test_sql_prints_csv_and_json(warehouse: tuple[Checkout, Running]) -> None:
    query = """select null as a, 'b, "c"' as b, 1.50 as c, 2 as d, date '2026-01-02' as e"""
    completed = warehouse[0].command("sql", query, "--format=csv")
    assert completed.stdout == 'a,b,c,d,e\n,"b, ""c""",1.50,2,2026-01-02\n'
    completed = warehouse[0].command("sql", query, "--format=json")
    assert json.loads(completed.stdout) == [{"a": None, "b": 'b, "c"', "c": 1.5, "d": 2, "e": "2026-01-02"}]


def test_sql_shows_a_table_on_a_terminal(warehouse: tuple[Checkout, Running]) -> None:
    output = warehouse[0].on_a_terminal("sql", """select null as "[a]", '[/x]' as b union all select 'NULL', ''""")
    assert "NULL" in output
    assert "[a]" in output
    assert "[/x]" in output
    assert "2 rows" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec 1", "syntax error"),
        ("select * from nowhere.nothing", "does not exist"),
        ("create table landing.intruder (a int)", "permission denied"),
        ("select 1/0", "zero"),
    ],
)
def test_sql_prints_the_error_of_the_warehouse(warehouse: tuple[Checkout, Running], query: str, message: str) -> None:
    completed = warehouse[0].command("sql", query)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert message in completed.stderr.lower()
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize(("option", "choices"), [("--user", "dbt_user or awsuser"), ("--format", "csv or json")])
def test_sql_rejects_unknown_options(warehouse: tuple[Checkout, Running], option: str, choices: str) -> None:
    completed = warehouse[0].command("sql", "select 1", option, "root")
    assert completed.returncode == 2
    assert f"{option} root: choose {choices}" in error_message(completed.stderr)


def test_second_command_is_rejected_while_the_warehouse_runs(warehouse: tuple[Checkout, Running]) -> None:
    for command in ("warehouse", "run", "up"):
        completed = warehouse[0].command(command)
        assert completed.returncode == 2
        assert "another command is running the stand-ins of this checkout; wait for it, or stop it with: make down" in (
            error_message(completed.stdout + completed.stderr)
        )
    assert warehouse[0].command("sql", "select 1 as one").stdout == "one\n1\n"


def test_tables_of_the_sample_can_be_created(warehouse: tuple[Checkout, Running]) -> None:
    checkout, _ = warehouse
    warehouse_login = {
        "REDSHIFT_HOST": "127.0.0.1",
        "REDSHIFT_PORT": checkout.environment["LOCAL_WAREHOUSE_PORT"],
        "REDSHIFT_USER": "awsuser",
        "REDSHIFT_PASSWORD": Passwords.load(checkout.state).awsuser,
        "REDSHIFT_SSLMODE": "disable",
    }
    completed = subprocess.run(
        [sys.executable, "-m", "mwaa_release", "sample-data", "--bucket", "any", "--no-upload"],
        cwd=REPOSITORY,
        env={**checkout.environment, **warehouse_login},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == "schema landing: airlines, airports, planes, weather, flights\n"
    assert checkout.command("sql", "select count(*) from landing.flights").stdout == "count\n0\n"


# --- shutdown ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One state folder for all tests, so that each test starts with the leftovers of the test before it."""
    return new_checkout(tmp_path_factory.mktemp("ends") / "state")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.7, None])
def test_interrupted_warehouse_leaves_no_processes_or_files(
    checkout: Checkout, number: int, seconds: float | None
) -> None:
    running = checkout.begin("warehouse")
    running.wait_for_handlers()
    if seconds is None:
        running.wait_until(lambda: running.stdout.count("\n") == 2)
    else:
        time.sleep(seconds)
    running.interrupt(number)
    assert running.end(30) == 130
    assert running.stderr in ("Stopped.\n", "")
    assert checkout.leftovers() == []


def test_warehouse_stops_after_its_command_is_killed(checkout: Checkout) -> None:
    running = checkout.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    running.process.kill()
    running.end()
    deadline = time.monotonic() + 20
    while marked_processes(checkout.state):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    completed = checkout.command("down")
    assert completed.returncode == 0
    assert checkout.leftovers() == []


def test_down_stops_a_warehouse_in_another_terminal(checkout: Checkout) -> None:
    running = checkout.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    completed = checkout.command("down")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Stopped.\n", "")
    assert running.end(10) == 130
    assert running.stderr == "Stopped.\n"
    assert checkout.leftovers() == []


def test_dead_server_is_an_error_of_make_warehouse(checkout: Checkout) -> None:
    running = checkout.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    checkout.kill_postgres("warehouse")
    assert running.end(30) == 2
    assert "PostgreSQL stopped" in error_message(running.stderr)
    assert checkout.leftovers() == []
