"""Login, passwords, and the start of a session."""

import hashlib

import pytest
import redshift_connector


@pytest.fixture
def admin(warehouse):
    connection = warehouse.connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
        for name in ("login_a", "login_b", "login_c"):
            cursor.execute(f"drop user if exists {name}")
    connection.close()


def test_queries_accept_bound_values(admin):
    admin.execute("select %s::int + 1, %s", (41, "it's"))
    assert admin.fetchone() == [42, "it's"]


def test_queries_accept_more_values_than_they_use(admin):
    """redshift_connector 2.1.15, test_execute_do_parsing_bind_params_when_exist."""
    admin.execute("select %s", "hello")
    assert admin.fetchone() == ["h"]


@pytest.mark.parametrize(
    "password",
    [
        "Plain1text",
        f"sha256|{hashlib.sha256(b'Plain1textsalt').hexdigest()}|salt",
        "md5" + hashlib.md5(b"Plain1textlogin_a").hexdigest(),  # noqa: S324 - Redshift's own form
    ],
    ids=["clear", "sha256", "md5"],
)
def test_passwords_work_in_every_format(warehouse, admin, password):
    admin.execute(f"create user login_a password '{password}'")
    with warehouse.connect("login_a", "Plain1text") as connection:
        assert connection.run("select current_user")[0] == ["login_a"]
    with pytest.raises(redshift_connector.Error, match='password authentication failed for user "login_a"'):
        warehouse.connect("login_a", "Plain1texT")


def test_changed_password_replaces_the_old_one(warehouse, admin):
    admin.execute("create user login_b password 'First1word'")
    admin.execute("alter user login_b password 'Second2word'")
    with pytest.raises(redshift_connector.Error, match="password authentication failed"):
        warehouse.connect("login_b", "First1word")
    warehouse.connect("login_b", "Second2word").close()


def test_rolled_back_user_cannot_log_in(warehouse):
    with warehouse.connect() as connection:
        connection.run("create user login_c password 'Plain1text'")
        connection.rollback()
    with pytest.raises(redshift_connector.Error, match="password authentication failed"):
        warehouse.connect("login_c", "Plain1text")


def test_verifiers_are_hidden_from_plain_users(warehouse, admin):
    admin.execute("create user login_a password 'Plain1text'")
    with (
        warehouse.connect("login_a", "Plain1text") as connection,
        pytest.raises(redshift_connector.Error, match="permission denied"),
    ):
        connection.run("select rolpassword from pg_authid")


def test_user_cannot_set_the_password_of_another(warehouse, admin):
    admin.execute("create user login_a password 'Plain1text'")
    with (
        warehouse.connect("login_a", "Plain1text") as connection,
        pytest.raises(redshift_connector.Error, match="permission denied"),
    ):
        connection.run("alter user awsuser password 'Other1text'")


def test_weak_passwords_are_refused(admin):
    with pytest.raises(redshift_connector.Error, match="between 8 and 64 characters"):
        admin.execute("create user login_a password 'Ab1'")


def test_unknown_database_is_refused(warehouse):
    with pytest.raises(redshift_connector.Error, match='database "nowhere" does not exist'):
        warehouse.connect(database="nowhere")


def test_database_can_be_dropped_after_clients_disconnected(warehouse, admin):
    admin.execute("create database used_once")
    with warehouse.connect(database="used_once") as connection:
        connection.run("select 1")
        # The warehouse writes the query history over its own connection.
        assert connection.run("select count(*) > 0 from sys_query_history")[0] == [True]
    admin.execute("drop database used_once")
    admin.execute("select count(*) from pg_database where datname = 'used_once'")
    assert admin.fetchone() == [0]


def test_default_privileges_apply_to_later_tables(warehouse, admin):
    admin.execute("create user login_a password 'Plain1text'")
    admin.execute("create schema later")
    admin.execute("grant usage on schema later to login_a")
    admin.execute("alter default privileges in schema later grant select on tables to login_a")
    admin.execute("create table later.t (a int)")
    with warehouse.connect("login_a", "Plain1text") as connection:
        assert connection.run("select count(*) from later.t")[0] == [0]
        with pytest.raises(redshift_connector.Error, match="permission denied"):
            connection.run("insert into later.t values (1)")
    admin.execute("drop schema later cascade")


def test_views_are_listed_after_the_table_of_a_late_binding_view_changes(admin):
    admin.execute("create schema if not exists listed")
    for _ in range(2):
        admin.execute("drop table if exists listed.t")
        admin.execute("create table listed.t (a integer)")
        admin.execute("create or replace view listed.late as select a from listed.t with no schema binding")
        admin.execute("drop table listed.t")
        for catalog in ("pg_views where schemaname", "information_schema.views where table_schema"):
            admin.execute(f"select * from {catalog} = 'listed'")
            (row,) = admin.fetchall()
            assert "listed.t" in str(row)
    admin.execute("drop schema listed cascade")


def test_equality_joins_use_no_nested_loops(admin):
    """PostgreSQL's own choice for two tables of which it expects one row each."""
    few, one = "(select 1 as id union select 2)", "(select oid as id from pg_class limit 1)"
    admin.execute(f"explain select * from {one} as a join {one} as b on a.id = b.id")
    plan = "\n".join(line for (line,) in admin.fetchall())
    assert "Join" in plan
    assert "Nested Loop" not in plan
    admin.execute(f"select count(*) from {few} as a cross join {few} as b")
    assert admin.fetchone() == [4]
