"""Tables of another database of the same server: `database.schema.table`, and USE."""

import threading

import psycopg
import pytest
import redshift_connector

OTHER = "other-shop"


@pytest.fixture(scope="module")
def here(warehouse):
    with warehouse.connect() as session:
        session.autocommit = True
        session.run(f'create database "{OTHER}"')
        with warehouse.connect(database=OTHER) as other:
            other.autocommit = True
            other.run("create schema sales")
            other.run("create table sales.orders (id int, amount numeric(8, 2), note varchar(20), details super)")
            other.run("insert into sales.orders values (1, 2.50, 'tab\\there', json_parse('{\"a\": [1]}'))")
            other.run("insert into sales.orders values (2, null, '', null)")
            other.run("create view sales.late as select id from sales.orders with no schema binding")
        session.run("create schema shop")
        session.run("create table shop.customers as select 1 as order_id, 'Ann' as name")
        yield session
        session.run("drop schema shop cascade")
        session.run(f'drop database "{OTHER}"')


def test_rows_and_types_are_those_of_the_other_database(here):
    with here.cursor() as cursor:
        cursor.execute(f'select * from "{OTHER}".sales.orders order by 1')
        assert [column[0] for column in cursor.description] == ["id", "amount", "note", "details"]
        assert [[str(value) for value in row] for row in cursor.fetchall()] == [
            ["1", "2.50", "tab\there", '{"a":[1]}'],
            ["2", "None", "", "None"],
        ]


def test_tables_of_two_databases_are_joined(here):
    sql = f"""select c.name, orders.id, o2.amount from dev.shop.customers c
        join "{OTHER}".sales.orders on orders.id = c.order_id
        join "{OTHER}".sales.orders o2 on o2.id = (select max(id) - 1 from "{OTHER}".sales.late)"""
    assert here.run(sql) == (["Ann", 1, 2.5],)


def test_a_table_is_filled_from_another_database_inside_a_transaction(here, warehouse):
    with warehouse.connect() as session:  # autocommit is off
        session.run(f'create table shop.copied as select id from "{OTHER}".sales.orders')
        with session.cursor() as cursor:
            cursor.execute(f'insert into shop.copied select id + %s from "{OTHER}".sales.orders', (10,))
        with warehouse.connect(database=OTHER) as other:
            other.run("insert into sales.orders (id) values (3)")
            other.commit()
        assert session.run(f'select count(*) from "{OTHER}".sales.orders') == ([3],)
        assert session.run("select sum(id) from shop.copied") == ([26],)
        session.rollback()
    with warehouse.connect(database=OTHER) as other:
        other.run("delete from sales.orders where id = 3")
        other.commit()


def test_late_binding_view_reads_the_other_database(here, warehouse):
    query = f'select id, amount from "{OTHER}".sales.orders o'
    here.run(f"create view shop.sold_there as {query} with no schema binding")
    joined = "select v.id, c.name from shop.sold_there v join shop.customers c on c.order_id = v.id"
    assert here.run(joined) == ([1, "Ann"],)
    here.run("create table shop.from_view as select * from dev.shop.sold_there")
    assert here.run("select sum(amount) from dev.shop.from_view") == ([2.5],)
    with warehouse.connect(database=OTHER) as other:
        other.run("insert into sales.orders (id) values (3)")
        other.commit()
        assert here.run("select count(*) from shop.sold_there") == ([3],)
        other.run("delete from sales.orders where id = 3")
        other.commit()
    [[definition]] = here.run("select pg_get_viewdef('shop.sold_there'::regclass)")
    assert f'"{OTHER}".sales.orders' in definition
    here.run("create view shop.outer_view as select id from shop.sold_there with no schema binding")
    for sql in ("select * from shop.outer_view", "create view shop.bound_view as select * from shop.sold_there"):
        with pytest.raises(redshift_connector.Error, match="not supported by the local warehouse: a view over a late"):
            here.run(sql)


def test_long_statement_reads_the_other_database(here):
    text = "x" * 40_000
    assert here.run(f"select id, len('{text}') from \"{OTHER}\".sales.orders where note <> '{text}' and id = 1") == (
        [1, 40_000],
    )


def test_show_describes_the_other_database(here):
    assert [row[1] for row in here.run(f"show schemas from database \"{OTHER}\" like 'sal%'")] == ["sales"]
    assert [row[2] for row in here.run(f'show tables from schema "{OTHER}".sales')] == ["late", "orders"]
    assert [row[3] for row in here.run(f'show columns from table "{OTHER}".sales.orders')] == [
        "id",
        "amount",
        "note",
        "details",
    ]
    assert "amount numeric(8,2)" in here.run(f'show table "{OTHER}".sales.orders')[0][0]


def test_views_about_all_databases_show_the_named_one(here):
    # Other tests have tables of these names in other schemas.
    columns = (
        "select column_name from svv_redshift_columns "
        "where database_name = '{}' and schema_name = '{}' and table_name = '{}' order by ordinal_position"
    )
    assert [row[0] for row in here.run(columns.format(OTHER, "sales", "orders"))] == ["id", "amount", "note", "details"]
    assert [row[0] for row in here.run(columns.format("dev", "shop", "customers"))] == ["order_id", "name"]
    assert here.run(columns.format("nowhere", "sales", "orders")) == ()
    tables = f"select t.table_name from svv_all_tables t where t.schema_name = 'sales' and t.database_name = '{OTHER}'"
    assert sorted(here.run(f"select * from ({tables}) s")) == [["late"], ["orders"]]


def test_show_takes_bound_names(here):
    with here.cursor() as cursor:
        for database, schema, table in ((OTHER, "sales", "orders"), ("dev", "shop", "customers")) * 2:
            cursor.execute("show tables from schema %s.%s like %s limit %s", (database, schema, table, 5))
            assert [row[:3] for row in cursor.fetchall()] == [[database, schema, table]]
        with pytest.raises(redshift_connector.Error, match='database "nowhere" does not exist'):
            cursor.execute("show schemas from database %s", ("nowhere",))
        with pytest.raises(redshift_connector.Error, match="a bound value of SHOW is null"):
            cursor.execute("show schemas from database %s", (None,))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (f'select * from "{OTHER}".sales.missing', 'relation "sales.missing" does not exist'),
        (f'create view shop.v as select * from "{OTHER}".sales.orders', "tables of another database"),
    ],
)
def test_what_is_not_supported_is_refused(here, sql, message):
    with pytest.raises(redshift_connector.Error, match=message):
        here.run(sql)


def test_privileges_are_those_of_the_user(here, warehouse):
    here.run("create user visitor password 'Abcdef123'")
    try:
        with (
            warehouse.connect(user="visitor", password="Abcdef123") as session,
            pytest.raises(redshift_connector.Error, match="permission denied for schema sales"),
        ):
            session.run(f'select * from "{OTHER}".sales.orders')
    finally:
        here.run("drop user visitor")


@pytest.fixture
def elsewhere(here, warehouse):
    with warehouse.connect() as session:
        session.autocommit = True
        session.run(f'use "{OTHER}"')
        yield session


def test_use_changes_the_database_until_reset_use(elsewhere):
    assert elsewhere.run("show use") == ([OTHER],)
    assert elsewhere.run("select count(*) from sales.orders") == ([2],)
    elsewhere.run(f'create table "{OTHER}".sales.made as select name from dev.shop.customers')
    elsewhere.run("insert into sales.made values ('Bob')")
    elsewhere.run("reset use")
    assert elsewhere.run("show use") == ([""],)
    assert elsewhere.run("select count(*) from shop.customers") == ([1],)
    assert elsewhere.run(f'select count(*) from "{OTHER}".sales.made') == ([2],)


def test_statements_prepared_before_use_are_prepared_again(elsewhere):
    for database in ("dev", OTHER, "dev"):
        elsewhere.run(f'use "{database}"')
        with elsewhere.cursor() as cursor:  # the connector prepares a statement once
            cursor.execute("select current_database(), %s", (1,))
            assert cursor.fetchone() == [database, 1]


def test_use_of_an_unknown_database_keeps_the_current_one(elsewhere):
    with pytest.raises(redshift_connector.Error, match='database "nowhere" does not exist'):
        elsewhere.run("use nowhere")
    assert elsewhere.run("select count(*) from sales.orders") == ([2],)


def test_use_commits_the_transaction_and_begins_another(here, warehouse):
    with warehouse.connect() as session:  # autocommit is off
        session.run("create table shop.before_use (a int)")
        session.run(f'use "{OTHER}"')
        session.run("create table sales.after_use (a int)")
        session.rollback()
        session.run("reset use")
        assert session.run("select count(*) from shop.before_use") == ([0],)
    with warehouse.connect(database=OTHER) as other:
        assert other.run("select count(*) from svv_tables where table_name = 'after_use'") == ([0],)


def test_use_in_a_failed_transaction_is_refused(here, warehouse):
    with warehouse.connect() as session:
        with pytest.raises(redshift_connector.Error, match="nowhere"):
            session.run("select * from shop.nowhere")
        with pytest.raises(redshift_connector.Error, match="current transaction is aborted"):
            session.run(f'use "{OTHER}"')


def test_statement_after_use_can_be_cancelled(here, warehouse):
    url = f"host=127.0.0.1 port={warehouse.port} user=awsuser dbname=dev sslmode=disable"
    with psycopg.connect(url, password=warehouse.password, autocommit=True) as client:
        client.execute(f'use "{OTHER}"')
        timer = threading.Timer(0.5, client.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(30)")


def test_statements_change_tables_and_schemas_of_another_database(here):
    here.run(f'create schema if not exists "{OTHER}".made')
    here.run(f'create table "{OTHER}".made.t (name varchar(10), n int)')
    here.run(f'insert into "{OTHER}".made.t select name, 1 from dev.shop.customers')
    with here.cursor() as cursor:
        cursor.execute(f"""insert into "{OTHER}".made.t values ('Bob', 2), ('Cy', 3)""")
        assert cursor.rowcount == 2
    here.run(f"update \"{OTHER}\".made.t set n = n + 10 where name = 'Ann'")
    here.run(f'delete from "{OTHER}".made.t where n = 3')
    assert here.run(f'select name, n from "{OTHER}".made.t order by 1') == (["Ann", 11], ["Bob", 2])
    assert here.run("show use") == ([""],)
    here.run(f'drop table "{OTHER}".made.t')
    here.run(f'drop schema "{OTHER}".made')
    with pytest.raises(redshift_connector.Error, match='schema "made" does not exist'):
        here.run(f'create table "{OTHER}".made.t (a int)')


def test_changes_of_another_database_name_the_tables_they_read(here):
    with pytest.raises(redshift_connector.Error, match="tables of two databases"):
        here.run(f'insert into "{OTHER}".sales.orders (id) select order_id from shop.customers')


def test_failed_change_of_another_database_fails_the_transaction(warehouse, here):
    with warehouse.connect() as session:  # autocommit is off
        with pytest.raises(redshift_connector.Error, match="nowhere"):
            session.run(f'insert into "{OTHER}".sales.nowhere values (1)')
        with pytest.raises(redshift_connector.Error, match="current transaction is aborted"):
            session.run("select 1")
        session.rollback()
        assert session.run("show use") == ([""],)
        assert session.run("select count(*) from shop.customers") == ([1],)
