"""`* EXCLUDE (…)`, which depends on the columns of a table, and GROUP BY ALL, which depends on the select list.

https://docs.aws.amazon.com/redshift/latest/dg/r_EXCLUDE_list.html
"""

from sqlglot import exp

from redshift_local.parse import scopes
from redshift_local.parse.dialect import generate
from redshift_local.plan import Refused, unsupported

Columns = dict[str, list[str]]  # of tables by their names as PostgreSQL text
_AGGREGATES = frozenset({
    "any_value", "avg", "bit_and", "bit_or", "bool_and", "bool_or", "count", "listagg", "max", "median", "min",
    "percentile_cont", "percentile_disc", "stddev", "stddev_pop", "stddev_samp", "sum", "var_pop", "var_samp",
    "variance",
})  # fmt: skip


def tables(tree: exp.Expr) -> list[str]:
    """Return the tables whose columns must be known for EXCLUDE."""
    names: list[str] = []
    for select in _excluding(tree):
        for source in _sources(select).values():
            names_of(source, {}, names)
    return names


def rewrite(tree: exp.Expr, columns: Columns) -> None:
    """Replace stars by the remaining columns.

    Args:
        columns: those of the tables that `tables` names.
    """
    for select in reversed(_excluding(tree)):
        sources = _sources(select)
        out = {item.name.lower() for item in _excluded(select)}
        items: list[exp.Expr] = []
        for item in select.expressions:
            star = item.this if isinstance(item, exp.Column) else item
            if not isinstance(star, exp.Star):
                if item.alias_or_name.lower() not in out:
                    items.append(item)
                continue
            for name, source in sources.items():
                if isinstance(item, exp.Column) and item.table.lower() != name:
                    continue
                column_names = names_of(source, columns, [])
                if not column_names:
                    raise Refused(f'relation "{source.name}" does not exist', "42P01")
                items += [
                    exp.column(exp.to_identifier(own, quoted=True), name) for own in column_names if own not in out
                ]
        select.set("expressions", items)
        select.set("exclude", None)


def group_by_all(select: exp.Select) -> None:
    """Rewrite GROUP BY ALL to the items of the select list that are not aggregates."""
    group = select.args.get("group")
    if not group or not group.args.get("all") or group.expressions:
        return
    places = []
    for place, item in enumerate(select.expressions, 1):
        if item.find(exp.Star) and not item.find(exp.Anonymous):
            raise unsupported("GROUP BY ALL with *", "name the columns")
        calls = {str(call.this).lower() for call in item.find_all(exp.Anonymous)}
        if not calls & _AGGREGATES and not item.find(exp.Window):
            places.append(exp.Literal.number(place))
    select.set("group", exp.Group(expressions=places) if places else None)


def _excluded(select: exp.Select) -> list[exp.Expr]:
    """Return the columns after EXCLUDE, which ends a select list."""
    columns, ended = list(select.args.get("exclude") or []), False
    for item in select.expressions:
        star = item.this if isinstance(item, exp.Column) else item
        if ended:
            columns.append(item)
        elif isinstance(star, exp.Star) and star.args.get("except_"):
            columns += star.args["except_"]
            ended = True
    return columns


def _excluding(tree: exp.Expr) -> list[exp.Select]:
    return [select for select in tree.find_all(exp.Select) if _excluded(select)]


def _sources(select: exp.Select) -> dict[str, exp.Expr]:
    joins = select.args.get("joins") or []
    if any(join.args.get("using") or join.method for join in joins):
        raise unsupported("EXCLUDE over a join with USING", "name the columns")
    sources = [_from(select), *(join.this for join in joins)]
    for number, source in enumerate(sources):
        if not source.alias_or_name:
            source.set("alias", exp.TableAlias(this=exp.to_identifier(f"pg_source{number}")))
    return {source.alias_or_name.lower(): source for source in sources}


def _from(select: exp.Select) -> exp.Expr:
    if not select.args.get("from_"):
        raise Refused("SELECT * with no tables specified is not valid", "42601")
    return select.args["from_"].this


def names_of(source: exp.Expr, columns: Columns, missing: list[str]) -> list[str]:
    """Return the column names of a source; tables without known columns are added to `missing`."""
    own = [name.lower() for name in source.alias_column_names]
    if isinstance(source, exp.Subquery):
        names = _selected(source.this, columns, missing)
    elif cte := scopes.cte_of(source):
        named = [column.name.lower() for column in cte.args["alias"].args.get("columns") or []]
        names = named or _selected(cte.this, columns, missing)
    else:
        name = generate(exp.Table(this=source.this.copy(), db=source.args.get("db") and source.args["db"].copy()))
        if name not in columns and name not in missing:
            missing.append(name)
        names = columns.get(name, [])
    return own + names[len(own) :]


def _selected(query: exp.Expr, columns: Columns, missing: list[str]) -> list[str]:
    while isinstance(query, (exp.SetOperation, exp.Subquery)):
        query = query.this
    names = []
    for item in query.expressions:
        if not (isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))):
            names.append(item.alias_or_name.lower() or str(item.this).lower())
        elif query.args.get("joins"):
            raise unsupported("PIVOT and EXCLUDE of * over a join", "name the columns")
        else:
            names += names_of(_from(query), columns, missing)
    return names
