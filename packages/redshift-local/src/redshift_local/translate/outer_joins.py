"""Joins written with (+), the way Oracle had them before there was LEFT JOIN.

https://docs.aws.amazon.com/redshift/latest/dg/r_WHERE_oracle_outer.html
"""

from sqlglot import exp

from redshift_local.plan import Refused, unsupported


def rewrite(tree: exp.Expr) -> None:
    """Write them as LEFT JOIN, which sqlglot's own rewriting does for some orders of the tables only."""
    marked = [each for each in tree.find_all(exp.Column) if each.args.get("join_mark")]
    for select in {id(each.parent_select): each.parent_select for each in marked}.values():
        _one(select)


def _one(select: exp.Select) -> None:
    sources = {each.alias_or_name.lower(): each for each in [select.args["from_"].this]}
    for join in select.args.get("joins") or []:
        if set(join.args) - {"this"} and any(join.args.get(key) for key in ("on", "using", "side", "kind", "method")):
            raise Refused("(+) can't be used in a query block that also has a JOIN clause", "42601")
        sources[join.this.alias_or_name.lower()] = join.this
    where = select.args["where"]
    kept: list[exp.Expr] = []
    conditions: dict[str, list[exp.Expr]] = {}
    for part in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        columns = list(part.find_all(exp.Column))
        outer = {each.table.lower() for each in columns if each.args.get("join_mark")}
        if not outer:
            kept.append(part.copy())
            continue
        if len(outer) > 1 or not outer <= set(sources) or part.find(exp.Or, exp.Subquery) or _unnamed(columns):
            raise unsupported("the operator (+) here", "write LEFT JOIN, or <table>.<column> and one table a condition")
        for each in columns:
            each.set("join_mark", None)
        conditions.setdefault(outer.pop(), []).append(part.copy())
    _join(select, sources, conditions)
    select.set("where", exp.Where(this=exp.and_(*kept, copy=False)) if kept else None)


def _unnamed(columns: list[exp.Column]) -> bool:
    return any(not each.table for each in columns)


def _join(select: exp.Select, sources: dict[str, exp.Expr], conditions: dict[str, list[exp.Expr]]) -> None:
    """Join what has conditions of its own after the tables that these name."""
    first, *inner = [source for name, source in sources.items() if name not in conditions] or [None]
    joined = {name for name in sources if name not in conditions}
    joins = [exp.Join(this=source.copy(), kind="CROSS") for source in inner]
    left = dict(conditions)
    while left:
        ready = [
            name
            for name, parts in left.items()
            if {each.table.lower() for part in parts for each in part.find_all(exp.Column)} <= joined | {name}
        ]
        if first is None or not ready:
            raise Refused("two tables may not be outer joined to each other with (+)", "42601")
        for name in ready:
            on = exp.and_(*left.pop(name), copy=False)
            joins.append(exp.Join(this=sources[name].copy(), side="LEFT", on=on))
            joined.add(name)
    select.set("from_", exp.From(this=first.copy()))
    select.set("joins", joins)
