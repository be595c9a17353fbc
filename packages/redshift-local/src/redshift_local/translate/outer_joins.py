"""Joins in Oracle's old syntax, with (+).

https://docs.aws.amazon.com/redshift/latest/dg/r_WHERE_oracle_outer.html
"""

from sqlglot import exp

from redshift_local.plan import Refused, unsupported


def rewrite(tree: exp.Expr) -> None:
    """Rewrite them as LEFT JOIN; sqlglot's own rewriting covers only some orders of the tables."""
    marked = [column for column in tree.find_all(exp.Column) if column.args.get("join_mark")]
    for select in {id(column.parent_select): column.parent_select for column in marked}.values():
        _one(select)


def _one(select: exp.Select) -> None:
    first = select.args["from_"].this
    sources = {first.alias_or_name.lower(): first}
    for join in select.args.get("joins") or []:
        if set(join.args) - {"this"} and any(join.args.get(key) for key in ("on", "using", "side", "kind", "method")):
            raise Refused("(+) can't be used in a query block that also has a JOIN clause", "42601")
        sources[join.this.alias_or_name.lower()] = join.this
    where = select.args["where"]
    inner_conditions: list[exp.Expr] = []
    conditions: dict[str, list[exp.Expr]] = {}
    for part in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        columns = list(part.find_all(exp.Column))
        outer = {column.table.lower() for column in columns if column.args.get("join_mark")}
        if not outer:
            inner_conditions.append(part.copy())
            continue
        if len(outer) > 1 or not outer <= set(sources) or part.find(exp.Or, exp.Subquery) or _unnamed(columns):
            raise unsupported("the operator (+) here", "write LEFT JOIN, or <table>.<column> and one table a condition")
        for column in columns:
            column.set("join_mark", None)
        conditions.setdefault(outer.pop(), []).append(part.copy())
    _join(select, sources, conditions)
    where = exp.Where(this=exp.and_(*inner_conditions, copy=False)) if inner_conditions else None
    select.set("where", where)


def _unnamed(columns: list[exp.Column]) -> bool:
    return any(not column.table for column in columns)


def _join(select: exp.Select, sources: dict[str, exp.Expr], conditions: dict[str, list[exp.Expr]]) -> None:
    """Add a join with its conditions after the tables that the conditions name."""
    first, *inner = [source for name, source in sources.items() if name not in conditions] or [None]
    joined = {name for name in sources if name not in conditions}
    joins = [exp.Join(this=source.copy(), kind="CROSS") for source in inner]
    left = dict(conditions)
    while left:
        ready = [
            name
            for name, parts in left.items()
            if {column.table.lower() for part in parts for column in part.find_all(exp.Column)} <= joined | {name}
        ]
        if first is None or not ready:
            raise Refused("two tables cannot be outer joined to each other with (+)", "42601")
        for name in ready:
            on = exp.and_(*left.pop(name), copy=False)
            joins.append(exp.Join(this=sources[name].copy(), side="LEFT", on=on))
            joined.add(name)
    select.set("from_", exp.From(this=first.copy()))
    select.set("joins", joins)
