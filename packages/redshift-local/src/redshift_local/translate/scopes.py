"""Which tables a name in a statement can refer to: those of its own query block and of the blocks around it."""

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
    clauses = [block.args.get("from_"), *(block.args.get("joins") or []), block.args.get("using")]
    clauses += [] if isinstance(block, exp.Select) else [block.this]
    schemas: dict[str, str] = {}
    for clause in clauses:
        for part in clause if isinstance(clause, list) else [clause]:
            source = part.this if isinstance(part, (exp.From, exp.Join)) else part
            inner = source.args.get("joins") or [] if isinstance(source, exp.Expr) else []
            for table in (source, *(join.this for join in inner)):
                if isinstance(table, exp.Expr) and table.alias_or_name:
                    schemas.setdefault(table.alias_or_name.lower(), table.text("db").lower())
    return schemas
