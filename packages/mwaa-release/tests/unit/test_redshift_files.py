"""The SQL files as Redshift gets them: variables filled in, quoted, one statement at a time."""

import hashlib

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from audit_report.redshift import WarehouseError
from mwaa_release.errors import SetupError
from mwaa_release.redshift import (
    INFRASTRUCTURE,
    apply_grants,
    password_hash,
    quote_identifier,
    quote_literal,
    statements,
)

VALUES = {
    "dbt_user": "dbt_user",
    "dbt_password": password_hash("Abcdefg1"),
    "readers": "dbt_user_readers",
    "target_schema": "analytics",
    "source_schema": "landing",
    "loading_user": "awsuser",
    "database": "dev",
    "source_url": "s3://landing/nycflights13/x/",
    "source_region": "eu-central-1",
}
FILES = sorted(INFRASTRUCTURE.rglob("*.sql"))


def read_literal(text: str) -> str:
    """What Redshift reads: a backslash takes the next character as it is, two quotes are one."""
    assert text[0] == text[-1] == "'"
    read, rest = "", text[1:-1]
    while rest:
        if rest[0] in "\\'":
            read, rest = read + rest[1], rest[2:]
        else:
            read, rest = read + rest[0], rest[1:]
    return read


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_any_text_survives_as_a_literal(text):
    assert read_literal(quote_literal(text)) == text


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=30))
def test_any_name_survives_as_an_identifier(name):
    assert quote_identifier(name)[1:-1].replace('""', "\0").count('"') == 0
    assert quote_identifier(name)[1:-1].replace('""', '"') == name


@pytest.mark.parametrize("name", ["", "x" * 128, "é" * 64, "a\0b"])
def test_a_name_that_redshift_cannot_hold_is_refused(name):
    with pytest.raises(WarehouseError, match="is not a valid Redshift identifier"):
        quote_identifier(name)


def test_a_literal_with_nul_is_refused():
    with pytest.raises(SetupError, match="NUL"):
        quote_literal("a\0b")


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=30))
def test_no_value_adds_a_statement(value):
    path = INFRASTRUCTURE / "dbt_user.sql"
    expected = len(statements(path, VALUES))
    assert len(statements(path, dict.fromkeys(VALUES, value))) == expected


def test_only_variables_are_filled_in(tmp_path):
    path = tmp_path / "x.sql"
    path.write_text(
        "-- it's :'a' in a comment; no statement\n"
        "select ':b', ':''b', \":c\", x::date, :'a', :\"a\", /* :d */ :k;\n\n;select 2"
    )
    actual = statements(path, {"a": "v;"}, {"k": "default"})
    # Where a comment stood, blanks stay.
    assert [" ".join(statement.split()) for statement in actual] == [
        "select ':b', ':''b', \":c\", x::date, 'v;', \"v;\", default",
        "select 2",
    ]
    with pytest.raises(SetupError, match=r"x\.sql needs the variable a"):
        statements(path, {}, {"k": "default"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_redshift_sql_with_known_variables(path):
    actual = statements(path, VALUES, {"iam_role": "default"})
    assert actual
    for statement in actual:
        # `copy` and some grants are opaque to sqlglot, but it reads their strings and quotes.
        assert sqlglot.parse_one(statement, read="redshift")
        assert ":" not in statement.replace("s3://", "")


def test_the_password_goes_out_as_a_salted_hash():
    method, digest, salt = password_hash("Abcdefg1").split("|")
    assert method == "sha256"
    assert digest == hashlib.sha256(f"Abcdefg1{salt}".encode()).hexdigest()
    assert len(salt) == 32
    assert password_hash("Abcdefg1") != password_hash("Abcdefg1")


@pytest.mark.parametrize("target", ["landing", "LANDING", "public", "pg_catalog"])
def test_a_schema_that_is_not_dbts_is_never_given_away(target):
    with pytest.raises(SetupError, match="choose a target schema that only dbt writes to"):
        apply_grants(None, "dbt_user", "Abcdefg1", "landing", target)


def test_an_empty_password_is_refused():
    with pytest.raises(SetupError, match="password of dbt_user is empty"):
        apply_grants(None, "dbt_user", "")
