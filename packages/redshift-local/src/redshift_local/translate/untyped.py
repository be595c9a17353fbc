"""Columns of a WITH query or a subquery that are a bare string or NULL, which Redshift gives a type too late.

Reports: ORDER BY one, https://github.com/OHDSI/SqlRender/issues/66 and 192; compare two of them,
https://github.com/calogica/dbt-expectations/issues/99; MIN of a null, https://github.com/snowplow/dbt-snowplow-attribution/issues/9.
Other uses are accepted, because no report of a failure was found.

In a set operation, such a null takes the type of the other operand: `provider_attribution__provider_ranking` of
https://github.com/tuva-health/tuva 0.18.0 needs it. PostgreSQL has made it a string by then.
"""

from sqlglot import exp

from redshift_local.parse import scopes
from redshift_local.plan import Refused

_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)


def check(nodes: list[exp.Expr]) -> None:
    """Refuse the reported uses.

    Raises:
        Refused: with Redshift's message.
    """
    if not any(isinstance(node, (exp.CTE, exp.Subquery)) for node in nodes):
        return
    for node in nodes:
        if (
            isinstance(node, exp.Ordered)
            and isinstance(node.parent, exp.Order)
            and isinstance(node.find_ancestor(exp.Select, exp.Window), exp.Select)
        ):
            _refuse_if_all([node.this])
        elif isinstance(node, _COMPARISONS):
            _refuse_if_all([node.this, node.expression])
        elif isinstance(node, exp.Anonymous) and str(node.this).lower() in ("min", "max"):
            _refuse_if_all(node.expressions)


def rewrite(nodes: list[exp.Expr]) -> None:
    """Write NULL in the operands of set operations instead of columns that are a bare NULL."""
    for operation in [node for node in nodes if isinstance(node, exp.SetOperation)]:
        for operand in (operation.this, operation.expression):
            select = operand.unnest() if isinstance(operand, exp.Subquery) else operand
            if isinstance(select, exp.Select):
                _list_columns(select)
                for item in select.expressions:
                    value = item.unalias()
                    if _is_column(value) and isinstance(_literal_of(value), exp.Null):
                        item.replace(exp.alias_(exp.null(), item.args.get("alias") or item.this.copy()))


def _list_columns(select: exp.Select) -> None:
    """Write the columns of `SELECT * FROM` one query instead of the star, if one of them is a bare NULL."""
    if len(select.expressions) != 1 or not select.is_star or select.args.get("joins") or not select.args.get("from_"):
        return
    source = select.args["from_"].this
    query = _query_of(source)
    items = query.expressions if query else []
    names = [item.args["alias"] if isinstance(item, exp.Alias) else item.this for item in items]
    if (
        all(isinstance(item, exp.Alias) or _is_column(item) for item in items)
        and len({name.name.lower() for name in names}) == len(names)
        and any(isinstance(_literal_in(source, name.name.lower()), exp.Null) for name in names)
    ):
        select.set("expressions", [exp.Column(this=name.copy()) for name in names])


def _refuse_if_all(values: list[exp.Expr]) -> None:
    columns = [value for value in values if _is_column(value)]
    if columns and len(columns) == len(values) and all(_is_untyped(column) for column in columns):
        name = columns[0].name
        hint = f"column {name} is a literal without a type; write it as a cast, for example 'a'::varchar(10) AS {name}"
        raise Refused('failed to find conversion function from "unknown" to text', "XX000", hint)


def _is_untyped(column: exp.Column) -> bool:
    return _literal_of(column) is not None


def _is_column(value: exp.Expr) -> bool:
    return isinstance(value, exp.Column) and isinstance(value.this, exp.Identifier)


def _literal_of(column: exp.Column) -> exp.Expr | None:
    """Return the bare literal that a column is."""
    source = scopes.source_of(column)
    return source and _literal_in(source, column.name.lower())


def _literal_in(source: exp.Expr, name: str) -> exp.Expr | None:
    """Return the bare literal that a column of a source is, through any number of queries."""
    query = _query_of(source)
    if query is None:
        return None
    for item in query.expressions:
        if item.alias_or_name.lower() == name and not item.is_star:
            value = item.unalias()
            if _is_column(value):
                return _literal_of(value)
            return (
                value if isinstance(value, exp.Null) or (isinstance(value, exp.Literal) and value.is_string) else None
            )
    if not query.args.get("joins") and [item for item in query.expressions if isinstance(item, exp.Star)]:
        inner = query.args.get("from_")
        return inner and _literal_in(inner.this, name)
    return None


def _query_of(source: exp.Expr) -> exp.Select | None:
    """Return the SELECT behind a source, if the source has its columns."""
    if source.alias_column_names or source.args.get("pivots"):
        return None
    query = source.unnest() if isinstance(source, exp.Subquery) else None
    if cte := scopes.cte_of(source):
        query = None if cte.args["alias"].args.get("columns") else cte.this
    return query if isinstance(query, exp.Select) and not query.args.get("distinct") else None
