"""The wire protocol: invalid bytes, lost clients, long statements, large results, many connections, psql."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest
import redshift_connector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redshift_local.server.gateway import allow_open_files
from redshift_local.server.postgres import BINARIES, MAX_SESSIONS

LIMIT = 16 * 1024 * 1024


@pytest.fixture
def connection(warehouse):
    session = warehouse.connect()
    session.autocommit = True
    yield session
    session.close()


def raw(warehouse) -> socket.socket:
    return socket.create_connection((warehouse.host, warehouse.port), timeout=10)


def started(warehouse) -> socket.socket:
    """A session that is asked for its password."""
    client = raw(warehouse)
    body = struct.pack("!I", 196608) + b"user\0awsuser\0database\0dev\0\0"
    client.sendall(struct.pack("!I", len(body) + 4) + body)
    return client


def logged_in(warehouse) -> socket.socket:
    """A session without a client library, ready for queries."""
    client = started(warehouse)
    assert client.recv(9)[:1] == b"R"
    password = warehouse.password.encode() + b"\0"
    client.sendall(b"p" + struct.pack("!I", len(password) + 4) + password)
    received = b""
    while not received.endswith(b"Z\0\0\0\x05I"):
        received += client.recv(4096)
    return client


def drained(client: socket.socket) -> bytes:
    """Read until the other side closes the connection. A timeout is a failure."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def alive(warehouse) -> bool:
    with warehouse.connect() as connection:
        return connection.run("select 1") == ([1],)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(min_size=1, max_size=200))
def test_invalid_startup_bytes_do_no_harm(warehouse, data):
    with raw(warehouse) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        drained(client)


MESSAGES = st.builds(
    lambda kind, body, cheat: kind + struct.pack("!I", max(0, len(body) + 4 + cheat)) + body,
    st.sampled_from([b"Q", b"P", b"B", b"D", b"E", b"S", b"C", b"H", b"d", b"c", b"f", b"F", b"?", b"\0"]),
    st.binary(max_size=60)
    | st.sampled_from([b"select 1\0", b"S\0", b"\0select 1\0\0\0", b"\0\0\0\0\0\0\0\0", b"\0\0\0\0\0"]),
    st.sampled_from([0, 0, 0, 0, 1, -1, -5, 2**31 - 100]),
)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=st.lists(MESSAGES, max_size=6))
def test_invalid_messages_do_no_harm(warehouse, messages):
    with logged_in(warehouse) as client:
        client.sendall(b"".join(messages))
        client.shutdown(socket.SHUT_WR)
        drained(client)


def test_gateway_still_serves_clients_after_invalid_bytes(warehouse):
    assert alive(warehouse)


@pytest.mark.parametrize("head", [b"\xff\xff\xff\xff", struct.pack("!I", 2**31 - 1), struct.pack("!I", 5)])
def test_impossible_length_ends_the_connection(warehouse, head):
    with raw(warehouse) as client:
        client.sendall(head + b"\0\x03\0\0")
        assert b"08P01" in drained(client)


def test_query_of_a_lost_client_is_cancelled(warehouse, connection):
    client = logged_in(warehouse)
    text = b"select count(*) from generate_series(1, 1000000000)\0"
    client.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
    time.sleep(0.3)
    client.close()
    until = time.monotonic() + 20
    question = "select count(*) from pg_stat_activity where query like '%%1000000000%%' and pid <> pg_backend_pid()"
    while connection.run(question)[0][0]:
        assert time.monotonic() < until, "the query of a lost client still runs"
        time.sleep(0.2)


def test_query_can_be_cancelled(warehouse):
    url = f"host=127.0.0.1 port={warehouse.port} user=awsuser dbname=dev sslmode=disable"
    with psycopg.connect(url, password=warehouse.password, autocommit=True) as client:
        timer = threading.Timer(0.5, client.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(30)")


def test_statements_are_limited_to_16_mb(connection):
    fits = "select len('" + "x" * (LIMIT - 14) + "')"
    assert len(fits) == LIMIT
    assert connection.run(fits) == ([LIMIT - 14],)
    with pytest.raises(redshift_connector.Error, match=f"Statement is too large. Statement Size: {LIMIT + 1} bytes"):
        connection.run(fits + " ")
    assert connection.run("select 1") == ([1],)


def test_million_rows_pass_in_bounded_memory(start_redshift):
    warehouse = start_redshift()
    process = psutil.Process(warehouse.process.pid)
    url = f"host=127.0.0.1 port={warehouse.port} user=awsuser dbname=dev sslmode=disable"
    rows = peak = 0
    with psycopg.connect(url, password=warehouse.password) as client, client.cursor() as cursor:
        for row in cursor.stream("select n, repeat('x', 100) from generate_series(1, 1000000) as g(n)"):
            rows += 1
            if rows % 50000 == 0:
                peak = max(peak, process.memory_info().rss)
            assert len(row[1]) == 100
    assert rows == 1_000_000
    assert peak < 200 * 1024 * 1024


def test_32_connections_work_in_parallel(warehouse):
    problems = []

    def work(number: int) -> None:
        try:
            with warehouse.connect() as connection:
                for turn in range(5):
                    assert connection.run(f"select {number} * 100 + {turn}") == ([number * 100 + turn],)
        except Exception as problem:  # noqa: BLE001 - reported below, with its thread's number
            problems.append((number, problem))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_failed_statement_ends_the_transaction_as_on_redshift(warehouse):
    with warehouse.connect() as connection:
        connection.run("create table aborted (a int)")
        with pytest.raises(redshift_connector.Error, match="not supported by the local warehouse"):
            connection.run("select st_makepoint(1, 2)")
        with pytest.raises(redshift_connector.Error, match="current transaction is aborted"):
            connection.run("select 1")
        connection.rollback()
        assert connection.run("select count(*) from svv_tables where table_name = 'aborted'") == ([0],)


def test_refused_statement_with_bound_values_names_the_reason(connection):
    with pytest.raises(redshift_connector.Error, match="not supported by the local warehouse: type GEOMETRY"):
        connection.cursor().execute("select %s::geometry", ("x",))


def test_one_message_can_have_several_statements(warehouse):
    url = f"host=127.0.0.1 port={warehouse.port} user=awsuser dbname=dev sslmode=disable"
    with psycopg.connect(url, password=warehouse.password, autocommit=True) as client:
        cursor = client.execute(
            "select 1; select nvl(null, 2); truncate table pg_temp.nothing; select 3".replace(
                "truncate table pg_temp.nothing", "set query_group to 'x'"
            )
        )
        results = [cursor.fetchall()]
        while cursor.nextset():
            if cursor.description:
                results.append(cursor.fetchall())
        assert results == [[(1,)], [(2,)], [(3,)]]


def test_after_a_failed_action_messages_are_skipped_until_sync(warehouse):
    url = f"host=127.0.0.1 port={warehouse.port} user=awsuser dbname=dev sslmode=disable"

    def run_pipeline(client: psycopg.Connection) -> None:
        with client.pipeline():
            client.execute("truncate nowhere")
            client.execute("create table skipped (i int)")

    with psycopg.connect(url, password=warehouse.password, autocommit=True) as client:
        with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
            run_pipeline(client)
        assert client.execute("select relname from pg_class where relname = 'skipped'").fetchall() == []


def test_unknown_message_type_ends_the_connection(warehouse):
    with logged_in(warehouse) as client:
        client.sendall(b"?\0\0\0\x04")
        assert b"C08P01\0Minvalid frontend message type 63\0" in drained(client)


@pytest.mark.parametrize("prepare", [False, True], ids=["unnamed", "prepared"])
def test_rows_of_a_described_portal_are_rewritten(warehouse, prepare):
    url = f"host=127.0.0.1 port={warehouse.port} user=awsuser dbname=dev sslmode=disable"
    with psycopg.connect(url, password=warehouse.password, autocommit=True) as client:
        for _ in range(2):
            rows = client.execute("select 'abc'::varbyte, %s::int", (7,), prepare=prepare).fetchall()
            assert rows == [("616263", 7)]


def test_rows_are_rewritten_when_a_client_gets_them_in_parts(warehouse):
    """Drivers do this when a program sets a fetch size."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    fetch = message(b"E", b"p\0" + struct.pack("!I", 1))
    rows = "select 'abc'::varbyte union all select 'abc' union all select 'abc'"
    with logged_in(warehouse) as client:
        client.sendall(message(b"Q", b"begin\0") + message(b"P", b"\0" + rows.encode() + b"\0\0\0"))
        client.sendall(message(b"B", b"p\0" + bytes(7)) + message(b"D", b"Pp\0"))
        client.sendall(fetch + fetch + message(b"S", b"") + fetch + message(b"S", b""))
        received = b""
        while received.count(b"Z\0\0\0\x05T") < 3:
            received += client.recv(65536)
    assert received.count(message(b"D", struct.pack("!HI", 1, 6) + b"616263")) == 3


def psql(warehouse, *commands: str) -> str:
    program = shutil.which("psql") or str(BINARIES / "psql")
    line = [program, "-h", warehouse.host, "-p", str(warehouse.port), "-U", "awsuser", "-d", "dev", "-At"]
    line += [part for command in commands for part in ("-c", command)]
    environment = {**os.environ, "PGPASSWORD": warehouse.password}
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout


def test_psql_runs_queries(warehouse):
    output = psql(warehouse, "select dateadd(day, 1, date '2020-01-01')", "select 'a\\'b'")
    assert output == "2020-01-02 00:00:00\na'b\n"


def test_psql_describes_relations(warehouse, connection):
    connection.run("create table described (id int not null, v varchar(5) default 'x', primary key (id))")
    connection.run("create view described_view as select id from described")
    output = psql(
        warehouse, r"\d described", r"\dt described", r"\dv described_view", r"\dn public", r"\du awsuser", r"\l dev"
    )
    assert output.splitlines()[:4] == [
        "id|integer||not null|",
        "v|character varying(5)|||'x'::character varying",
        "public|described|table|awsuser",
        "public|described_view|view|awsuser",
    ]
    assert "len" in psql(warehouse, r"\df len")
    connection.run("drop table described cascade")


@contextlib.contextmanager
def sockets(warehouse, open_one: Callable, count: int) -> Iterator[list[socket.socket]]:
    allow_open_files(2 * MAX_SESSIONS)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_one(warehouse)) for _ in range(count)]


def test_300_connections_work_at_the_same_time(warehouse):
    with sockets(warehouse, logged_in, 300) as clients:
        for client in clients:
            client.sendall(b"Q\0\0\0\x0eselect 42\0")
        for client in clients:
            received = b""
            while not received.endswith(b"Z\0\0\0\x05I"):
                received += client.recv(4096)
            assert b"D\0\0\0\x0c\0\x01\0\0\0\x0242" in received


def test_connections_above_the_limit_are_refused(start_redshift):
    warehouse = start_redshift()
    with sockets(warehouse, started, MAX_SESSIONS) as clients:
        for client in clients:
            assert client.recv(9)[:1] == b"R"
        with pytest.raises(redshift_connector.Error, match='connection limit "500" exceeded for non-bootstrap users'):
            warehouse.connect()
        clients.pop().close()
        until = time.monotonic() + 10
        while True:  # the server notices the end of a connection a moment later
            with contextlib.suppress(redshift_connector.Error):
                assert alive(warehouse)
                break
            assert time.monotonic() < until
