"""Long statements are split, and no statement blocks the gateway."""

import time

import pytest

from redshift_local.translate.longtext import rows_of


def test_insert_of_values_is_split():
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
def test_other_statements_fail_without_backtracking(text):
    """With backtracking, each of these would be tried in some 2**24 ways."""
    started = time.process_time()
    assert rows_of(text) is None
    assert time.process_time() - started < 0.2
