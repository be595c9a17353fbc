"""Types of literals in CREATE TABLE AS and CREATE VIEW: as narrow as their values, as on Redshift.

A longer value fails later. A string becomes a VARCHAR of its length, a null a VARCHAR(1), and 1.23 a NUMERIC(3,2).
Results of CASE, COALESCE and UNION are as wide as the widest part. Where one part is no literal, PostgreSQL chooses.
https://github.com/dbt-labs/dbt-redshift/issues/125 (CASE), https://github.com/dbt-labs/dbt-redshift/pull/852 and
https://github.com/brooklyn-data/dbt_artifacts/issues/60 (null, CAST(null AS TEXT)), dbt-redshift 1.11.1,
tests/functional/test_columns_in_relation.py (numbers, views). Unverified: empty strings, nulls of views.
"""

from collections.abc import Iterable

from sqlglot import exp

_Width = tuple[int, ...]  # of a string: bytes; of a number: digits before and after the point; of a null: nothing
_ANY_OF = {"coalesce": 0, "nvl": 0, "isnull": 0, "nvl2": 1}  # functions that return an argument, from number n on
_STRINGS = (exp.DType.TEXT, exp.DType.VARCHAR, exp.DType.NVARCHAR)
_LONGEST, _DIGITS = 65535, 38


def rewrite(tree: exp.Expr) -> None:
    """Cast literals in the select lists of CREATE TABLE AS, CREATE VIEW and SELECT INTO."""
    creates = isinstance(tree, exp.Create) and isinstance(tree.expression, exp.Query)
    if not creates and not tree.args.get("into"):
        return
    recursive = {id(cte) for node in tree.find_all(exp.With) if node.args.get("recursive") for cte in node.expressions}
    for select in list(tree.find_all(exp.Select)):
        query: exp.Expr = select
        while isinstance(query.parent, (exp.SetOperation, exp.Subquery)):
            query = query.parent
        branches = [select] if query is select else _branches(query)
        owner = query.parent
        if id(owner) not in recursive and branches[0] is select and _makes_rows(query, tree):
            _branch_items(branches)


def _makes_rows(query: exp.Expr, tree: exp.Expr) -> bool:
    """Whether the rows of a query can become rows of the table. Rows of a subquery in an expression cannot."""
    return query is tree or query.parent is tree or isinstance(query.parent, (exp.From, exp.Join, exp.CTE))


def _branches(query: exp.Expr) -> list[exp.Select]:
    if isinstance(query, exp.SetOperation):
        return _branches(query.this) + _branches(query.expression)
    return _branches(query.this) if isinstance(query, exp.Subquery) else [query]


def _branch_items(branches: list[exp.Select]) -> None:
    lists = [branch.expressions for branch in branches]
    if len(branches) > 1 and any(item.is_star for items in lists for item in items):
        return
    for items in list(zip(*lists, strict=False)):
        width = _widest(_width(item.unalias()) for item in items)
        if width is None:
            continue
        for item in items:
            _cast(item, width)


def _cast(item: exp.Expr, width: _Width) -> None:
    value = item.unalias()
    if len(width) == 2:
        kind = exp.DataType.build(f"decimal({width[0] + width[1]}, {width[1]})", dialect="redshift")
    else:
        kind = exp.DataType.build(f"varchar({width[0] if width else 1})", dialect="redshift")
    cast = exp.Cast(this=value.copy(), to=kind)
    if isinstance(item, exp.Alias):
        value.replace(cast)
    else:
        name = "case" if isinstance(value, exp.Case) else str(value.this) if isinstance(value, exp.Anonymous) else ""
        item.replace(exp.alias_(cast, name or "?column?", quoted=True))


def _width(value: exp.Expr) -> _Width | None:
    """Return the width of a value that consists of literals, or None for other values."""
    if isinstance(value, exp.Paren):
        return _width(value.this)
    if isinstance(value, exp.Null):
        return ()
    if isinstance(value, exp.Literal):
        return _literal(value)
    if isinstance(value, exp.Neg) and isinstance(value.this, exp.Literal):
        return _literal(value.this)
    if isinstance(value, exp.Cast) and value.to.this in _STRINGS and not value.to.expressions:
        inner = _width(value.this)
        return (1,) if inner == () else inner if inner and len(inner) == 1 else None
    if isinstance(value, exp.Case):
        return _widest(
            _width(part)
            for part in (*(when.args["true"] for when in value.args["ifs"]), value.args.get("default") or exp.Null())
        )
    if isinstance(value, exp.Anonymous) and (first := _ANY_OF.get(str(value.this).lower())) is not None:
        return _widest(_width(part) for part in value.expressions[first:])
    return None


def _literal(value: exp.Literal) -> _Width | None:
    if value.is_string:
        # A control character begins the mark of a literal that is put back later (longtext.py).
        size = len(value.name.encode())
        return (max(size, 1),) if size <= _LONGEST and not value.name.startswith("\x01") else None
    whole, point, fraction = value.name.partition(".")
    if not point or not (whole + fraction).isdecimal() or len(whole + fraction) > _DIGITS:
        return None
    return len(whole), len(fraction)


def _widest(widths: Iterable[_Width | None]) -> _Width | None:
    known = list(widths)
    if not known or None in known or len({len(width) for width in known if width}) > 1:
        return None
    return tuple(max(parts) for parts in zip(*(width for width in known if width), strict=True))
