"""Resolves names in a statement: tables of the query block and of the outer blocks, and CTEs."""

from collections.abc import Iterator

from sqlglot import exp

BLOCKS = (exp.Select, exp.Update, exp.Delete, exp.Merge)


def blocks(node: exp.Expr) -> Iterator[tuple[exp.Expr, dict[str, str], exp.Expr]]:
    """Yield the query blocks around a node from the inside.

    Yields:
        The block; names of the tables in it that the node sees, each with its schema; and the part of the block that
        contains the node. A subquery in FROM does not see the other tables of FROM. A CTE sees no tables around it.
    """
    child, parent, nested, hidden = node, node.parent, False, False
    while parent is not None and not isinstance(parent, exp.CTE):
        if nested and isinstance(parent, (exp.From, exp.Join)) and child.arg_key != "on":
            hidden = True
        if isinstance(parent, BLOCKS):
            yield parent, {} if hidden else tables(parent), child
            nested, hidden = True, False
        child, parent = parent, parent.parent


def tables(block: exp.Expr) -> dict[str, str]:
    """Return the names of the tables of a query block, each with its schema."""
    schemas: dict[str, str] = {}
    for table in _sources(block):
        if table.alias_or_name:
            schemas.setdefault(table.alias_or_name.lower(), table.text("db").lower())
    return schemas


def _sources(block: exp.Expr) -> Iterator[exp.Expr]:
    clauses = [block.args.get("from_"), *(block.args.get("joins") or []), block.args.get("using")]
    clauses += [] if isinstance(block, exp.Select) else [block.this]
    for clause in clauses:
        for part in clause if isinstance(clause, list) else [clause]:
            source = part.this if isinstance(part, (exp.From, exp.Join)) else part
            inner = source.args.get("joins") or [] if isinstance(source, exp.Expr) else []
            yield from (table for table in (source, *(join.this for join in inner)) if isinstance(table, exp.Expr))


def cte_of(table: exp.Expr) -> exp.CTE | None:
    """Return the CTE that a table's name refers to: the nearest one, and inside a WITH one that comes before."""
    if not isinstance(table, exp.Table) or table.db or not isinstance(table.this, exp.Identifier):
        return None
    name, node = table.name.lower(), table
    while (parent := node.parent) is not None:
        if isinstance(parent, exp.With):
            known = parent.expressions
            if not parent.args.get("recursive"):
                known = known[: next(place for place, cte in enumerate(known) if cte is node)]
        else:
            inside = parent.args.get("with_")
            known = inside.expressions if inside is not None and inside is not node else []
        for cte in reversed(known):
            if cte.alias.lower() == name:
                return cte
        node = parent
    return None


def source_of(column: exp.Column) -> exp.Expr | None:
    """Return the table or subquery that a column's qualifier names; without one, the only source of its query block."""
    name, child, node = column.table.lower(), column, column.parent
    while node is not None:
        if isinstance(node, BLOCKS):
            sources = [part for part in _sources(node) if not name or part.alias_or_name.lower() == name]
            if sources and child.arg_key != "from_":
                return sources[0] if name or len(sources) == 1 else None
            if not name:
                return None
        child, node = node, node.parent
    return None


def relations(tree: exp.Expr) -> list[exp.Table]:
    """Return the tables and views in a statement, without its own CTEs."""
    return [node for node in tree.find_all(exp.Table) if isinstance(node.this, exp.Identifier) and cte_of(node) is None]
