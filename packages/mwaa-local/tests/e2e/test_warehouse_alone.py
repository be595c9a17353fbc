"""`make warehouse` and `make sql`: what they print, what they refuse, and that nothing is left however they end."""

import contextlib
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
from mwaa_local.testing.aws import Aws
from mwaa_local.testing.checkout import Checkout, Running, new_checkout, the_message


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, Running]]:
    """A checkout in which `make warehouse` runs."""
    separate = new_checkout(tmp_path_factory.mktemp("alone") / "state")
    running = separate.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    yield separate, running
    running.interrupt()
    assert running.end() == 130
    assert running.stderr == "Stopped.\n"
    assert separate.leftovers() == []


def test_the_warehouse_alone_prints_two_addresses_that_work(alone: tuple[Checkout, Running]) -> None:
    checkout, running = alone
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


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("select null as a, 'b' as b, 1.50 as c", "\tb\t1.50\n"),
        ("select '[/x] [red]100%' as a, 7 % 4 as b", "[/x] [red]100%\t3\n"),
        ("select 1 where 1 = 2", ""),
        ("set search_path to public", ""),
        ("select 'ä', chr(10) || '?'", "ä\t\n?\n"),
    ],
)
def test_sql_prints_rows_into_a_pipe(alone: tuple[Checkout, Running], query: str, output: str) -> None:
    done = alone[0].command("sql", "--", query)
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_sql_shows_a_table_on_a_terminal(alone: tuple[Checkout, Running]) -> None:
    output = alone[0].on_a_terminal("sql", """select null as "[a]", '[/x]' as b union all select 'NULL', ''""")
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
def test_sql_says_what_the_warehouse_says(alone: tuple[Checkout, Running], query: str, message: str) -> None:
    done = alone[0].command("sql", query)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_sql_refuses_unknown_users(alone: tuple[Checkout, Running]) -> None:
    done = alone[0].command("sql", "select 1", "--user", "root")
    assert done.returncode == 2
    assert "choose dbt_user or awsuser" in the_message(done.stderr)


def test_a_second_warehouse_and_a_run_are_refused_beside_the_first(alone: tuple[Checkout, Running]) -> None:
    for command in ("warehouse", "run", "up"):
        done = alone[0].command(command)
        assert done.returncode == 2
        assert "another command is running the stand-ins of this checkout; wait for it, or stop it with: make down" in (
            the_message(done.stdout + done.stderr)
        )
    assert alone[0].command("sql", "select 1").stdout == "1\n"


def test_an_empty_landing_bucket_is_an_error_with_the_command_to_fill_it(
    alone: tuple[Checkout, Running], aws: Aws
) -> None:
    checkout, _ = alone
    bucket = "flights-landing-empty"
    aws.client("s3").create_bucket(Bucket=bucket)
    access = {
        "REDSHIFT_HOST": "127.0.0.1",
        "REDSHIFT_PORT": checkout.environment["LOCAL_WAREHOUSE_PORT"],
        "REDSHIFT_USER": "awsuser",
        "REDSHIFT_PASSWORD": Passwords.load(checkout.state).awsuser,
        "REDSHIFT_SSLMODE": "disable",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mwaa_release", "sample-data", "--bucket", bucket, "--no-upload"],
        cwd=REPOSITORY,
        env={**checkout.environment, **aws.environment(), **access},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    message = the_message(done.stderr)
    assert f"s3://{bucket}/nycflights13/airlines/ is empty" in message
    assert f"python -m mwaa_release sample-data --bucket {bucket}" in message


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One state folder for all tests, so that each test starts with the leftovers of the test before it."""
    return new_checkout(tmp_path_factory.mktemp("ends") / "state")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.7, None])
def test_the_warehouse_ends_with_its_command(checkout: Checkout, number: int, seconds: float | None) -> None:
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


def test_a_warehouse_whose_command_was_killed_ends_too(checkout: Checkout) -> None:
    running = checkout.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    running.process.kill()
    running.end()
    until = time.monotonic() + 20
    while marked_processes(checkout.state):
        assert time.monotonic() < until
        time.sleep(0.1)
    done = checkout.command("down")
    assert done.returncode == 0
    assert checkout.leftovers() == []


def test_down_stops_a_warehouse_in_another_terminal(checkout: Checkout) -> None:
    running = checkout.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    done = checkout.command("down")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Stopped.\n", "")
    assert running.end(10) == 130
    assert running.stderr == "Stopped.\n"
    assert checkout.leftovers() == []


def test_a_warehouse_whose_server_dies_says_so(checkout: Checkout) -> None:
    running = checkout.begin("warehouse")
    running.wait_until(lambda: running.stdout.count("\n") == 2)
    checkout.kill_postgres("warehouse")
    assert running.end(30) == 2
    assert "PostgreSQL stopped" in the_message(running.stderr)
    assert checkout.leftovers() == []
