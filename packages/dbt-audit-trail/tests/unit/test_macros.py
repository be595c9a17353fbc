"""Unit tests of the audit trail's macros: columns, rows as JSON, chunks."""

import datetime
import functools
import hashlib
import itertools
import json
import re
from types import SimpleNamespace

import jinja2
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_report import DBT_PACKAGE


class Returned(BaseException):
    """Carries the value that a macro returns, like dbt's `return`."""


@functools.cache
def template(file: str, macro: str) -> jinja2.Template:
    """Return a macro of a file as a template with a macro named `called`."""
    # The output is SQL, not HTML.
    environment = jinja2.Environment(  # noqa: S701
        extensions=["jinja2.ext.do"], undefined=jinja2.ChainableUndefined
    )
    text = (DBT_PACKAGE / "macros" / file).read_text()
    body = re.search(r"\{% macro " + macro + r"(\(.*?endmacro)", text, re.DOTALL)[1]
    return environment.from_string("{% macro called" + body + " %}")


def call(file: str, macro: str, *arguments, **context):
    """Call a macro as dbt does, and return its return value or its text."""

    def give(value):
        raise Returned(value)

    other_macros = {
        name: functools.partial(call, "parse_dbt_results.sql", name) for name in ("clean_audit_row", "cut_audit_text")
    }
    context_values = {
        "return": give,
        "tojson": json.dumps,
        "graph": {"nodes": {}, "sources": {}, "exposures": {}},
        "modules": SimpleNamespace(datetime=datetime),
        "local_md5": lambda text: hashlib.md5(text.encode("utf-8", "replace")).hexdigest(),  # noqa: S324
        "audit_trail": SimpleNamespace(**other_macros),
        **context,
    }
    try:
        return str(template(file, macro).make_module(context_values).called(*arguments))
    except Returned as returned:
        return returned.args[0]


def audit_columns() -> dict[str, str]:
    return call("audit_columns.sql", "audit_columns")


def audit_rows(results, widths=None) -> list[dict]:
    """Return the rows that Redshift reads from the JSON of these results."""
    run = {"invocation_id": "i"}
    return [json.loads(row) for row in call("parse_dbt_results.sql", "parse_dbt_results", results, run, widths or {})]


def audit_row(widths=None, unique_id="model.p.m", **result) -> dict:
    node = SimpleNamespace(unique_id=unique_id)
    (row,) = audit_rows([SimpleNamespace(node=node, **{"adapter_response": {}, "timing": [], **result})], widths)
    return row


def stored(text: str, width: int) -> str:
    """Return a message after it was stored through JSON in a column of this many bytes."""
    return audit_row({"message": width}, message=text)["message"]


def test_first_ten_audit_columns_are_fixed():
    assert list(audit_columns().items())[:10] == [
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


def test_documentation_lists_columns_in_order():
    (model,) = yaml.safe_load((DBT_PACKAGE / "models/audit_table.yml").read_text())["models"]
    assert [column["name"] for column in model["columns"]] == list(audit_columns())


def test_rows_and_shared_values_fill_every_column():
    shared = set(
        re.findall(
            r"^        '(\w+)': ",
            (DBT_PACKAGE / "macros/audit_columns.sql").read_text().split("macro audit_run")[1],
            re.M,
        )
    )
    # The rows of sources have it as their severity.
    shared.remove("source_severity")
    row_columns = set(audit_row())
    assert row_columns | shared == set(audit_columns())
    assert row_columns & shared == set()


def test_longest_row_fits_into_a_chunk():
    row_columns = audit_row()
    widths = {name: int(type_[8:-1]) for name, type_ in audit_columns().items() if type_.startswith("varchar")}
    # A quote takes two bytes in JSON. Redshift's limits are 65,535 bytes for a value, 16 MB for a statement.
    longest = sum(len(name) + 8 + 2 * widths.get(name, 16) for name in row_columns)
    assert longest + 2 < 65_535
    assert 200 * 65_535 + sum(widths.values()) < 16 * 1024 * 1024


@pytest.mark.parametrize(("reported", "recorded"), [(-1, None), (0, 0), (336776, 336776), (None, None)])
def test_unknown_rows_affected_is_null(reported, recorded):
    assert audit_row(adapter_response={"rows_affected": reported})["rows_affected"] == recorded


def test_step_times_come_from_compile_and_execute():
    def step(name, first, last):
        moments = [datetime.datetime(2026, 1, 1, 0, 0, second) if second else None for second in (first, last)]
        return SimpleNamespace(name=name, started_at=moments[0], completed_at=moments[1])

    row = audit_row(timing=[step("compile", 1, 2), step("execute", 3, 7)])
    assert (row["started_at"], row["completed_at"]) == ("2026-01-01 00:00:01", "2026-01-01 00:00:07")
    assert (row["compile_seconds"], row["execute_seconds"]) == (1, 4)
    failed = audit_row(timing=[step("compile", 1, 2)])
    assert (failed["started_at"], failed["completed_at"]) == ("2026-01-01 00:00:01", "2026-01-01 00:00:02")
    assert failed["execute_seconds"] is None
    interrupted = audit_row(timing=[step("compile", 1, 2), step("execute", 3, None)])
    assert (interrupted["completed_at"], interrupted["execute_seconds"]) == (None, None)
    skipped = audit_row()
    assert (skipped["started_at"], skipped["completed_at"], skipped["compile_seconds"]) == (None, None, None)


@pytest.mark.parametrize(
    "text", ["", "null", "None", '"', "\\", "\\u0000", "a\tb\r\nc\b\f", "\x7f", "é", "🛩️", "x" * 9, '{"a": []}']
)
def test_text_is_stored_unchanged(text):
    assert stored(text, 20) == text


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters() | st.sampled_from('\\u"\n\b\x1f é🛩'), max_size=30), st.integers(1, 40))
def test_any_text_is_stored_or_cut_between_characters(text, width):
    stored_text = stored(text, width)
    expected = re.sub(r"[\0-\x07\x0b\x0e-\x1f]", "", text).encode("utf-8", "replace").decode()
    assert len(stored_text.encode()) <= width
    assert expected.startswith(stored_text)
    # As many characters as possible are stored.
    assert stored_text == expected or len(expected[: len(stored_text) + 1].encode()) > width


@pytest.mark.parametrize(
    ("text", "stored_text"), [("x" * 10, "x" * 9), ("é" * 5, "é" * 4), ("a\0b\x1bc", "abc"), ("\ud800", "?")]
)
def test_text_is_cut_to_what_redshift_can_store(text, stored_text):
    assert stored(text, 9) == stored_text


def test_json_contains_characters_without_escapes():
    # It is not documented whether Redshift joins the two halves of an escaped surrogate pair.
    (row,) = call(
        "parse_dbt_results.sql",
        "parse_dbt_results",
        [SimpleNamespace(node=SimpleNamespace(unique_id="m"), message="🛩 \x00\x01", timing=[], adapter_response={})],
        {"invocation_id": "i"},
        {"message": 99},
    )
    assert "🛩" in row
    assert "\\u" not in row


def test_long_keys_stay_unique():
    ids = [f"model.p.{'x' * 2000}{number}" for number in range(2)]
    keys = [audit_row({"load_id": 1024}, unique_id=unique_id)["load_id"] for unique_id in ids]
    assert {len(key) for key in keys} == {1024}
    assert len(set(keys)) == 2


@pytest.mark.parametrize(("count", "length"), [(1, 1), (1000, 700), (3, 40_000), (2, 65_531), (7, 0)])
def test_chunks_contain_all_rows_within_redshifts_limit(count, length):
    rows = [json.dumps(f"{number}" + "é" * (length // 2), ensure_ascii=False) for number in range(count)]
    chunks = call("log_audit_table.sql", "audit_chunks", rows)
    assert [row for chunk in chunks for row in json.loads(chunk)] == [json.loads(row) for row in rows]
    assert all(len(chunk.encode()) <= 65_535 for chunk in chunks)
    # Each chunk is full: the next row does not fit.
    for chunk, following in itertools.pairwise(chunks):
        assert len(chunk.encode()) + len(json.dumps(json.loads(following)[0], ensure_ascii=False).encode()) + 1 > 65_535
