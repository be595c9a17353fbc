"""Paths into SUPER values, such as `t.doc.customer.name` or `t.doc.items[0]`, and arrays of a row as tables.

The FROM clause decides whether a dot leads into a value or to a table.
https://docs.aws.amazon.com/redshift/latest/dg/query-super.html
"""

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from redshift_local.parse import longnames, scopes
from redshift_local.plan import HELPERS, Refused

Rows = dict[int, set[str]]  # names of unnested rows, by the id of the query block that unnests them
# PostgreSQL parses the JSON of a row for each path into it. From this number of attributes on, it parses a row once.
_MANY = 4
_IDENTIFIER_BYTES = 63
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)


def rewrite(tree: exp.Expr) -> None:
    """Rewrite all paths of a statement."""
    rows: Rows = {}
    for table in list(tree.find_all(exp.Table)):
        if is_path(table):
            value = table.to_column(copy=True).unalias()
            table.replace(exp.Unnest(expressions=[value], alias=table.args.get("alias")))
    for kind, as_table in _UNNESTED.items():
        for node in list(tree.find_all(kind)):
            block = id(node.find_ancestor(*scopes.BLOCKS))
            rows.setdefault(block, set()).add(as_table(node))
    for column in list(tree.find_all(exp.Column)):
        if column.parent is not None and not isinstance(column.this, exp.Star):
            _column(column, rows)
    for select in list(tree.find_all(exp.Select)):
        for row in rows.get(id(select), ()):
            _read_once(select, row)


def is_path(table: exp.Table) -> bool:
    """Whether a subquery reads an array of an outer row: `exists (select 1 from t.items as i)`."""
    if not table.db or not isinstance(table.parent, exp.From):
        return False
    first = table.parts[0].name.lower()
    return any(first in names for block, names, _ in scopes.blocks(table) if block is not table.parent_select)


def _as_table(node: exp.Unnest) -> str:
    value, alias = node.expressions[0], node.args.get("alias")
    if not isinstance(value, (exp.Column, exp.Bracket, exp.Dot)) or alias is None:
        raise Refused("function unnest(unknown) does not exist", "42883", "name an array: from t, t.items as i")
    name = (alias.columns[0] if alias.columns else alias.this).name.lower()
    place = node.args.get("offset")
    columns = [exp.to_identifier(name)] + ([exp.to_identifier(place.name)] if isinstance(place, exp.Identifier) else [])
    call = exp.Anonymous(this=f"{HELPERS}.elements", expressions=[value.copy()])
    node.replace(exp.Lateral(this=call, alias=exp.TableAlias(this=exp.to_identifier(name), columns=columns)))
    return name


def _with_place(node: exp.Expr, item: exp.Expr, function: str) -> str:
    """`array AS item AT index`, and `UNPIVOT object AS value AT key`, as a table of two columns."""
    place = item.expression.name.lower() if isinstance(item, exp.AtIndex) else "pg_place"
    value = item.this if isinstance(item, exp.AtIndex) else item
    if isinstance(value, exp.Table):
        value = value.to_column(copy=False)
    name = value.alias_or_name.lower()
    call = exp.Anonymous(this=f"{HELPERS}.{function}", expressions=[value.unalias().copy()])
    columns = [exp.to_identifier(name), exp.to_identifier(place)]
    node.replace(exp.Lateral(this=call, alias=exp.TableAlias(this=exp.to_identifier(name), columns=columns)))
    return name


_UNNESTED: dict[type[exp.Expr], Callable[[Any], str]] = {
    exp.Unnest: _as_table,
    exp.Pivot: lambda node: _with_place(node, node.this, "attributes"),
    exp.AtIndex: lambda node: _with_place(node, node, "numbered"),
}


def _column(column: exp.Column, rows_of_blocks: Rows) -> None:
    parts = [part.name for part in column.parts]
    top, keys = _chain(column)
    tables: dict[str, str] = {}
    rows: set[str] = set()
    for block, tables_of_block, _ in scopes.blocks(column):
        tables = tables_of_block | tables
        rows |= rows_of_blocks.get(id(block), set()) & tables_of_block.keys()
    if len(parts) == 1 and not keys and parts[0].lower() not in rows:
        return
    if not tables:
        return
    base, inside = _base(parts, tables, rows)
    if base is None:
        return
    keys = inside + keys
    known_super = bool(keys) or (len(parts) == 1 and parts[0].lower() in rows)
    if not known_super:
        return
    name = next((key for key in reversed(keys) if not key.isdecimal()), base.name)
    keys = [longnames.restore(key) for key in keys]
    path: exp.Expr = base
    if keys:
        path = exp.Anonymous(this=f"{HELPERS}.path", expressions=[base, *(exp.Literal.string(key) for key in keys)])
    _place(top, path, name)


def _chain(column: exp.Column) -> tuple[exp.Expr, list[str]]:
    """The largest expression of dots and brackets around a column, and the keys they name."""
    top: exp.Expr = column
    keys: list[str] = []
    while isinstance(top.parent, (exp.Bracket, exp.Dot)) and top.parent.this is top:
        top = top.parent
        keys.append(top.expression.name if isinstance(top, exp.Dot) else top.expressions[0].name)
    return top, keys


def _base(parts: list[str], tables: dict[str, str], rows: set[str]) -> tuple[exp.Column | None, list[str]]:
    """The column that a dotted name begins with, and the keys that follow it."""
    low = [part.lower() for part in parts]
    if low[0] in rows:
        return exp.column(low[0], low[0]), parts[1:]
    if low[0] in tables:
        return (exp.column(parts[1], parts[0]), parts[2:]) if len(parts) > 1 else (exp.column(parts[0]), [])
    if len(parts) > 2 and tables.get(low[1]) == low[0]:
        return exp.column(parts[2], parts[1], parts[0]), parts[3:]
    if len(parts) > 3 and tables.get(low[2]) == low[1]:
        return exp.column(parts[3], parts[2], parts[1]), parts[4:]
    if len(parts) == 2 and low[0] == "excluded":
        return None, []
    return exp.column(parts[0]), parts[1:]


def _place(top: exp.Expr, path: exp.Expr, name: str) -> None:
    """Insert a path. Beside a string literal it is cast to text, because the literal would be read as JSON.

    In a select list, it and its casts are named after its last key: `data."ITEMS"."Name"` is Name in
    https://docs.aws.amazon.com/redshift/latest/dg/super-configurations.html.
    """
    parent = top.parent
    if isinstance(parent, (*_COMPARISONS, exp.DPipe, exp.In)):
        others = [parent.this, parent.expression, *parent.expressions]
        if any(isinstance(other, exp.Literal) and other.is_string for other in others if other is not top):
            path = exp.Anonymous(this=f"{HELPERS}.text_of", expressions=[path])
    top.replace(path)
    while isinstance(path.parent, exp.Cast) and path.parent.this is path:
        path = path.parent
    if isinstance(path.parent, exp.Select) and path.arg_key == "expressions":
        alias = exp.Alias(alias=exp.to_identifier(name, quoted=True))
        path.replace(alias)
        alias.set("this", path)


def _read_once(select: exp.Select, row: str) -> None:
    """Let a query block that reads many attributes of an unnested row get them from one table function."""
    if any(isinstance(item, exp.Star) or item.find(exp.Star) for item in select.expressions):
        return
    paths: dict[str, list[exp.Anonymous]] = {}
    for call in select.find_all(exp.Anonymous):
        if call.name == f"{HELPERS}.path" and call.find_ancestor(exp.Select) is select:
            base, *keys = call.expressions
            if base == exp.column(row, row) and len(keys) == 1 and _is_attribute(keys[0].name):
                paths.setdefault(keys[0].name, []).append(call)
    if len(paths) < _MANY:
        return
    table = f"pg_attributes_of_{row}"
    columns = [
        exp.ColumnDef(this=exp.to_identifier(key, quoted=True), kind=exp.Var(this="pg_catalog.super")) for key in paths
    ]
    value = exp.Anonymous(this=f"{HELPERS}.object_or_empty", expressions=[exp.column(row, row)])
    record = exp.Anonymous(this="pg_catalog.json_to_record", expressions=[value])
    alias = exp.TableAlias(this=exp.to_identifier(table), columns=columns)
    select.append("joins", exp.Join(this=exp.Lateral(this=record, alias=alias)))
    for key, calls in paths.items():
        for call in calls:
            call.replace(exp.column(exp.to_identifier(key, quoted=True), table))


def _is_attribute(key: str) -> bool:
    return not key.isdecimal() and len(key.encode()) <= _IDENTIFIER_BYTES
