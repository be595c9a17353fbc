"""Translation and its neighbours, without a server."""

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redshift_local.protocol import login, wire
from redshift_local.translate.longtext import rows_of
from redshift_local.translate.translator import translate, translate_long


def sql(text: str) -> str:
    [plan] = translate(text)
    assert not plan.refused, plan.sql
    return plan.sql


@pytest.mark.parametrize(
    ("redshift", "postgres"),
    [
        (r"select 'it\'s', 'a\\b'", r"SELECT 'it''s', 'a\b'"),
        ("select $1, $2::int where a = '$1'", "SELECT $1, CAST($2 AS INT) WHERE a = '$1'"),
        (
            "create table t (a int encode zstd) diststyle all sortkey (a) backup no",
            "DO $b$BEGIN\nCREATE TABLE t (a INT);\nPERFORM pg_redshift.record_storage("
            "'t', 'ALL', '', ARRAY['a']::text[], False, ARRAY['a', 'zstd']::text[]);\nEND$b$",
        ),
        (
            "create table t (a text, b varchar(max), c decimal)",
            "CREATE TABLE t (a VARCHAR(256), b VARCHAR(65535), c DECIMAL(18, 0))",
        ),
        ("select top 3 a from t", "SELECT a FROM t LIMIT 3"),
        ("grant select on t to group g, role r, u", "GRANT select on t to g, r, u"),
        ("set query_group to 'x'", "SET pg_redshift.query_group TO 'x'"),
    ],
)
def test_what_becomes_of_a_statement(redshift, postgres):
    assert sql(redshift) == postgres


def test_statements_of_one_message_are_planned_one_by_one():
    plans = translate("select 1; create table t (a geometry); select ';' -- ; \n; truncate t")
    assert [plan.refused for plan in plans] == [False, True, False, False]
    assert [plan.text.strip() for plan in plans] == [
        "select 1",
        "create table t (a geometry)",
        "select ';'",
        "truncate t",
    ]
    assert plans[3].job is not None


def test_a_password_never_reaches_postgres():
    text = sql("create user u password 'Secret12word'")
    assert "Secret12word" not in text
    assert "sha256|" in text


@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=200))
def test_any_string_survives_the_way_through(value):
    written = value.replace("\\", "\\\\").replace("'", "''")
    wanted = "'" + value.replace("'", "''") + "'"
    short, long = sql(f"select '{written}'"), translate_long(f"select '{written}', '{'x' * 100}'")[0].sql
    assert short == f"SELECT {wanted}"
    assert long == f"SELECT {wanted}, '{'x' * 100}'"
    # What looks like JSON is told to be a string, so that a SUPER column stores it as one.
    row = rows_of(f"insert into t values (1, '{written}')")[1].strip()
    assert row in {f"(1, {wanted})", f"(1, {wanted}::text)"}


def test_an_insert_with_expressions_is_not_taken_for_plain_rows():
    assert rows_of("insert into t values (1, getdate())") is None
    assert rows_of("insert into t values (1) on conflict do nothing") is None
    assert rows_of("insert into t values (1); drop table t") is None


def test_a_large_insert_is_quick():
    text = "insert into t values " + ",".join(f"({number}, 'it\\'s {number}', null)" for number in range(40_000))
    start = time.perf_counter()
    [plan] = translate_long(text)
    assert time.perf_counter() - start < 5
    assert "it''s 39999" in plan.sql


@given(text=st.text(max_size=300))
def test_no_text_breaks_the_translation(text):
    for plan in translate(text):
        assert "internal error" not in plan.sql or plan.refused


@given(data=st.binary(max_size=400))
def test_no_bytes_break_the_framing(data):
    buffer = bytearray(data)
    for _, start, end in wire.complete(buffer):
        assert 0 <= start < end <= len(data)
        if end - start > 10_000:
            break


@given(data=st.binary(max_size=100))
def test_startup_parameters_are_read_or_refused(data):
    try:
        found = wire.parameters_of(data)
    except wire.ProtocolError:
        return
    assert all(isinstance(key, str) for key in found)


def test_passwords():
    kept = login.verifier("Plain1text")
    assert kept.startswith("sha256|")
    assert login.matches(kept, "u", "Plain1text")
    assert not login.matches(kept, "u", "plain1text")
    digest = hashlib.sha256(b"Plain1textsalt").hexdigest()
    assert login.matches(f"sha256|{digest}|salt", "u", "Plain1text")
    assert not login.matches(None, "u", "")
    with pytest.raises(ValueError, match="a number"):
        login.verifier("Plaintextonly")
