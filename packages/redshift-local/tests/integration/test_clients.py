"""Catalog queries of clients: the connector's metadata calls, its parameters, pandas."""

import contextlib
from decimal import Decimal

import pytest
import redshift_connector
from redshift_connector.config import ClientProtocolVersion
from redshift_connector.interval import IntervalYearToMonth


@pytest.fixture
def cursor(warehouse):
    with warehouse.connect() as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("drop schema if exists asked cascade")
            cursor.execute("create schema asked")
            cursor.execute("create table asked.parent (a int, b varchar(5), primary key (a, b))")
            cursor.execute(
                "create table asked.child (a int, b varchar(5), d decimal(8, 2),"
                " foreign key (a, b) references asked.parent)"
            )
            yield cursor
            cursor.execute("drop schema asked cascade")


def test_connectors_metadata_calls_work(cursor):
    assert [row[1:4] for row in cursor.get_tables(schema_pattern="asked")] == [
        ["asked", "child", "TABLE"],
        ["asked", "parent", "TABLE"],
    ]
    columns = cursor.get_columns(schema_pattern="asked", tablename_pattern="child")
    assert [(row[3], row[5], row[6]) for row in columns] == [
        ("a", "int4", 10),
        ("b", "varchar", 5),
        ("d", "numeric", 8),
    ]
    assert [row[3:6] for row in cursor.get_primary_keys(schema="asked", table="parent")] == [
        ["a", 1, "parent_pkey"],
        ["b", 2, "parent_pkey"],
    ]
    assert [(row[3], row[7], row[11]) for row in cursor.get_imported_keys(schema="asked", table="child")] == [
        ("a", "a", "child_a_fkey"),
        ("b", "b", "child_a_fkey"),
    ]
    assert cursor.get_tables(schema_pattern="asked", table_name_pattern="it's") == ()
    assert ["asked"] in [row[:1] for row in cursor.get_schemas()]
    assert ["dev"] in [list(row[:1]) for row in cursor.get_catalogs()]


def test_values_are_the_same_with_every_protocol(warehouse):
    address = {"host": warehouse.host, "port": warehouse.port, "database": "dev", "ssl": False}
    login = {"user": "awsuser", "password": warehouse.password}
    with contextlib.ExitStack() as stack:
        connections = []
        for protocol in ClientProtocolVersion.list():
            connection = redshift_connector.connect(**address, **login, client_protocol_version=protocol)
            connections.append(stack.enter_context(connection))
            assert connection._client_protocol_version == protocol
        for connection in connections * 2:  # the second time, the connector does not ask for the columns
            with connection.cursor() as cursor:
                cursor.execute("select 1.50::decimal(5, 2), (-3)::decimal(38, 3), null::decimal(9, 1), 'aa'::varbyte")
                assert cursor.fetchone() == [Decimal("1.50"), Decimal("-3.000"), None, "aa"]
                assert [column[1] for column in cursor.description] == [1700, 1700, 1700, 6551]
                cursor.execute("select avg(n) * 2, 'aa'::varbyte from (select 1.5::decimal(5, 2) as n) t")
                assert cursor.fetchone() == [Decimal("3.00"), "aa"]
                cursor.execute("select relacl from pg_class limit 1")


def test_bytes_are_bound_as_hexadecimal_text(cursor):
    """redshift_connector 2.1.15 sends them so and tests it: test_redshift_varbyte_insert_python_bytes."""
    cursor.execute("create temp table bytes_bound (id int, v varbyte)")
    cursor.execute("insert into bytes_bound values (%s, %s)", (1, b"\x00abc"))
    cursor.execute("select v from bytes_bound")
    assert cursor.fetchone() == ["00616263"]


def test_bound_intervals_are_refused(cursor):
    with pytest.raises(
        redshift_connector.Error, match="not supported by the local warehouse: bound values of type INT"
    ):
        cursor.execute("select %s", (IntervalYearToMonth(5),))


def test_many_rows_can_be_inserted_at_once(cursor):
    cursor.executemany("insert into asked.parent values (%s, %s)", [(number, f"n{number}") for number in range(50)])
    cursor.execute("select count(*), max(a), min(b) from asked.parent")
    assert cursor.fetchone() == [50, 49, "n0"]


def test_show_takes_bound_values(cursor):
    cursor.execute("show tables from schema dev.asked like %s limit 5", ("par%",))
    assert [row[2] for row in cursor.fetchall()] == ["parent"]


def test_show_grants_has_the_users_own_privileges(cursor, warehouse):
    cursor.execute("drop user if exists grantee")
    cursor.execute("create user grantee password 'Abcdef123'")
    try:
        cursor.execute("grant usage on schema asked to grantee")
        cursor.execute("grant select on asked.parent to grantee")
        cursor.execute("grant insert on asked.parent to public")
        with warehouse.connect(user="grantee", password="Abcdef123") as connection, connection.cursor() as own:
            own.execute("show grants on table dev.asked.parent")
            names = [column[0] for column in own.description]
            grants = [dict(zip(names, row, strict=True)) for row in own.fetchall()]
        assert sorted((row["identity_name"], row["privilege_type"]) for row in grants) == [
            ("grantee", "SELECT"),
            ("public", "INSERT"),
        ]
    finally:
        cursor.execute("revoke all on asked.parent from grantee")
        cursor.execute("revoke usage on schema asked from grantee")
        cursor.execute("drop user grantee")
