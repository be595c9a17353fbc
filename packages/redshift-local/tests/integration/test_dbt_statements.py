"""Statements of the dbt adapter and of common dbt packages that test_dbt.py does not run."""

import pytest
import redshift_connector


@pytest.fixture
def run(warehouse):
    with warehouse.connect() as connection:
        connection.autocommit = True
        yield lambda sql: [list(row) for row in connection.run(sql) or []]


def test_schemas_can_be_qualified_with_the_database(run):
    run('create schema if not exists "dev"."dbt_prefixed"')
    run('drop schema if exists "dev"."dbt_prefixed" cascade')
    assert run("select count(*) from pg_namespace where nspname = 'dbt_prefixed'") == [[0]]


@pytest.mark.parametrize(
    "statement",
    [
        'create schema if not exists "elsewhere"."dbt_prefixed"',
        'drop schema if exists "elsewhere"."public" cascade',
        'create table "elsewhere".public.t (i int)',
    ],
)
def test_unknown_database_is_refused(run, statement):
    with pytest.raises(redshift_connector.ProgrammingError, match='database "elsewhere" does not exist'):
        run(statement)


def test_query_group_can_be_shown(run):
    run("set query_group to 'nightly'")
    assert run("select current_setting('query_group')") == [["nightly"]]
    run("reset query_group")
    assert run("select current_setting('query_group')") == [["default"]]
    assert run("show query_group") == [["default"]]


def test_where_can_use_an_alias_of_the_select_list(run):
    """`get_relations_by_pattern` of dbt_utils uses such an alias."""
    rows = run(
        "select distinct table_schema as s, 'x' as kind from information_schema.tables where s = 'pg_catalog'"
        " union all select schemaname as table_schema, 'external' from svv_external_tables where table_schema = 'none'"
    )
    assert rows == [["pg_catalog", "x"]]


def test_quoted_names_are_folded_to_lower_case(run):
    """https://docs.aws.amazon.com/redshift/latest/dg/r_names.html; dbt_audit_helper quotes names in capitals."""
    run('create temp table "Folded" ("ID" int, "Two Words" int)')
    run('insert into folded (id, "TWO WORDS") values (1, 2)')
    assert run('select f."Id", "two words" from "FOLDED" as f where "iD" = 1') == [[1, 2]]


def test_dollar_quoted_text_has_no_parameters(run):
    """dbt writes descriptions like this."""
    run("create temp table described (i int)")
    run("comment on table described is $dbt$costs $1, or $$2$dbt$")
    assert run("select obj_description('described'::regclass)") == [["costs $1, or $$2"]]


def test_sql_functions_can_be_created_and_called(run):
    """dbt's resource type `function` creates functions. https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_FUNCTION.html"""
    create = 'create or replace function "dev"."public"."dbt_days" (date, varchar(10)) returns integer immutable as'
    run(f"{create} $$ select datediff(day, $1, nvl($2, '2024-01-31')::date) $$ language sql")
    run("grant execute on function public.dbt_days(date, varchar(10)) to public")
    assert run("select public.dbt_days('2024-01-01', null), dbt_days('2024-01-01'::date, '2024-01-03')") == [[30, 2]]
    with pytest.raises(redshift_connector.ProgrammingError, match="without FROM"):
        run(f"{create} $$ select count(*) from pg_class $$ language sql")
    run("drop function public.dbt_days(date, varchar(10))")


def test_catalog_shows_when_rows_were_inserted(run):
    """dbt reads the freshness of sources without `loaded_at_field` from this column."""
    run("create schema if not exists arrivals")
    run("create table arrivals.made as select 1 as i")
    run("insert into arrivals.made values (2), (3)")
    steps = run(
        "select step_name, output_rows from sys_query_detail d join pg_class c on c.oid = d.table_id"
        " where c.relname = 'made' order by start_time"
    )
    assert steps == [["insert", None], ["insert", 2]]
    run("drop schema arrivals cascade")


def test_temporary_table_can_have_a_long_name(run):
    """dbt's unit tests create such tables and read their columns from the catalog."""
    name = "test_order_items_compute_to_bools_correctly__dbt_tmp133136742644"
    run(f'create temporary table "{name}" as (select 1 as a)')
    run(f'create temporary table "{name}5" as (select 2 as b)')
    assert run(f'select t.* from "{name.upper()}" as t') == [[1]]
    assert run(f"select column_name from information_schema.columns where table_name = '{name}5'") == [["b"]]
    run(f'drop table if exists "{name}" cascade')
    assert run(f"select b, '{name}' from {name}5") == [[2, name]]
    create = f'create view "dev"."public"."{name}__dbt_tmp" as select 1 as i with no schema binding'
    for statement in (create, f"alter table public.{name}__dbt_tmp rename to short_again", "drop view short_again"):
        run(statement)
