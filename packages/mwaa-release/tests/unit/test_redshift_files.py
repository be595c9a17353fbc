"""The SQL files are sent to Redshift one statement at a time, with quoted values for their variables."""

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
    "consumers": "analytics_consumers",
    "target_schema": "analytics",
    "source_schema": "landing",
    "loading_user": "awsuser",
    "database": "dev",
    "source_table": "flights",
}
FILES = sorted(INFRASTRUCTURE.rglob("*.sql"))


def read_literal(text: str) -> str:
    """Parse a literal as Redshift does: a backslash escapes the next character, and two quotes are one quote."""
    assert text[0] == text[-1] == "'"
    result, rest = "", text[1:-1]
    while rest:
        if rest[0] in "\\'":
            result, rest = result + rest[1], rest[2:]
        else:
            result, rest = result + rest[0], rest[1:]
    return result


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_quoted_literal_preserves_any_text(text):
    assert read_literal(quote_literal(text)) == text


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=30))
def test_quoted_identifier_preserves_any_name(name):
    assert quote_identifier(name)[1:-1].replace('""', "\0").count('"') == 0
    assert quote_identifier(name)[1:-1].replace('""', '"') == name


@pytest.mark.parametrize("name", ["", "x" * 128, "é" * 64, "a\0b"])
def test_invalid_redshift_identifier_is_rejected(name):
    with pytest.raises(WarehouseError, match="is not a valid Redshift identifier"):
        quote_identifier(name)


def test_literal_with_nul_is_rejected():
    with pytest.raises(SetupError, match="NUL"):
        quote_literal("a\0b")


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=30))
def test_variable_values_cannot_add_a_statement(value):
    path = INFRASTRUCTURE / "dbt_user.sql"
    expected = len(statements(path, VALUES))
    assert len(statements(path, dict.fromkeys(VALUES, value))) == expected


def test_variables_are_replaced_outside_of_strings_and_comments(tmp_path):
    path = tmp_path / "x.sql"
    path.write_text(
        "-- it's :'a' in a comment; no statement\n"
        "select ':b', ':''b', \":c\", x::date, :'a', :\"a\" /* :d */;\n\n;select 2"
    )
    actual = statements(path, {"a": "v;"})
    # A removed comment leaves spaces.
    assert [" ".join(statement.split()) for statement in actual] == [
        "select ':b', ':''b', \":c\", x::date, 'v;', \"v;\"",
        "select 2",
    ]
    with pytest.raises(SetupError, match=r"x\.sql needs the variable a"):
        statements(path, {})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_sql_files_are_redshift_sql_with_known_variables(path):
    actual = statements(path, VALUES)
    assert actual
    for statement in actual:
        # sqlglot does not parse some grants, but it still tokenizes their strings and quotes.
        assert sqlglot.parse_one(statement, read="redshift")
        assert ":" not in statement


def test_password_is_sent_as_a_salted_hash():
    method, digest, salt = password_hash("Abcdefg1").split("|")
    assert method == "sha256"
    assert digest == hashlib.sha256(f"Abcdefg1{salt}".encode()).hexdigest()
    assert len(salt) == 32
    assert password_hash("Abcdefg1") != password_hash("Abcdefg1")


@pytest.mark.parametrize("target", ["landing", "LANDING", "public", "pg_catalog"])
def test_system_and_source_schemas_are_rejected_as_target_schema(target):
    with pytest.raises(SetupError, match="choose a target schema that only dbt writes to"):
        apply_grants(None, "dbt_user", "Abcdefg1", "landing", target)


def test_empty_password_is_rejected():
    with pytest.raises(SetupError, match="password of dbt_user is empty"):
        apply_grants(None, "dbt_user", "")
