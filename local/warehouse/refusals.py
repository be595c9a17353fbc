"""What Redshift refuses although PostgreSQL takes it, and what the local warehouse cannot do."""

from sqlglot import exp

from local.warehouse.plan import Refused, unsupported

_LONGEST_NAME = 63  # bytes, PostgreSQL's; Redshift allows 127
_NOT_IN_REDSHIFT = "PostgreSQL has it, Redshift does not"


def check(nodes: list[exp.Expr]) -> None:
    """Look at every node of a statement.

    Raises:
        Refused: one must not reach PostgreSQL, because it would do something else than Redshift.
    """
    for node in nodes:
        if isinstance(node, exp.Identifier):
            if len(node.name) > 15 and len(node.name.encode()) > _LONGEST_NAME:
                raise unsupported(f"names of more than {_LONGEST_NAME} bytes ({node.name})", "choose a shorter name")
        elif rule := _RULES.get(type(node)):
            rule(node)


def _here(construct: str, hint: str):
    def refuse(_: exp.Expr) -> None:
        raise unsupported(construct, hint)

    return refuse


def _there(near: str):
    def refuse(_: exp.Expr) -> None:
        raise Refused(f'syntax error at or near "{near}"', "42601", _NOT_IN_REDSHIFT)

    return refuse


def _column(node: exp.Column) -> None:
    if node.args.get("join_mark"):
        raise unsupported("the outer join operator (+)", "write LEFT JOIN or RIGHT JOIN")


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


_RULES = {
    exp.Pivot: _here("PIVOT and UNPIVOT", "write sum(case when … then … end), or union all"),
    exp.Lateral: _there("lateral"),
    exp.Lock: _there("for"),
    exp.Filter: _there("filter"),
    exp.TableSample: _there("tablesample"),
    exp.Returning: _there("returning"),
    exp.Column: _column,
    exp.Distinct: _distinct,
    exp.Except: _set_operation,
    exp.Intersect: _set_operation,
    exp.Insert: _insert,
    exp.Create: _create,
    exp.Merge: _merge,
}
