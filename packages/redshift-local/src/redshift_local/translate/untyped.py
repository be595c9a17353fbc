"""Columns of a WITH query or a subquery that are a bare string or NULL, which Redshift gives a type too late.

Reports: ORDER BY one, https://github.com/OHDSI/SqlRender/issues/66 and 192; compare two of them,
https://github.com/calogica/dbt-expectations/issues/99; MIN of a null, https://github.com/snowplow/dbt-snowplow-attribution/issues/9.
Other uses are accepted, because no report of a failure was found.
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


def _refuse_if_all(values: list[exp.Expr]) -> None:
    columns = [value for value in values if isinstance(value, exp.Column) and isinstance(value.this, exp.Identifier)]
    if columns and len(columns) == len(values) and all(_is_untyped(column) for column in columns):
        name = columns[0].name
        hint = f"column {name} is a literal without a type; write it as a cast, for example 'a'::varchar(10) AS {name}"
        raise Refused('failed to find conversion function from "unknown" to text', "XX000", hint)


def _is_untyped(column: exp.Column) -> bool:
    source = scopes.source_of(column)
    return source is not None and _has_untyped(source, column.name.lower())


def _has_untyped(source: exp.Expr, name: str) -> bool:
    """Whether a column of a source is a bare literal, through any number of queries."""
    if source.alias_column_names or source.args.get("pivots"):
        return False
    if cte := scopes.cte_of(source):
        if cte.args["alias"].args.get("columns"):
            return False
        query = cte.this
    elif isinstance(source, exp.Subquery):
        query = source.unnest()
    else:
        return False
    if not isinstance(query, exp.Select) or query.args.get("distinct"):
        return False
    for item in query.expressions:
        if item.alias_or_name.lower() == name and not item.is_star:
            value = item.unalias()
            if isinstance(value, exp.Column) and isinstance(value.this, exp.Identifier):
                return _is_untyped(value)
            return isinstance(value, exp.Null) or (isinstance(value, exp.Literal) and value.is_string)
    if not query.args.get("joins") and [item for item in query.expressions if isinstance(item, exp.Star)]:
        inner = query.args.get("from_")
        return inner is not None and _has_untyped(inner.this, name)
    return False
