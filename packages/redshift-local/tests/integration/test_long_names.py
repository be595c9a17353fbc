"""Names of 64 to 127 bytes, which PostgreSQL cannot store."""

import json

import boto3
import pytest
import redshift_connector

from redshift_local.pytest_plugin import stop_warehouse

TABLE = "contexts_com_snowplowanalytics_snowplow_" + "mobile_context_" * 3 + "1"  # 86 bytes
COLUMN = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_action_1_0_2_name"
SCHEMA = "dbt_cloud_pull_request_" + "4711_" * 10


@pytest.fixture(scope="module")
def connection(warehouse):
    session = warehouse.connect()
    session.autocommit = True
    session.run(f"create schema {SCHEMA}")
    session.run(f'create table {SCHEMA}.{TABLE} (id int, "{COLUMN.upper()}" varchar(20), unique ({COLUMN}))')
    session.run(f"insert into {SCHEMA}.{TABLE} ({COLUMN}, id) values ('x', 1)")
    yield session
    session.run(f"drop schema {SCHEMA} cascade")
    session.close()


def names_and_rows(connection, sql: str, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [column[0] for column in cursor.description], [list(row) for row in cursor.fetchall()]


def test_aliases_of_columns_keep_their_names(connection):
    alias = "a" * 70
    assert names_and_rows(connection, f"select 1 as {alias}, 2 as b, 3 as {alias}c") == (
        [alias, "b", f"{alias}c"],
        [[1, 2, 3]],
    )
    sql = f"with {alias} as (select 1 as {alias}) select {alias}.{alias} + 1 as n from {alias} where {alias} = 1"
    assert names_and_rows(connection, sql) == (["n"], [[2]])


def test_names_above_127_bytes_are_cut(connection):
    assert names_and_rows(connection, f"select 1 as {'b' * 130}")[0] == ["b" * 127]
    assert names_and_rows(connection, f'select 1 as "{"é" * 70}"')[0] == ["é" * 63]


def test_tables_and_columns_keep_their_names(connection):
    assert names_and_rows(connection, f"select * from {SCHEMA}.{TABLE}") == (["id", COLUMN], [[1, "x"]])


@pytest.mark.parametrize(
    "sql",
    [
        "select table_schema, table_name, column_name from svv_columns where table_name = %s",
        "select table_schema, table_name, column_name from information_schema.columns where table_name = %s",
        "select table_schema, t.table_name, c.column_name from information_schema.tables t"
        " join svv_redshift_columns c on c.table_name = t.table_name where t.table_name = %s",
        "select nspname, relname, attname from pg_catalog.pg_class c join pg_namespace n on n.oid = relnamespace"
        " join pg_attribute a on attrelid = c.oid where attnum > 0 and relname = %s::name",
        'select t.schemaname, t.tablename, d."column" from pg_tables t join pg_table_def d on true'
        " where t.tablename = d.tablename and t.tablename = %s",
    ],
)
def test_catalog_shows_long_names(connection, sql):
    connection.run(f"set search_path to {SCHEMA}, public")
    _, rows = names_and_rows(connection, sql, TABLE)
    connection.run("set search_path to public")
    assert sorted(rows) == [[SCHEMA, TABLE, "id"], [SCHEMA, TABLE, COLUMN]]


def test_a_union_with_other_names_keeps_long_names(connection):
    sql = "select table_name as name from information_schema.tables where table_name = %s union all select proname from"
    rows = names_and_rows(connection, f"{sql} pg_proc where proname = 'now'", TABLE)[1]
    assert sorted(rows) == [[TABLE], ["now"]]


def test_show_has_long_names(connection):
    assert names_and_rows(connection, f"show tables from schema dev.{SCHEMA}")[1][0][2] == TABLE
    assert names_and_rows(connection, f"show columns from table dev.{SCHEMA}.{TABLE}")[1][1][3] == COLUMN
    [[ddl]] = names_and_rows(connection, f"show table {SCHEMA}.{TABLE}")[1]
    assert f"CREATE TABLE {SCHEMA}.{TABLE} (" in ddl
    assert f"    {COLUMN} character varying(20)" in ddl
    assert f"UNIQUE ({COLUMN})" in ddl


def test_views_show_long_names(connection):
    connection.run(f"create view {SCHEMA}.early as select {COLUMN} from {SCHEMA}.{TABLE}")
    connection.run(f"create view {SCHEMA}.late as select * from {SCHEMA}.{TABLE} with no schema binding")
    connection.run(f"create materialized view {SCHEMA}.stored as select id as {'i' * 64} from {SCHEMA}.{TABLE}")
    sql = "select viewname, definition from pg_views where schemaname = %s"
    views = dict(names_and_rows(connection, sql, SCHEMA)[1])
    assert COLUMN in views["early"]
    assert f"from {SCHEMA}.{TABLE}" in views["late"].lower()
    assert "i" * 64 in views["stored"]
    sql = "select * from pg_get_late_binding_view_cols() cols (s name, v name, c name, t varchar, n int) where s = %s"
    assert [row[2] for row in names_and_rows(connection, sql, SCHEMA)[1]] == ["id", COLUMN]


def test_errors_name_long_names(connection):
    with pytest.raises(redshift_connector.ProgrammingError, match=f'relation "{"z" * 70}" does not exist'):
        connection.run(f"select * from {'Z' * 70}")
    with pytest.raises(redshift_connector.ProgrammingError, match=f'relation "{TABLE}" already exists'):
        connection.run(f"create table {SCHEMA}.{TABLE} (a int)")


def test_names_differ_after_byte_63(connection):
    first, second = "t" * 70 + "1", "t" * 70 + "2"
    connection.run(f"create table {SCHEMA}.{first} as select 1 as a")
    connection.run(f"create table {SCHEMA}.{second} as select 2 as a")
    connection.run(f"alter table {SCHEMA}.{first} rename to {first}0")
    sql = f"select (select a from {SCHEMA}.{first}0), (select a from {SCHEMA}.{second})"
    assert names_and_rows(connection, sql)[1] == [[1, 2]]


def test_privileges_are_asked_by_long_name(connection):
    sql = f"select has_table_privilege('awsuser', '{SCHEMA}.{TABLE}', 'select')"
    assert names_and_rows(connection, sql)[1] == [[True]]


def test_long_keys_of_super_are_not_names(connection):
    key = "k" * 70
    connection.run(f"create table {SCHEMA}.docs (doc super)")
    connection.run(f"""insert into {SCHEMA}.docs select json_parse('{{"{key}": 5}}')""")
    assert names_and_rows(connection, f"select d.doc.{key}::int as n from {SCHEMA}.docs d")[1] == [[5]]


def test_copy_and_unload_use_long_names(connection, redshift_s3):
    names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=redshift_s3["AWS_ENDPOINT_URL"], **names)
    s3.create_bucket(Bucket="long-names")
    s3.put_object(Bucket="long-names", Key="in/1", Body=json.dumps({"id": 2, COLUMN: "y"}))
    connection.run(f"copy {SCHEMA}.{TABLE} from 's3://long-names/in' iam_role default json 'auto'")
    query = f"select * from {SCHEMA}.{TABLE} where id = 2"
    for kind, start in (("csv header", f"id,{COLUMN}\n2,y\n"), ("json", f'{{"id":2,"{COLUMN}":"y"}}\n')):
        connection.run(f"unload ('{query}') to 's3://long-names/{kind[:3]}/' iam_role default format {kind}")
        assert s3.get_object(Bucket="long-names", Key=f"{kind[:3]}/0000_part_00")["Body"].read().decode() == start


def test_long_names_survive_a_restart(start_redshift, tmp_path):
    first = start_redshift(state=tmp_path)
    with first.connect() as session:
        session.autocommit = True
        session.run("create database other")
        session.run(f"create table {TABLE} ({COLUMN} int)")
    stop_warehouse(first)
    second = start_redshift(state=tmp_path)
    with second.connect(database="other") as session:
        session.autocommit = True
        session.run(f"create table t as select 1 as {COLUMN}")
    with second.connect() as session:
        assert names_and_rows(session, "select tablename from pg_tables where schemaname = 'public'")[1] == [[TABLE]]
        assert names_and_rows(session, f"select * from {TABLE}")[0] == [COLUMN]
    with second.connect(database="other") as session:
        assert names_and_rows(session, "select column_name from svv_columns where table_name = 't'")[1] == [[COLUMN]]
