"""Refusals: constructs that PostgreSQL has and Redshift lacks, and constructs that are not supported here.

A rule names the page of Redshift's manual or the public report that it comes from, or says "unverified". "The manual"
is the Database Developer Guide, https://docs.aws.amazon.com/redshift/latest/dg/<page>.html. Its sentences are quoted
from the source that AWS published last, awsdocs/amazon-redshift-developer-guide of May 2023.
"""

from sqlglot import exp

from redshift_local.parse import reserved
from redshift_local.plan import Refused, unsupported
from redshift_local.translate import cluster_nodes, subqueries, untyped

_NOT_IN_REDSHIFT = "PostgreSQL has it, Redshift does not"


def check(nodes: list[exp.Expr], reads: frozenset[tuple[str, str]]) -> None:
    """Check every node of a statement.

    Args:
        nodes: the nodes, the statement itself first.
        reads: schema (or nothing) and name of every relation that it names.

    Raises:
        Refused: PostgreSQL would handle a node differently from Redshift.
    """
    for node in nodes:
        if isinstance(node, exp.Identifier):
            reserved.check_node(node)
        elif rule := _RULES.get(type(node)):
            rule(node)
    cluster_nodes.check(nodes, reads)
    subqueries.check(nodes)
    untyped.check(nodes)


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
    if node.kind == "VIEW" and node.find(exp.MaterializedProperty):
        _materialized_view(node.expression)
    if node.args.get("no_schema_binding") and subqueries.recursive_ctes(node):
        # https://github.com/dbt-labs/dbt-project-evaluator/issues/179, https://github.com/SQLMesh/sqlmesh/issues/4006
        text = "All the relation names inside should be qualified when creating VIEW WITH NO SCHEMA BINDING."
        raise Refused(
            text, "42601", "a recursive CTE has no schema; leave out WITH NO SCHEMA BINDING, or the recursion"
        )


def _materialized_view(query: exp.Expr) -> None:
    """The manual, "CREATE MATERIALIZED VIEW" (materialized-view-create-sql-command), "Limitations"."""
    for word in ("order", "limit", "offset"):
        if query.unnest().args.get(word):
            text = f"Materialized views cannot have {word.upper()}{' BY' if word == 'order' else ''}"
            raise Refused(text, "0A000", "sort and limit where the view is read")


def _merge(node: exp.Merge) -> None:
    """The manual, "MERGE" (r_MERGE): its syntax has both branches, or REMOVE DUPLICATES, and no alias of the target.

    https://github.com/dbt-labs/dbt-core/issues/10901
    """
    whens = node.args["whens"].expressions
    for when in whens:
        if when.args.get("condition"):
            _there("and")(node)
        if when.args.get("source") or str(when.args["then"]).upper() == "DO NOTHING":
            _there(str(when.args["then"]).lower())(node)
    if node.this.alias:
        hint = f"MERGE has no alias for the target; write {node.this.name} instead of {node.this.alias}"
        raise Refused(f'syntax error at or near "{node.this.alias}"', "42601", hint)
    if sorted(bool(when.args.get("matched")) for when in whens) != [False, True]:
        hint = "MERGE needs one WHEN MATCHED and one WHEN NOT MATCHED; use INSERT, UPDATE or DELETE for a single one"
        raise Refused("syntax error at end of input", "42601", hint)
    source = node.args["using"]
    if isinstance(source, exp.Table) and (source.name, source.db) == (node.this.name, node.this.db):
        # "source_table and target_table can't be the same table."
        raise Refused(
            "MERGE source and target cannot be the same table", "0A000", "copy the source to a temporary table"
        )


def _delete(node: exp.Delete) -> None:
    """The manual, "DELETE" (r_DELETE): `DELETE [ FROM ] table_name`. https://github.com/dbt-labs/dbt-adapters/issues/958"""
    target = node.this or node.args["tables"][0]
    if target.alias:
        hint = f"DELETE has no alias for the target; write {target.name} instead of {target.alias}"
        raise Refused(f'syntax error at or near "{target.alias}"', "42601", hint)


def _alter(node: exp.Alter) -> None:
    """The manual, "ALTER TABLE" (r_ALTER_TABLE), "Syntax": one clause, or distribution and sort key."""
    actions = node.args["actions"]
    if len(actions) > 1 and not all(isinstance(action, (exp.AlterDistStyle, exp.AlterSortKey)) for action in actions):
        raise Refused('syntax error at or near ","', "42601", "write one ALTER TABLE for each column or constraint")
    for action in actions:
        if node.args.get("exists") or action.args.get("exists"):
            raise Refused(
                'syntax error at or near "exists"', "42601", "ALTER TABLE has no IF EXISTS and no IF NOT EXISTS"
            )
        if isinstance(action, exp.AlterColumn):
            _alter_column(action)


def _alter_column(action: exp.AlterColumn) -> None:
    """The manual (r_ALTER_TABLE): "This clause only supports altering the size of a VARCHAR data type."

    dbt-redshift 1.11 (macros/adapters.sql) alters VARBYTE, too.
    """
    kind = action.args.get("dtype")
    if kind is None:
        hint = "ALTER COLUMN changes the size of a VARCHAR, or the encoding"
        raise Refused('syntax error at or near "set"', "42601", hint)
    if kind.this not in (exp.DType.VARCHAR, exp.DType.NVARCHAR, exp.DType.TEXT, exp.DType.VARBINARY):
        text = f'ALTER COLUMN TYPE is not supported: column "{action.name}" to {kind.sql()}'
        raise Refused(
            text, "0A000", "add a column, update it, drop the old one, and rename; only VARCHAR can be resized"
        )


def _computed(_: exp.Expr) -> None:
    raise Refused('syntax error at or near "always"', "42601", "Redshift has no generated columns, only IDENTITY")


def _pattern(node: exp.RegexpLike) -> None:
    """The manual, "POSIX operators" (pattern-matching-conditions-posix). Unverified: the message."""
    _look_around(node.expression)


def _call(node: exp.Anonymous) -> None:
    """The manual, "REGEXP_SUBSTR function": parameter `p` chooses the "Perl Compatible Regular Expression dialect"."""
    name, arguments = str(node.this).lower(), node.expressions
    if name in ("regexp_count", "regexp_instr", "regexp_replace", "regexp_substr") and len(arguments) > 1:
        last = arguments[-1]
        if len(arguments) == 2 or not (last.is_string and "p" in last.name):
            _look_around(arguments[1])


def _look_around(pattern: exp.Expr) -> None:
    if pattern.is_string and any(start in pattern.name for start in ("(?=", "(?!", "(?<")):
        text = f"Invalid preceding regular expression: {pattern.name}"
        raise Refused(text, "2201B", "look-around needs REGEXP_SUBSTR or another function with the parameter 'p'")


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
    exp.Delete: _delete,
    exp.Alter: _alter,
    exp.ComputedColumnConstraint: _computed,
    exp.RegexpLike: _pattern,
    exp.RegexpILike: _pattern,
    exp.Anonymous: _call,
    exp.Values: _values,
    exp.Select: _select,
    exp.WindowSpec: _frame,
    exp.Fetch: _there("fetch"),
    exp.CheckColumnConstraint: _check_constraint,
    exp.UnloggedProperty: _there("unlogged"),
}
