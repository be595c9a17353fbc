"""Aliases used in their own select list are replaced by their expressions."""

import pytest
from sqlglot import parse_one

from redshift_local.translate.aliases import inlined


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select a * 2 as b, b + 1 as c, c from t", "SELECT a * 2 AS b, (a * 2) + 1 AS c, ((a * 2) + 1) AS c FROM t"),
        ("select (select 1 as x) as y, y from t", "SELECT (SELECT 1 AS x) AS y, ((SELECT 1 AS x)) AS y FROM t"),
        (
            "with q as (select a as b, b + 1 as c from t) select c from q",
            "WITH q AS (SELECT a AS b, (a) + 1 AS c FROM t) SELECT c FROM q",
        ),
        ("select a as b from t where b = 1 and c = 2", "SELECT a AS b FROM t WHERE (a) = 1 AND c = 2"),
        (
            "select count(*) as n from t group by a having n > 1",
            "SELECT COUNT(*) AS n FROM t GROUP BY a HAVING (COUNT(*)) > 1",
        ),
    ],
)
def test_aliases_are_replaced_by_their_expressions(sql, expected):
    assert inlined(parse_one(sql, dialect="redshift"))[0].sql() == expected


@pytest.mark.parametrize(
    "sql",
    [
        "select lower(name) as name, name || '!' from t",
        "select t.a as b, t.b from t",
        "select t.id as id from t where id = 1",
        "select a as b from t where c in (select b from u)",
        "select b + 1, a as b from t",
        "select a as b, (select b from u) from t",
    ],
)
def test_columns_are_not_replaced(sql):
    tree = parse_one(sql, dialect="redshift")
    other, uses = inlined(tree)
    assert (other.sql(), uses) == (tree.sql(), [])


def test_single_use_of_an_alias_can_be_left_unchanged():
    tree = parse_one("select a as b, b + 1 as c, c + 1 as d from t", dialect="redshift")
    other, uses = inlined(tree, left=(0, "c"))
    assert uses == [(0, "b"), (0, "c")]
    assert other.sql() == "SELECT a AS b, (a) + 1 AS c, c + 1 AS d FROM t"
