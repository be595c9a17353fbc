"""Refuses statements that combine functions or catalog tables of the leader node with those of the compute nodes.

The manual, "SQL functions supported on the leader node" (c_sql-functions-leader-node): "A query that uses a leader-node
function must run exclusively on the leader node, not on the compute nodes, or it will return an error." A query that
references a user-created table runs on the compute nodes.
"""

from collections.abc import Iterator

from sqlglot import exp

from redshift_local.parse import scopes
from redshift_local.plan import Refused

Reads = frozenset[tuple[str, str]]  # schema (or nothing) and name of relations
_CATALOG, _SYSTEM = ("pg_catalog", "information_schema"), ("pg_", "svv_", "svl_", "svcs_", "stl_", "stv_", "sys_")

_NOT_SUPPORTED = "Specified types or functions (one per INFO message) not supported on Redshift tables."
_CLOCK = "use GETDATE(), SYSDATE or CURRENT_DATE"
_SCHEMA = "query it on its own first, then write the value"
# Functions of the leader node, and what to write instead.
_LEADER_ONLY = {
    # "Leader node-only functions" (c_SQL_functions_leader_node_only). It also lists CURRENT_TIMESTAMP, as deprecated,
    # but that works with tables: dbt-utils used it on Redshift until 2019 (dbt-utils 109), node-pg-migrate 766 (2021)
    # inserts it where NOW() fails, amazon-redshift-utils joins it with stv_recents (v_get_blocking_locks), and the
    # tests of snowplow_unified 1.0.0 (2026) select it. NOW() does not work: AWS said so in 2019 (liquibase-redshift 9).
    "current_schema": _SCHEMA,
    "current_schemas": _SCHEMA,
    "has_database_privilege": _SCHEMA,
    "has_schema_privilege": _SCHEMA,
    "has_table_privilege": _SCHEMA,
    "current_time": _CLOCK,
    "localtime": _CLOCK,
    "now": _CLOCK,
    "isfinite": "compare with a date",
    "get_bit": "use a bit operator",
    "get_byte": "use a bit operator",
    "getbit": "use a bit operator",
    "set_bit": "use a bit operator",
    "set_byte": "use a bit operator",
    "to_ascii": "use TRANSLATE or REGEXP_REPLACE",
    # "Date and time functions" (Date_functions_header), "Deprecated leader node-only functions".
    "localtimestamp": _CLOCK,
    # Unverified: the manual does not name these, public reports and psql's queries do.
    "factorial": "compute it in a table",
    "format_type": _SCHEMA,
    "generate_series": "use WITH RECURSIVE, or a table of numbers",
    "has_column_privilege": _SCHEMA,
    "obj_description": _SCHEMA,
    "pg_get_cols": _SCHEMA,
    "pg_get_late_binding_view_cols": _SCHEMA,
    "pg_get_userbyid": "join pg_user, which has usesysid and usename",
    "pg_get_viewdef": _SCHEMA,
    "pg_table_is_visible": _SCHEMA,
    "version": _SCHEMA,
}
_WITHOUT_PARENTHESES = {
    exp.CurrentTime: "current_time",
    exp.Localtime: "localtime",
    exp.Localtimestamp: "localtimestamp",
}
# "Compute node-only functions" (c_SQL_functions_compute_node_only).
_COMPUTE_ONLY = frozenset({"listagg", "median", "percentile_cont", "percentile_disc"})
# "Querying the catalog tables" (c_join_PG): these can be joined with user tables, without the columns named here, whose
# types or functions the compute nodes lack. The columns' types are those of PostgreSQL 8.0's catalog.
_JOINABLE = {
    **dict.fromkeys(("pg_attribute", "pg_cast", "pg_depend", "pg_description", "pg_locks", "pg_opclass"), ()),
    "pg_class": ("relacl",),
    "pg_constraint": ("conkey", "confkey"),
    "pg_database": ("datconfig", "datacl"),
    "pg_group": ("grolist",),
    "pg_language": ("lanacl",),
    "pg_namespace": ("nspacl",),
    "pg_operator": ("oprcode", "oprrest", "oprjoin"),
    "pg_proc": ("proargtypes", "proargnames", "proacl"),
    "pg_settings": (),
    "pg_statistic": ("stanumbers1", "stanumbers2", "stanumbers3", "stanumbers4", "stavalues1", "stavalues2"),
    "pg_tables": ("tableowner",),
    "pg_type": ("typinput", "typoutput", "typreceive", "typsend", "typanalyze"),
    "pg_user": ("valuntil", "useconfig"),
    "pg_views": ("viewowner", "definition"),
}


def check(nodes: list[exp.Expr], reads: Reads) -> None:
    """Refuse a statement that no node of a cluster can run as a whole.

    Args:
        nodes: the statement and everything in it, the statement itself first.
        reads: the relations that it reads or changes.

    Raises:
        Refused: the statement mixes leader-node objects with user tables, or lacks the table that a function needs.
    """
    tree = nodes[0]
    user_tables = sorted(name for schema, name in reads if not _is_system(schema, name))
    stores = isinstance(tree, exp.Insert) or (
        isinstance(tree, exp.Create) and bool(tree.expression) and (tree.kind == "TABLE" or _is_materialized(tree))
    )
    calls = list(_calls(nodes))
    for name, node in calls:
        # Unverified: that a default is computed on the compute nodes, too.
        if name in _LEADER_ONLY and (user_tables or stores or node.find_ancestor(exp.DefaultColumnConstraint)):
            hint = f"{name.upper()} runs on the leader node only, not beside a table; {_LEADER_ONLY[name]}"
            raise Refused(_NOT_SUPPORTED, "0A000", hint)
    if not reads and isinstance(tree, (exp.Query, exp.Create)):
        for name in sorted(_COMPUTE_ONLY & {name for name, _ in calls}):
            text = "One or more of the used functions must be applied on at least one user created table."
            hint = f"{name.upper()} runs on the compute nodes only; read a table, such as one that holds these rows"
            raise Refused(text, "0A000", hint)
    if user_tables or stores:
        _catalog_tables(nodes, reads, alone=stores and _reads_only_catalog(tree))
        _null_safe(nodes)


def _is_system(schema: str, name: str) -> bool:
    return schema in _CATALOG or (not schema and name.startswith(_SYSTEM))


def _is_materialized(tree: exp.Create) -> bool:
    properties = tree.args.get("properties")
    return properties is not None and properties.find(exp.MaterializedProperty) is not None


def _calls(nodes: list[exp.Expr]) -> Iterator[tuple[str, exp.Expr]]:
    for node in nodes:
        if isinstance(node, exp.Anonymous):
            yield str(node.this).lower(), node
        elif name := _WITHOUT_PARENTHESES.get(type(node)):
            yield name, node


def _reads_only_catalog(tree: exp.Expr) -> bool:
    query = tree.expression or exp.Null()  # INSERT … DEFAULT VALUES has none
    tables = scopes.relations(query)
    return bool(tables) and all(_is_leaders(node.db.lower(), node.name.lower()) for node in tables)


def _is_leaders(schema: str, name: str) -> bool:
    """Whether a relation exists on the leader node only."""
    return schema == "information_schema" or (_is_system(schema, name) and name.startswith("pg_"))


def _catalog_tables(nodes: list[exp.Expr], reads: Reads, *, alone: bool) -> None:
    for schema, name in sorted(reads):
        if not _is_leaders(schema, name):
            continue
        hint = f"{schema + '.' if schema else ''}{name} is on the leader node only"
        if alone:
            # Unverified: the manual says where the query runs, public reports that its rows cannot be stored.
            raise Refused(_NOT_SUPPORTED, "0A000", f"{hint}; query it, then insert the rows with VALUES")
        if schema == "information_schema" or name not in _JOINABLE:
            raise Refused(_NOT_SUPPORTED, "0A000", f"{hint}; query it on its own, without user tables")
        if unsupported := _unsupported_columns(nodes, name):
            hint = f"the compute nodes do not support {name}.{unsupported}; select other columns"
            raise Refused(_NOT_SUPPORTED, "0A000", hint)


def _unsupported_columns(nodes: list[exp.Expr], table: str) -> str:
    columns = _JOINABLE[table]
    for node in nodes:
        if isinstance(node, exp.Column) and node.name.lower() in columns:
            source = scopes.source_of(node)
            if source is None or (source.name.lower() == table and scopes.cte_of(source) is None):
                return node.name.lower()
        if isinstance(node, exp.Select) and columns:
            sources = [node.args.get("from_"), *(node.args.get("joins") or [])]
            if any(item.is_star for item in node.expressions) and any(
                isinstance(source, exp.Expr) and source.this.name.lower() == table for source in sources
            ):
                return columns[0]
    return ""


def _null_safe(nodes: list[exp.Expr]) -> None:
    """Refuse IS DISTINCT FROM, which the leader node reads and the compute nodes do not implement.

    Unverified: the manual does not have it; https://github.com/jakob/Postico/issues/446 reports "Not implemented".
    """
    for node in nodes:
        if isinstance(node, (exp.NullSafeEQ, exp.NullSafeNEQ)):
            raise Refused("Not implemented: IS DISTINCT FROM", "0A000", "write: a <> b or (a is null) <> (b is null)")
