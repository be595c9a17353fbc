# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""Resolves at run time what depends on existing tables: aliases, star lists, types and late-binding views."""

import re
from dataclasses import dataclass, field
from typing import Any

from redshift_local.catalog import elsewhere
from redshift_local.plan import HELPERS, Plan, Refused, identifier, literal, raising, unsupported

# In every statement that can create a SUPER column, unless it copies one.
_MAKES_SUPER = re.compile("super|json_parse|array|object", re.IGNORECASE)


@dataclass
class Known:
    """What the gateway knows of a database; its sessions share it.

    Attributes:
        late: names of late-binding views; other relations can have these names, too.
        recursive: names of views over recursive CTEs; other relations can have these names, too.
        has_super: whether a relation can have a SUPER column.
    """

    late: set[str] = field(default_factory=set)
    recursive: set[str] = field(default_factory=set)
    has_super: bool = False


async def resolve(session: Any, plan: Plan) -> Plan:
    """Return the plan to run now.

    Args:
        session: the client's, which asks PostgreSQL.
        plan: a translated statement.
    """
    if not session.known.has_super and _MAKES_SUPER.search(plan.text):
        session.known.has_super = True
    if plan.makes_late_view:
        session.known.late.add(plan.makes_late_view)
    if plan.makes_recursive_view:
        session.known.recursive.add(plan.makes_recursive_view)
    for names in (session.known.late, session.known.recursive):
        if plan.renames and plan.renames[0] in names:
            names.add(plan.renames[1])
    if session.failed:
        return plan
    try:
        if plan.within not in ("", session.who.database):
            return elsewhere.changing(plan, resolve)
        if others := {table for table in plan.remote if table[0] != session.who.database}:
            plan = await elsewhere.copy_tables(session, plan, others)
        if plan.database not in ("", session.who.database):
            return await elsewhere.show(session, plan)
        if plan.complete:
            text, plan = plan.text, plan.complete(await _columns(session, plan.needs_columns))
            plan.text = text
        plan = await _bind_views(session, plan)
        await _check_recursive_views(session, plan)
        plan = await _with_aliases(session, plan) if plan.alias_fallback else plan
        return await _with_super(session, plan) if plan.with_super and session.known.has_super else plan
    except Refused as refusal:
        failing = raising(refusal)
        failing.text = plan.text
        return failing


async def _columns(session: Any, tables: list[str]) -> dict[str, list[str]]:
    """Return the column names of tables, in order; an empty list for a missing table."""
    columns: dict[str, list[str]] = {table: [] for table in tables}
    names_array = ", ".join(literal(table) for table in tables)
    sql = (
        f"SELECT name, attname FROM unnest(ARRAY[{names_array}]) AS name JOIN pg_attribute ON attrelid ="
        " to_regclass(name) WHERE attnum > 0 AND NOT attisdropped ORDER BY name, attnum"
    )
    for table, column in await session.query_between(sql):
        columns[table].append(column)
    return columns


async def _bind_views(session: Any, plan: Plan) -> Plan:
    """Bind the late-binding views that a statement reads to the current relations of these names.

    Returns:
        The plan to run: it reads copies of the views on tables of another database.
    """
    names = {name for _, name in plan.reads if name in session.known.late}
    if not names:
        return plan
    copies: dict[tuple[str, str, str], str] = {}
    names_array = ", ".join(literal(name) for name in names)
    for schema, name, problem, definition, columns in await session.query_between(
        f"SELECT * FROM {HELPERS}.bind_views(ARRAY[{names_array}])"
    ):
        if not {(schema, name), ("", name)} & plan.reads:
            continue
        if definition and not plan.makes_late_view:
            copy = await elsewhere.copy_view(session, definition, columns)
            for database, within in (("", ""), ("", schema), (session.who.database, schema)):
                copies[database, within, name] = copy
        elif problem and not definition:
            code = "0A000" if problem.startswith("not supported") else "42P01"
            raise Refused(problem, code, f"late-binding view {schema}.{name} reads it")
    if not copies:
        return plan
    if plan.localized is None:
        raise unsupported("a view on another database with PIVOT or EXCLUDE", "store its rows in a table first")
    text, plan = plan.text, plan.localized(copies)
    plan.text = text
    return plan


async def _check_recursive_views(session: Any, plan: Plan) -> None:
    """Refuse to join a view over a recursive CTE, which becomes a subquery.

    https://github.com/dbt-labs/dbt-redshift/issues/803. Unverified: that such a view can be read alone.
    """
    views = [(schema, name) for schema, name in sorted(plan.reads) if name in session.known.recursive]
    if len(plan.reads) < 2 or not views:
        return
    names = ", ".join(literal(".".join(identifier(part) for part in view if part)) for view in views)
    for (name,) in await session.query_between(f"SELECT * FROM {HELPERS}.recursive_views(ARRAY[{names}])"):
        hint = f"the view {name} has a recursive CTE; store its rows in a table, and join that"
        raise Refused("Recursive CTE in subquery are not supported.", "0A000", hint)


async def _with_aliases(session: Any, plan: Plan) -> Plan:
    """Decide whether names are columns or aliases of the same select list; columns take precedence."""
    checks = ", ".join(f"{HELPERS}.lacks_column({literal(check)})" for check in plan.alias_checks)
    [[written, *others]] = await session.query_between(f"SELECT {checks}")
    if written == "f":
        return plan
    if "f" in others:
        hint = "give the alias another name, or write <table>.<column>"
        raise unsupported("an alias beside a column of the same name", hint)
    return plan.alias_fallback


async def _with_super(session: Any, plan: Plan) -> Plan:
    """Decide whether a set operation has SUPER and VARCHAR in the same column."""
    query = f"SELECT {HELPERS}.mixes_super({literal(plan.set_operations)})"
    if await session.query_between(query) == [["f"]]:
        return plan
    text, plan = plan.text, plan.with_super()
    plan.text = text
    return plan
