"""SUPER and VARCHAR in the same column of UNION, INTERSECT and EXCEPT.

VARCHAR becomes SUPER. The manual has no sentence about set operations, but "you can convert both CHAR and VARCHAR
Amazon Redshift scalar types to SUPER" (query-super), and the tests of snowplow_utils 1.0.0 compare such columns with
EXCEPT. PostgreSQL refuses them, so each operand gets the types that both have together.
"""

from sqlglot import exp

from redshift_local.plan import HELPERS


def listed(nodes: list[exp.Expr]) -> list[exp.SetOperation]:
    """Return the set operations whose columns all have a name, outer ones first."""
    operations = [node for node in nodes if isinstance(node, exp.SetOperation)]
    return [operation for operation in operations if not operation.is_star and all(operation.named_selects)]


def rewrite(tree: exp.Expr) -> None:
    """Wrap the operands."""
    for operation in reversed(listed(list(tree.walk()))):
        names = [exp.to_identifier(name, quoted=True) for name in operation.named_selects]
        left, right = operation.this, operation.expression
        operation.set("this", _wrapped(left, right, names))
        operation.set("expression", _wrapped(right, left, names))


def _wrapped(query: exp.Expr, other: exp.Expr, names: list[exp.Identifier]) -> exp.Select:
    columns = [exp.to_identifier(f"c{number}") for number in range(len(names))]
    items = []
    for column, name in zip(columns, names, strict=True):
        counterpart = exp.select(column.copy()).from_(_source(other, columns)).limit(0).subquery()
        value = exp.Anonymous(this=f"{HELPERS}.of_both", expressions=[exp.column(column.copy()), counterpart])
        items.append(exp.alias_(value, name.copy()))
    return exp.select(*items).from_(_source(query, columns))


def _source(query: exp.Expr, columns: list[exp.Identifier]) -> exp.Subquery:
    alias = exp.TableAlias(this=exp.to_identifier("operand"), columns=[column.copy() for column in columns])
    return exp.Subquery(this=query.unnest().copy(), alias=alias)
