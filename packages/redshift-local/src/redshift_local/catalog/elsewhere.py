# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""Statements about another database, which PostgreSQL does not have.

Tables that are read there are copied into temporary tables first. Statements that change something there run in a
second connection, as after USE.

https://docs.aws.amazon.com/redshift/latest/dg/cross-database-overview.html
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlglot
from sqlglot import exp

from redshift_local.catalog.system_catalog import OF_ALL_DATABASES
from redshift_local.plan import Plan, Refused, identifier, literal, unsupported
from redshift_local.protocol import wire

_BOUND = re.compile(r"\$\d")
_NO_DATABASE = "3D000"
_CATALOGS = ("", "information_schema", "pg_catalog")


async def copy_tables(session: Any, plan: Plan, tables: set[tuple[str, str, str]]) -> Plan:
    """Copy the tables that a statement reads in other databases; returns the plan that reads the copies.

    Args:
        session: the client's.
        plan: the statement's.
        tables: database, schema and name of each.
    """
    copies = {}
    for database, schema, name in sorted(tables):
        if schema in _CATALOGS and name not in OF_ALL_DATABASES:
            raise unsupported("catalog tables of another database", f"connect to {database}")
        sql = f"SELECT * FROM {identifier(schema)}.{identifier(name)}"
        try:
            copies[database, schema, name] = await _copy(session, database, sql, name)
        except Refused as refusal:
            if refusal.code != _NO_DATABASE or name not in OF_ALL_DATABASES:
                raise
    text, plan = plan.text, plan.localized(copies)
    plan.text = text
    return plan


async def copy_view(session: Any, definition: str, columns: str) -> str:
    """Copy the rows of a late-binding view on tables of another database; returns the name of the temporary table."""
    tree = sqlglot.parse_one(definition, read="postgres")
    for table in list(tree.find_all(exp.Table)):
        database = table.catalog
        if database not in ("", session.who.database):
            sql = f"SELECT * FROM {identifier(table.db)}.{identifier(table.name)}"
            copy = await _copy(session, database, sql, table.name)
            alias = table.args.get("alias") or exp.TableAlias(this=table.this.copy())
            table.replace(exp.Table(this=exp.to_identifier(copy), db=exp.to_identifier("pg_temp"), alias=alias))
    name = f"pg_remote_{hashlib.sha256(f'{definition} {columns}'.encode()).hexdigest()[:16]}"
    await session.query_between(f"DROP TABLE IF EXISTS pg_temp.{name}")
    await session.query_internal(f"CREATE TEMPORARY TABLE {name} {columns} AS {tree.sql('postgres')}")
    return name


@dataclass
class _Change:
    plan: Plan
    resolve: Callable[[Any, Plan], Awaitable[Plan]]

    async def run(self, session: Any) -> str:
        """Run the statement in its database; returns the command tag."""
        current = session.used_database
        await session.use(self.plan.within)
        try:
            plan = await self.resolve(session, self.plan)
            if plan.action:
                raise unsupported("this statement in another database", f"run USE {self.plan.within} first")
            segment = await session.run_internal(plan.sql)
            if segment.failed is not None:
                raise Refused(segment.failed["M"], segment.failed["C"], segment.failed.get("H", ""))
            return plan.tag or segment.tag
        finally:
            has_failed = session.failed
            if has_failed:
                await session.query_internal("ROLLBACK")
            await session.use(current)
            if has_failed:  # the client's transaction must be rolled back, here too
                await session.query_internal("BEGIN")
                await session.run_internal("SELECT 1 / 0")


def changing(plan: Plan, resolve: Callable[[Any, Plan], Awaitable[Plan]]) -> Plan:
    """Return the plan that runs a statement in the database of the table or schema that it changes.

    An example is in https://docs.aws.amazon.com/redshift/latest/dg/r_USE_command.html: `insert into pdb.public.t …`
    """
    hint = f"run USE {plan.within} first"
    if plan.has_bare_reads:
        raise unsupported("tables of two databases in a statement that does not name the databases", hint)
    if _BOUND.search(plan.sql):
        raise unsupported("bound values in a statement that changes another database", hint)
    return Plan("", action=_Change(plan, resolve), text=plan.text)


async def show(session: Any, plan: Plan) -> Plan:
    """Run a SHOW in another database; returns the plan that reads its rows."""
    copy = await _copy(session, plan.database, plan.sql, "")
    return Plan(f"SELECT * FROM pg_temp.{copy}", tag=plan.tag, text=plan.text)


async def _copy(session: Any, database: str, sql: str, name: str) -> str:
    """Copy the rows of a query in another database, as the same user; returns the name of the temporary table."""
    table = f"pg_remote_{hashlib.sha256(f'{database} {sql}'.encode()).hexdigest()[:16]}"
    conninfo = psycopg.conninfo.make_conninfo(session.journal.postgres.conninfo(database), user=session.who.user)
    try:
        async with await psycopg.AsyncConnection.connect(conninfo) as remote:
            await remote.execute("SELECT pg_redshift.bind_views(ARRAY[%s])", (name,))
            await remote.execute(f"CREATE TEMPORARY VIEW pg_remote AS {sql}")
            columns = await remote.execute(
                "SELECT string_agg(quote_ident(attname) || ' ' || pg_catalog.format_type(atttypid, atttypmod), ', '"
                " ORDER BY attnum) FROM pg_catalog.pg_attribute"
                " WHERE attrelid = 'pg_temp.pg_remote'::regclass AND attnum > 0"
            )
            await _fill(session, table, (await columns.fetchone())[0], remote)
            await remote.rollback()
    except psycopg.Error as problem:
        if "does not exist" in str(problem) and problem.sqlstate is None:
            raise Refused(f'database "{database}" does not exist', _NO_DATABASE) from problem
        text = problem.diag.message_primary or str(problem)
        raise Refused(text, problem.sqlstate or "XX000", f"in database {database}") from problem
    return table


async def _fill(session: Any, table: str, columns: str, remote: psycopg.AsyncConnection) -> None:
    session.known.has_super |= "super" in columns or "json" in columns
    [[existing]] = await session.query_between(f"SELECT to_regclass({literal(f'pg_temp.{table}')})")
    drop = f"DROP TABLE pg_temp.{table}; " if existing else ""
    await session.query_internal(f"{drop}CREATE TEMPORARY TABLE {table} ({columns})")
    segment = await session.run_internal(f"COPY pg_temp.{table} FROM STDIN", wait=False)
    await segment.copying.wait()
    try:
        async with remote.cursor() as cursor, cursor.copy("COPY (SELECT * FROM pg_remote) TO STDOUT") as rows:
            async for row in rows:
                session.server_writer.write(wire.message(b"d", bytes(row)))
                await session.server_writer.drain()
    except psycopg.Error:
        await session.abort_copy(segment)
        raise
    session.server_writer.write(wire.message(b"c"))
    await segment.done.wait()
    if segment.failed is not None:
        raise Refused(segment.failed.get("M", ""), segment.failed.get("C", "XX000"))
