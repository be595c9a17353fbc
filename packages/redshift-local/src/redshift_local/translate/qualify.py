"""QUALIFY with a star, rewritten to whole rows for PostgreSQL.

https://docs.aws.amazon.com/redshift/latest/dg/r_QUALIFY_clause.html
"""

from sqlglot import exp

from redshift_local.plan import unsupported

_ROW, _QUERY = "pg_row", "pg_qualified"


def with_star(select: exp.Select) -> exp.Expr | None:
    """Rewrite `select *, … from one qualify …`; sqlglot rewrites QUALIFY without a star."""
    if not select.args.get("qualify") or not any(_is_star(item) for item in select.expressions):
        return None
    source = select.args["from_"].this
    if select.args.get("joins") or select.args.get("laterals") or not source.alias_or_name:
        raise unsupported("QUALIFY with * over a join", "name the columns instead of *")
    outer, inner = [], []
    for number, item in enumerate(select.expressions):
        if _is_star(item):
            inner.append(exp.alias_(exp.column(exp.to_identifier(source.alias_or_name)), _ROW))
            outer.append(exp.Dot(this=exp.Paren(this=exp.column(_ROW, _QUERY)), expression=exp.Star()))
        else:
            name = item.output_name or f"column{number}"
            inner.append(exp.alias_(item.unalias().copy(), name))
            outer.append(exp.column(name, _QUERY))
    select = select.copy()
    select.set("expressions", inner)
    whole = exp.Select(expressions=outer).from_(select.subquery(_QUERY))
    if rest := select.args.get("with_"):
        whole.set("with_", rest.pop())
    return whole


def _is_star(node: exp.Expr) -> bool:
    return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))
