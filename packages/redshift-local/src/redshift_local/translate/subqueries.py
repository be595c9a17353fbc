"""Subqueries that Redshift cannot run: recursive and correlated ones. Also aggregates that sort."""

from sqlglot import exp

from redshift_local.parse import scopes
from redshift_local.plan import Refused

_CORRELATED = "This type of correlated subquery pattern is not supported yet"
_JOIN_INSTEAD = "write a join instead"
_SIDES = ("LEFT", "RIGHT", "FULL")
_SORTING = ("listagg", "percentile_cont")


def check(nodes: list[exp.Expr]) -> None:
    """Refuse what the manual's pages about WITH, correlated subqueries and sorting aggregates exclude.

    Raises:
        Refused: Redshift refuses it, too.
    """
    nested = sum(isinstance(node, exp.Query) for node in nodes) > 1 or not isinstance(nodes[0], exp.Query)
    for node in nodes:
        if isinstance(node, exp.With) and node.args.get("recursive"):
            _recursive(node)
        elif isinstance(node, exp.Select):
            _sorting_aggregates(node)
            _grouped_by_subquery(node)
        elif nested and isinstance(node, exp.Column):
            _correlated(node)


def recursive_ctes(tree: exp.Expr) -> list[exp.CTE]:
    """Return the CTEs of a statement that read themselves."""
    return [
        cte
        for cte in tree.find_all(exp.CTE)
        if any(scopes.cte_of(table) is cte for table in cte.this.find_all(exp.Table))
    ]


def _recursive(node: exp.With) -> None:
    """Check a WITH RECURSIVE.

    The manual, "WITH clause" (r_WITH_clause): "For a recursive CTE, the column_name list is required"; the query is "A
    UNION ALL query". "Recursive CTE in subquery": https://github.com/dbt-labs/dbt-redshift/issues/803, which also shows
    that CREATE TABLE and CREATE VIEW accept one, and https://github.com/apache/superset/issues/21715.
    """
    own = [cte for cte in recursive_ctes(node) if cte.parent is node]
    if not own:
        return
    query = node.parent
    while isinstance(query.parent, (exp.Subquery, exp.Paren)) and not query.parent.alias:
        query = query.parent
    if isinstance(query.parent, exp.Expr) and not isinstance(query.parent, (exp.Create, exp.Insert)):
        hint = "write WITH RECURSIVE at the start of the statement"
        raise Refused("Recursive CTE in subquery are not supported.", "0A000", hint)
    for cte in own:
        if not cte.args["alias"].args.get("columns"):
            text = f'recursive common table expression "{cte.alias}" must specify a column list'
            raise Refused(text, "42601", f"write: with recursive {cte.alias} (column, …) as")
        if not isinstance(cte.this, exp.Union) or cte.this.args.get("distinct"):
            text = f'recursive common table expression "{cte.alias}" must be a UNION ALL query'
            raise Refused(text, "42601", "write UNION ALL between the seed and the recursive member")


def _sorting_aggregates(select: exp.Select) -> None:
    """Check that aggregates which sort agree on the order.

    The manual, "MEDIAN function" (r_MEDIAN): "If a statement includes multiple calls to sort-based aggregate functions
    (LISTAGG, PERCENTILE_CONT, or MEDIAN), they must all use the same ORDER BY values." Unverified: that ascending and
    descending differ, and that the rule is for each SELECT by itself.
    """
    orders = {}
    for item in (*select.expressions, select.args.get("having"), select.args.get("order")):
        for call in item.find_all(exp.Anonymous) if item is not None else ():
            name, parent = str(call.this).lower(), call.parent
            if call.find_ancestor(exp.Select) is not select:
                continue
            if name == "median" and not isinstance(parent, exp.Window) and call.expressions:
                orders[_column_names(call.expressions[0]), False] = name
            if name in _SORTING and isinstance(parent, exp.WithinGroup) and not isinstance(parent.parent, exp.Window):
                key = tuple((_column_names(by.this), bool(by.args.get("desc"))) for by in parent.expression.expressions)
                orders[key[0] if len(key) == 1 else key] = name
    if len(orders) > 1:
        text = "within group ORDER BY clauses for aggregate functions must be the same"
        names = " and ".join(sorted(name.upper() for name in set(orders.values())))
        raise Refused(text, "0A000", f"{names}: compute each order in its own subquery, and join them")


def _column_names(node: exp.Expr) -> str:
    return node.transform(lambda part: exp.column(part.this) if isinstance(part, exp.Column) else part).sql().lower()


def _outer(column: exp.Column) -> list[tuple[exp.Expr, exp.Expr]]:
    """Return the blocks from the column's own to the one whose table it names, with the path; empty if it is one."""
    parts = [part.name.lower() for part in column.parts]
    path = []
    for block, tables, child in scopes.blocks(column):
        path.append((block, child))
        if parts[0] in tables or (len(parts) > 2 and tables.get(parts[1]) == parts[0]):
            return path if len(path) > 1 else []
    return []


def _correlated(column: exp.Column) -> None:
    """Check a reference to a table of an outer query; only qualified names can be recognized.

    The manual, "Correlated subqueries" (r_correlated_subqueries): "Queries that contain the following correlation
    references return errors".
    """
    if not column.table or not (path := _outer(column)):
        return
    if len(path) > 2:
        text = f"{_CORRELATED}: the reference {column.sql()} skips a query block"
        raise Refused(text, "0A000", _JOIN_INSTEAD)
    (inner, _), (outer, child) = path
    # `child` is the part of the outer block that contains the subquery.
    if isinstance(child, exp.Join) and child.side in _SIDES:
        text = f"{_CORRELATED}: {column.sql()} in the ON clause of an outer join"
        raise Refused(text, "0A000", _JOIN_INSTEAD)
    if any(window.find_ancestor(exp.Select) is inner for window in inner.find_all(exp.Window)):
        text = f"{_CORRELATED}: {column.sql()} in a subquery with a window function"
        raise Refused(text, "0A000", _JOIN_INSTEAD)
    if inner.args.get("group") and _is_right_of_in(inner, outer):
        calls = {str(call.this).lower() for item in inner.expressions for call in item.find_all(exp.Anonymous)}
        if calls - {"min", "max"}:
            text = f"{_CORRELATED}: {column.sql()} in a subquery with an aggregate and GROUP BY after IN"
            raise Refused(text, "0A000", _JOIN_INSTEAD)


def _is_right_of_in(inner: exp.Expr, outer: exp.Expr) -> bool:
    comparison = inner.find_ancestor(exp.In)
    return comparison is not None and comparison.find_ancestor(exp.Select) is outer


def _grouped_by_subquery(select: exp.Select) -> None:
    """Refuse "References in a GROUP BY column to the results of a correlated subquery" (r_correlated_subqueries)."""
    if not (group := select.args.get("group")):
        return
    names = {item.alias.lower(): item for item in select.expressions if isinstance(item, exp.Alias)}
    for by in group.expressions:
        item = by
        if isinstance(by, exp.Literal) and by.is_int and 0 < int(by.name) <= len(select.expressions):
            item = select.expressions[int(by.name) - 1]
        elif isinstance(by, exp.Column) and not by.table:
            item = names.get(by.name.lower(), by)
        for column in item.find_all(exp.Column):
            if column.table and (path := _outer(column)) and path[-1][0] is select:
                text = f"{_CORRELATED}: GROUP BY a subquery that refers to {column.sql()}"
                raise Refused(text, "0A000", _JOIN_INSTEAD)
