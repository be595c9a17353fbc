"""SUPER and VARCHAR in the same column of UNION, INTERSECT and EXCEPT.

VARCHAR becomes SUPER. The manual has no sentence about set operations, but "you can convert both CHAR and VARCHAR
Amazon Redshift scalar types to SUPER" (query-super), and the tests of snowplow_utils 1.0.0 compare such columns with
EXCEPT. PostgreSQL refuses them, so each operand gets the types that all have together.
"""

from collections.abc import Iterator

from sqlglot import exp

from redshift_local.plan import HELPERS

_OPERAND, _TYPES = "pg_operand", "pg_types"


def listed(nodes: list[exp.Expr]) -> list[exp.SetOperation]:
    """Return the set operations whose columns are listed and have names, outer ones first.

    Of operations on the results of other operations, only the whole is returned.
    """
    inner = {
        id(_operation(part)) for node in nodes if isinstance(node, exp.SetOperation) for part in node.iter_expressions()
    }
    operations = [node for node in nodes if isinstance(node, exp.SetOperation) and id(node) not in inner]
    return [operation for operation in operations if _are_lists(list(_operands(operation)))]


def rewrite(tree: exp.Expr) -> None:
    """Cast the columns of each operand to the types of all operands."""
    for operation in reversed(listed(list(tree.walk()))):
        operands = list(_operands(operation))
        names = operation.named_selects
        with_ = operation.args.get("with_") or exp.With(expressions=[])
        with_.append("expressions", exp.CTE(this=_common_types(operands, len(names)), alias=_alias(_TYPES)))
        operation.set("with_", with_)
        for operand in operands:
            items = [
                exp.alias_(_of_both(_column(_OPERAND, place), _column(_TYPES, place)), name, quoted=True)
                for place, name in enumerate(names)
            ]
            cast = exp.select(*items).from_(_source(operand, _OPERAND, len(names)))
            operand.replace(cast.join(_TYPES, on=exp.false(), join_type="left"))


def _operation(part: exp.Expr) -> exp.Expr:
    return part.unnest() if isinstance(part, exp.Subquery) else part


def _operands(query: exp.Expr) -> Iterator[exp.Expr]:
    query = _operation(query)
    if isinstance(query, exp.SetOperation):
        yield from _operands(query.this)
        yield from _operands(query.expression)
    else:
        yield query


def _are_lists(operands: list[exp.Expr]) -> bool:
    are_lists = all(isinstance(operand, exp.Select) and not operand.is_star for operand in operands)
    return are_lists and all(operands[0].named_selects)


def _common_types(operands: list[exp.Expr], width: int) -> exp.Select:
    """Return a query without rows whose columns have the types of all operands."""
    sources = [f"{_OPERAND}{number}" for number in range(len(operands))]
    items = []
    for place in range(width):
        first, *others = (_column(source, place) for source in sources)
        for other in others:
            first = _of_both(first, other)
        items.append(exp.alias_(first, f"c{place}"))
    query = exp.select(*items)
    for operand, source in zip(operands, sources, strict=True):
        query = (
            query.from_(_source(operand, source, width))
            if source == sources[0]
            else query.join(_source(operand, source, width), join_type="cross")
        )
    return query.limit(0)


def _source(operand: exp.Expr, name: str, width: int) -> exp.Subquery:
    return exp.Subquery(this=operand.copy(), alias=_alias(name, width))


def _alias(name: str, width: int = 0) -> exp.TableAlias:
    columns = [exp.to_identifier(f"c{place}") for place in range(width)]
    return exp.TableAlias(this=exp.to_identifier(name), columns=columns)


def _column(source: str, place: int) -> exp.Column:
    return exp.column(f"c{place}", source)


def _of_both(value: exp.Expr, other: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=f"{HELPERS}.of_both", expressions=[value, other])
