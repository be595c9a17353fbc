"""PIVOT and UNPIVOT, written as GROUP BY and UNION ALL.

https://docs.aws.amazon.com/redshift/latest/dg/r_FROM_clause-pivot-unpivot-examples.html
"""

from sqlglot import exp

from redshift_local.parse import longnames
from redshift_local.parse.dialect import generate
from redshift_local.plan import Refused
from redshift_local.translate.stars import Columns, names_of

_AGGREGATES = ("count", "sum", "min", "max", "avg")
_INPUT = "pg_input"


def tables(tree: exp.Expr) -> list[str]:
    """Return the tables whose columns must be known for PIVOT and UNPIVOT."""
    names: list[str] = []
    for source, _ in _turned(tree):
        names_of(source, {}, names)
    return names


def rewrite(tree: exp.Expr, columns: Columns) -> None:
    """Rewrite every PIVOT and UNPIVOT of a statement.

    Args:
        columns: those of the tables that `tables` names.
    """
    for source, turn in reversed(list(_turned(tree))):
        names = names_of(source, columns, [])
        if not names:
            raise Refused(f'relation "{source.alias_or_name}" does not exist', "42P01")
        alias = turn.alias or source.alias or "pg_turned"
        inner = source.copy()
        inner.set("pivots", None)
        inner.set("alias", exp.TableAlias(this=exp.to_identifier(_INPUT)))
        turned = (_unpivot if turn.args.get("unpivot") else _pivot)(inner, turn, names)
        source.replace(exp.Subquery(this=turned, alias=exp.TableAlias(this=exp.to_identifier(alias))))


def _turned(tree: exp.Expr) -> list[tuple[exp.Expr, exp.Pivot]]:
    turned = []
    for source in tree.find_all(exp.Table, exp.Subquery):
        turns = source.args.get("pivots") or []
        if len(turns) > 1 or (turns and len(turns[0].args.get("fields") or []) != 1):
            raise Refused("PIVOT can't be applied to the result of another one", "0A000")
        turned += [(source, turn) for turn in turns]
    return turned


def _column(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True), _INPUT)


def _alias(node: exp.Expr) -> tuple[exp.Expr, str]:
    if isinstance(node, (exp.PivotAlias, exp.Alias)):
        name = node.args["alias"]
        return node.this, (name.name if isinstance(name, exp.Expr) else str(name)).lower()
    return node, ""


def _pivot(source: exp.Expr, turn: exp.Pivot, names: list[str]) -> exp.Expr:
    field = turn.args["fields"][0]
    used = {
        aggregate.name.lower() for part in (*turn.expressions, field.this) for aggregate in part.find_all(exp.Column)
    }
    group_columns = [name for name in names if name not in used]
    aggregates = []
    for item in field.expressions:
        value, name = _alias(item)
        if isinstance(value, exp.Column):
            raise Refused("PIVOT IN list values can't be column references", "42601")
        condition: exp.Expr = exp.EQ(this=field.this.copy(), expression=value.copy())
        if isinstance(value, exp.Null):
            condition = exp.Is(this=field.this.copy(), expression=exp.Null())
        for aggregate in turn.expressions:
            call, suffix = _alias(aggregate)
            if not isinstance(call, exp.Anonymous) or str(call.this).lower() not in _AGGREGATES or not call.expressions:
                raise Refused("PIVOT supports the COUNT, SUM, MIN, MAX and AVG aggregate functions", "0A000")
            argument = call.expressions[0]
            distinct = isinstance(argument, exp.Distinct)
            counted = argument.expressions[0] if distinct else argument
            counted = exp.Literal.number(1) if isinstance(counted, exp.Star) else counted
            case: exp.Expr = exp.case().when(condition.copy(), counted.copy())
            whole = exp.Anonymous(this=call.this, expressions=[exp.Distinct(expressions=[case]) if distinct else case])
            title = name or (value.name if isinstance(value, exp.Literal) else generate(value)).lower()
            aggregates.append(exp.alias_(whole, f"{title}_{suffix}" if suffix else title, quoted=True))
    query = exp.Select(expressions=[_column(name) for name in group_columns] + aggregates).from_(source)
    return query.group_by(*(_column(name) for name in group_columns)) if group_columns else query


def _unpivot(source: exp.Expr, turn: exp.Pivot, names: list[str]) -> exp.Expr:
    field = turn.args["fields"][0]
    items = [_alias(item) for item in field.expressions]
    other_columns = [name for name in names if name not in {column.name.lower() for column, _ in items}]
    label, value = field.this.name.lower(), turn.expressions[0].name.lower()
    parts = []
    for column, name in items:
        title = exp.cast(exp.Literal.string(name or longnames.restore(column.name.lower())), exp.DType.TEXT)
        columns = [_column(column) for column in other_columns]
        columns += [exp.alias_(title, label, quoted=True), exp.alias_(_column(column.name.lower()), value, quoted=True)]
        part = exp.Select(expressions=columns).from_(_INPUT)
        if not turn.args.get("include_nulls"):
            part = part.where(exp.Not(this=exp.Is(this=_column(column.name.lower()), expression=exp.Null())))
        parts.append(part)
    query = exp.union(*parts, distinct=False) if len(parts) > 1 else parts[0]
    whole = source.this if isinstance(source, exp.Subquery) else exp.select("*").from_(source)
    return query.with_(_INPUT, as_=whole.copy())
