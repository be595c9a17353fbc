"""Refusals: constructs that PostgreSQL has and Redshift lacks, and constructs that are not supported here."""

from sqlglot import exp

from redshift_local.parse import longnames
from redshift_local.plan import Refused, unsupported

_CATALOG, _SYSTEM = ("pg_catalog", "information_schema"), ("pg_", "svv_", "svl_", "stl_", "stv_", "sys_")
_NOT_IN_REDSHIFT = "PostgreSQL has it, Redshift does not"


def check(nodes: list[exp.Expr], reads: frozenset[tuple[str, str]]) -> None:
    """Check every node of a statement.

    Args:
        nodes: they, the statement itself first.
        reads: schema (or nothing) and name of every relation that it names.

    Raises:
        Refused: one must not reach PostgreSQL, because it would do something else than Redshift.
    """
    for node in nodes:
        if isinstance(node, exp.Identifier):
            if longnames.is_long(node.name):
                longnames.check(nodes[0], node)
        elif rule := _RULES.get(type(node)):
            rule(node)
    _leader_node(nodes, reads)


def only_catalog(reads: frozenset[tuple[str, str]]) -> bool:
    """Whether a statement reads only system tables and views."""
    return all(schema in _CATALOG or name.startswith(_SYSTEM) for schema, name in reads)


def _leader_node(nodes: list[exp.Expr], reads: frozenset[tuple[str, str]]) -> None:
    """https://docs.aws.amazon.com/redshift/latest/dg/c_sql-functions-leader-node.html"""
    if not any(isinstance(node, exp.Anonymous) and str(node.this).lower() == "generate_series" for node in nodes):
        return
    stores = isinstance(nodes[0], exp.Insert) or (isinstance(nodes[0], exp.Create) and nodes[0].kind == "TABLE")
    if stores or not only_catalog(reads):
        text = "Specified types or functions (one per INFO message) not supported on Redshift tables."
        raise Refused(text, "0A000", "generate_series runs on the leader node only; use WITH RECURSIVE, or a table")


def _here(construct: str, hint: str):
    def refuse(_: exp.Expr) -> None:
        raise unsupported(construct, hint)

    return refuse


def _there(near: str):
    def refuse(_: exp.Expr) -> None:
        raise Refused(f'syntax error at or near "{near}"', "42601", _NOT_IN_REDSHIFT)

    return refuse


def _distinct(node: exp.Distinct) -> None:
    if node.args.get("on"):
        raise Refused("SELECT DISTINCT ON is not supported", "0A000", _NOT_IN_REDSHIFT)


def _set_operation(node: exp.SetOperation) -> None:
    if not node.args.get("distinct", True):
        word = type(node).__name__.upper()
        raise Refused(f"{word} ALL is not supported", "0A000", _NOT_IN_REDSHIFT)


def _insert(node: exp.Insert) -> None:
    if node.args.get("conflict"):
        _there("conflict")(node)
    if node.args.get("returning"):
        _there("returning")(node)


def _create(node: exp.Create) -> None:
    refused = {"INDEX": 'SQL command "CREATE INDEX" not supported on Redshift tables.'}
    if node.kind in refused:
        raise Refused(refused[node.kind], "0A000", _NOT_IN_REDSHIFT)
    if node.kind in ("SEQUENCE", "TRIGGER", "TYPE", "DOMAIN", "EXTENSION"):
        _there(node.kind.lower())(node)
    if node.kind in ("FUNCTION", "PROCEDURE"):
        raise unsupported(f"CREATE {node.kind}", "test it on a cluster")


def _merge(node: exp.Merge) -> None:
    for when in node.args["whens"].expressions:
        if when.args.get("condition"):
            _there("and")(node)


def _values(node: exp.Values) -> None:
    if not isinstance(node.parent, (exp.Insert, exp.When)):
        _there("values")(node)


def _select(node: exp.Select) -> None:
    if node.args.get("windows"):
        _there("window")(node)


def _frame(node: exp.WindowSpec) -> None:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_Window_function_synopsis.html"""
    kind = str(node.args.get("kind") or "").upper()
    if kind == "GROUPS":
        _there("groups")(node)
    if kind == "RANGE" and any(isinstance(node.args.get(end), exp.Expr) for end in ("start", "end")):
        raise Refused("RANGE with an offset is not supported", "0A000", _NOT_IN_REDSHIFT)


def _check_constraint(_: exp.Expr) -> None:
    raise Refused("CHECK constraints are not supported", "0A000", _NOT_IN_REDSHIFT)


_RULES = {
    exp.Lateral: _there("lateral"),
    exp.Lock: _there("for"),
    exp.Filter: _there("filter"),
    exp.TableSample: _there("tablesample"),
    exp.Returning: _there("returning"),
    exp.Distinct: _distinct,
    exp.Except: _set_operation,
    exp.Intersect: _set_operation,
    exp.Insert: _insert,
    exp.Create: _create,
    exp.Merge: _merge,
    exp.Values: _values,
    exp.Select: _select,
    exp.WindowSpec: _frame,
    exp.Fetch: _there("fetch"),
    exp.CheckColumnConstraint: _check_constraint,
    exp.UnloggedProperty: _there("unlogged"),
}
