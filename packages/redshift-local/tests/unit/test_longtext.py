"""Long statements: what is cut, and that none keeps the gateway busy."""

import time

import pytest

from redshift_local.translate.longtext import rows_of


def test_an_insert_of_values_is_cut():
    text = "/* dbt */\n insert into \"a\".b (c, \"d e\") values\n (1, 'it''s'), (-1.5e3, null), ($1, 'x\\\\y');"
    head, rows = rows_of(text)
    assert head == '/* dbt */\n insert into "a".b (c, "d e") values (null)'
    assert rows.split() == "(1, 'it''s'), (-1.5e3, null), ($1, 'x\\y')".split()  # noqa: SIM905


@pytest.mark.parametrize(
    "text",
    [
        " " * 24 + "create table x as select 1",
        "insert into t (" + "a" * 26 + ") select 1",
        "insert into t values ('" + "''" * 26 + "', current_date)",
    ],
)
def test_what_cannot_be_cut_is_given_up_at_once(text):
    """Each of these has some 2**24 ways to be read by repetitions that try again."""
    started = time.process_time()
    assert rows_of(text) is None
    assert time.process_time() - started < 0.2
