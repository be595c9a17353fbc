"""Macros by themselves: the audit's one list of columns, and the names of schemas."""

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import yaml

PROJECT = Path(__file__).parents[3] / "dbt_project"


class Returned(BaseException):
    """Carries what a macro returns, as dbt's own `return` does."""


def call(file: str, macro: str, *arguments, **context):
    """Call a macro as dbt would; gives what it returns, else its text."""

    def give(value):
        raise Returned(value)

    # What comes out is SQL, not HTML.
    environment = jinja2.Environment(  # noqa: S701
        extensions=["jinja2.ext.do"], undefined=jinja2.ChainableUndefined
    )
    template = environment.from_string((PROJECT / "macros" / file).read_text())
    try:
        return str(getattr(template.make_module({"return": give, "tojson": str, **context}), macro)(*arguments))
    except Returned as returned:
        return returned.args[0]


def audit_columns(*arguments):
    return call("audit/audit_columns.sql", "audit_columns", *arguments)


def test_the_first_ten_columns_of_the_audit_table_are_fixed():
    assert [(name, type_) for name, type_, _ in audit_columns()][:10] == [
        ("load_id", "varchar(1024)"),
        ("invocation_id", "varchar(64)"),
        ("database_name", "varchar(128)"),
        ("schema_name", "varchar(128)"),
        ("name", "varchar(512)"),
        ("resource_type", "varchar(32)"),
        ("status", "varchar(32)"),
        ("execution_time", "double precision"),
        ("rows_affected", "bigint"),
        ("model_execution_date", "date"),
    ]


def test_the_documentation_has_the_columns_in_their_order():
    (model,) = yaml.safe_load((PROJECT / "models/audit/audit_table.yml").read_text())["models"]
    assert [column["name"] for column in model["columns"]] == [name for name, _, _ in audit_columns()]


def test_the_longest_row_fits_into_a_package_and_a_full_insert_into_a_statement():
    types = [type_ for _, type_, _ in audit_columns()]
    row = sum(int(type_[8:-1]) if type_.startswith("varchar(") else 32 for type_ in types)
    # Escaping doubles a text at most. 65,535 bytes are Redshift's longest value, 16 MB its longest statement.
    assert 2 * row < 65535
    assert 200 * 65535 + 2 * row < 16 * 1024 * 1024


@pytest.mark.parametrize(("reported", "stored"), [(-1, None), (0, 0), (336776, 336776), (None, None)])
def test_rows_affected_minus_one_means_not_known(reported, stored):
    result = SimpleNamespace(node=None, adapter_response={"rows_affected": reported}, timing=[])
    assert {name: value for name, _, value in audit_columns(result)}["rows_affected"] == stored


class RefusedError(Exception):
    pass


def schema_name(target, schema, custom):
    def refuse(message):
        raise RefusedError(message)

    return call(
        "generate_schema_name.sql",
        "generate_schema_name",
        custom,
        None,
        target=SimpleNamespace(name=target, schema=schema),
        var={"prod_schema": "analytics"}.get,
        exceptions=SimpleNamespace(raise_compiler_error=refuse),
    ).strip()


@pytest.mark.parametrize(
    ("target", "schema", "custom", "expected"),
    [
        ("prod", "analytics", None, "analytics"),
        ("prod", "analytics", "marketing", "marketing"),
        ("ci", "ci_pull_7", None, "ci_pull_7"),
        ("ci", "ci_pull_7", " marketing ", "ci_pull_7_marketing"),
        ("dev", "an", "alytics", "an_alytics"),
    ],
)
def test_schemas_never_meet(target, schema, custom, expected):
    assert schema_name(target, schema, custom) == expected


@pytest.mark.parametrize(("schema", "custom"), [("analytics", None), ("Analytics", "x")])
def test_no_other_target_reaches_the_production_schema(schema, custom):
    with pytest.raises(RefusedError, match="var prod_schema"):
        schema_name("dev", schema, custom)


def test_times_of_steps_are_those_of_compiling_and_running():
    def step(name, first, last):
        return SimpleNamespace(
            name=name, started_at=datetime(2026, 1, 1, 0, 0, first), completed_at=datetime(2026, 1, 1, 0, 0, last)
        )

    result = SimpleNamespace(node=None, adapter_response={}, timing=[step("compile", 1, 2), step("execute", 3, 7)])
    row = {name: value for name, _, value in audit_columns(result)}
    assert (row["started_at"].second, row["completed_at"].second) == (1, 7)
    failed = SimpleNamespace(node=None, adapter_response={}, timing=[step("compile", 1, 2)])
    row = {name: value for name, _, value in audit_columns(failed)}
    assert (row["started_at"].second, row["completed_at"].second) == (1, 2)
    assert row["execute_seconds"] is None
