"""Macros by themselves: the audit's one list of columns, and the names of schemas."""

import datetime
import functools
import re
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

PROJECT = Path(__file__).parents[4] / "dbt_project"


class Returned(BaseException):
    """Carries what a macro returns, as dbt's own `return` does."""


@functools.cache
def template(file: str, macro: str) -> jinja2.Template:
    """One macro of a file, as a macro named `called`."""
    # What comes out is SQL, not HTML.
    environment = jinja2.Environment(  # noqa: S701
        extensions=["jinja2.ext.do"], undefined=jinja2.ChainableUndefined
    )
    text = (PROJECT / "macros" / file).read_text()
    body = re.search(r"\{% macro " + macro + r"(\(.*?endmacro)", text, re.DOTALL)[1]
    return environment.from_string("{% macro called" + body + " %}")


def call(file: str, macro: str, *arguments, **context):
    """Call a macro as dbt would; gives what it returns, else its text. It only knows the macros of `context`."""

    def give(value):
        raise Returned(value)

    try:
        known = {
            "return": give,
            "tojson": str,
            "zip": zip,
            "execute": True,
            "graph": {"nodes": {}, "sources": {}, "exposures": {}},
            "modules": SimpleNamespace(datetime=datetime, re=re),
            **context,
        }
        return str(template(file, macro).make_module(known).called(*arguments))
    except Returned as returned:
        return returned.args[0]


def audit_columns():
    return call("audit/audit_columns.sql", "audit_columns")[0]


def audit_row(**result):
    result = SimpleNamespace(
        node=SimpleNamespace(unique_id="model.p.m"), **{"adapter_response": {}, "timing": [], **result}
    )
    (row,) = call("audit/audit_columns.sql", "audit_columns", [result], {"invocation_id": "i"})
    return {name: value for name, _, value in row}


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
    assert audit_row(adapter_response={"rows_affected": reported})["rows_affected"] == stored


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
        moments = [datetime.datetime(2026, 1, 1, 0, 0, second) if second else None for second in (first, last)]
        return SimpleNamespace(name=name, started_at=moments[0], completed_at=moments[1])

    row = audit_row(timing=[step("compile", 1, 2), step("execute", 3, 7)])
    assert (row["started_at"].second, row["completed_at"].second) == (1, 7)
    assert (row["compile_seconds"], row["execute_seconds"]) == (1, 4)
    failed = audit_row(timing=[step("compile", 1, 2)])
    assert (failed["started_at"].second, failed["completed_at"].second) == (1, 2)
    assert failed["execute_seconds"] is None
    broken_off = audit_row(timing=[step("compile", 1, 2), step("execute", 3, None)])
    assert (broken_off["completed_at"], broken_off["execute_seconds"]) == (None, None)
    skipped = audit_row()
    assert (skipped["started_at"], skipped["completed_at"], skipped["compile_seconds"]) == (None, None, None)


def lines(row, columns):
    """What SQL would read from the line that parse_dbt_results makes of a row: texts by column, nothing as None."""
    context = {"audit_columns": lambda *results: [row], "local_md5": str}

    def macro(name):
        return lambda *arguments: call("audit/parse_dbt_results.sql", name, *arguments, **context)

    for name in ("cut_audit_text", "escape_audit_cells"):
        context[name] = macro(name)
    (line,) = call("audit/parse_dbt_results.sql", "parse_dbt_results", [None], {}, columns, **context)
    *cells, rest = line.split("\x1f")
    assert rest == ""
    read = {}
    for name, cell in zip(columns, cells, strict=True):
        # As on Redshift, trailing spaces do not count.
        value = None if cell.rstrip(" ") == "None" else cell
        for digit, character in (("3", ""), ("2", "\x1f"), ("1", "\x1e"), ("0", "\x1b")):
            value = value and value.replace(f"\x1b{digit}", character)
        read[name] = value
    return read


@pytest.mark.parametrize(
    "text", ["", "None", "None  ", " None", "\x1b", "\x1b3None\x1f", "a\x1e\x1fb\x1b0", "none", "é", "x" * 9]
)
def test_a_text_is_read_as_it_was_written(text):
    row = [("a", "varchar(9)", None), ("b", "varchar(9)", text), ("left_out", "varchar(9)", "z"), ("c", "bigint", 12)]
    assert lines(row, {"a": 9, "b": 9, "c": None}) == {"a": None, "b": text, "c": "12"}


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters() | st.sampled_from("\x1b\x1e\x1f0123 None"), max_size=30), st.integers(1, 40))
def test_any_text_is_read_as_it_was_written_or_cut_between_characters(text, width):
    stored = lines([("a", "varchar(40)", text)], {"a": width})["a"]
    expected = text.replace("\0", "").encode("utf-8", "replace").decode()
    assert len(stored.encode()) <= width
    assert expected.startswith(stored)
    # Not a character less than fits.
    assert stored == expected or len(expected[: len(stored) + 1].encode()) > width


@pytest.mark.parametrize(("text", "stored"), [("x" * 10, "x" * 9), ("é" * 5, "é" * 4), ("a\0b", "ab"), ("\ud800", "?")])
def test_a_text_is_cut_to_what_redshift_can_store(text, stored):
    assert lines([("b", "varchar(9)", text)], {"b": 9}) == {"b": stored}


@pytest.mark.parametrize(("count", "length"), [(1, 1), (100, 1), (101, 1), (1000, 700), (3, 60_000), (2, 70_000)])
def test_packages_hold_all_lines_and_no_more_than_redshift_takes(count, length):
    def pack(lines):
        return call("audit/log_audit_table.sql", "pack_audit_lines", lines, pack_audit_lines=pack)

    packed = [f"{number}".ljust(length, "é")[:length] for number in range(count)]
    packages = pack(packed)
    assert "\x1e".join(packages).split("\x1e") == packed
    for package in packages:
        assert package.count("\x1e") < 100
        assert len(package.encode()) <= 65_535 or "\x1e" not in package
