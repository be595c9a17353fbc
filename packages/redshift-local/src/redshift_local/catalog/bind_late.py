# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""Settles what of a plan depends on the tables there are when it is run: aliases, and late-binding views."""

from typing import Any

from redshift_local.plan import HELPERS, Plan, Refused, literal, raising, unsupported


async def settled(session: Any, plan: Plan) -> Plan:
    """Return the plan to run now.

    Args:
        session: the client's, which asks PostgreSQL.
        plan: a translated statement.
    """
    if plan.makes_late_view:
        session.late_views.add(plan.makes_late_view)
    if plan.renames and plan.renames[0] in session.late_views:
        session.late_views.add(plan.renames[1])
    if session.failed:
        return plan
    try:
        if plan.finish:
            text, plan = plan.text, plan.finish(await _columns(session, plan.wants))
            plan.text = text
        await _bind_views(session, plan)
        return await _with_aliases(session, plan) if plan.aliased else plan
    except Refused as refusal:
        failing = raising(refusal)
        failing.text = plan.text
        return failing


async def _columns(session: Any, tables: list[str]) -> dict[str, list[str]]:
    """Names of the columns of tables, in order; none for a table that is not there."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    listed = ", ".join(literal(table) for table in tables)
    sql = f"SELECT name, attname FROM unnest(ARRAY[{listed}]) AS name JOIN pg_attribute ON attrelid = to_regclass(name)"
    for table, column in await session.ask(f"{sql} WHERE attnum > 0 AND NOT attisdropped ORDER BY name, attnum"):
        found[table].append(column)
    return found


async def _bind_views(session: Any, plan: Plan) -> None:
    """Bind the late-binding views that a statement reads to what their names stand for now."""
    names = {name for _, name in plan.reads if name in session.late_views}
    if not names:
        return
    listed = ", ".join(literal(name) for name in names)
    for schema, name, problem in await session.ask(f"SELECT * FROM {HELPERS}.bind_views(ARRAY[{listed}])"):
        if problem and ({(schema, name), ("", name)} & plan.reads):
            raise Refused(problem, "42P01", f"late-binding view {schema}.{name} reads it")


async def _with_aliases(session: Any, plan: Plan) -> Plan:
    """Tell columns from aliases of the same select list; a column of the tables goes first."""
    checks = ", ".join(f"{HELPERS}.lacks_column({literal(check)})" for check in plan.checks)
    [[written, *others]] = await session.ask(f"SELECT {checks}")
    if written == "f":
        return plan
    if "f" in others:
        hint = "give the alias another name, or write <table>.<column>"
        raise unsupported("an alias beside a column of the same name", hint)
    return plan.aliased
