"""Records statements and load errors for sys_query_history, stl_load_errors and related views.

Written every second, and at once before a statement that names such a view. A statement that reads one through another
view may therefore miss the last second.
"""

import asyncio
import itertools
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from redshift_local.copy.rows import BadField
from redshift_local.parse import longnames
from redshift_local.plan import Plan
from redshift_local.server.postgres import Postgres

_SECONDS = 1.0
_MANY = 2000
# Statements that read the recorded history.
READS = re.compile(r"\b(?:sys|stl|svl|stv|svcs|svv_query)_\w+|pg_last_(?:query_id|copy_id)", re.IGNORECASE)
_QUERY = """INSERT INTO pg_redshift.queries (query_id, user_name, session_id, query_label, query_text, start_time,
 end_time, returned_rows, tag, error_code, error_message, target)
 VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_LOAD_ERROR = """INSERT INTO pg_redshift.load_errors (query_id, session_id, user_name, table_name, start_time,
 file_name, line_number, column_name, type, length, raw_line, raw_value, error_code, error_message)
 VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_LONG_NAME = "INSERT INTO pg_redshift.long_names VALUES (%s, %s) ON CONFLICT DO NOTHING"


@dataclass(frozen=True)
class Who:
    """User, database and session of a statement."""

    user: str
    database: str
    pid: int


class Journal:
    """Buffers the statements of all sessions until they are written to their databases."""

    def __init__(self, postgres: Postgres) -> None:
        """Start with query ids above those of earlier starts."""
        self.postgres = postgres
        self._numbers = itertools.count(int(time.time() * 1000))
        self._waiting: dict[str, list[tuple[str, tuple]]] = {}
        self._lock = asyncio.Lock()
        self._connections: dict[str, psycopg.AsyncConnection] = {}
        self._names: dict[str, int] = {}  # how many of the long names each database has

    def next_id(self) -> int:
        """Return the next query id."""
        return next(self._numbers)

    def query(
        self, who: Who, number: int, label: str, plan: Plan, started: float, tag: str, error: dict[str, str] | None
    ) -> None:
        """Record a finished statement."""
        rows = int(tag.split()[-1]) if tag[-1:].isdigit() else 0
        fields = error or {}
        times = (datetime.fromtimestamp(started, UTC), datetime.fromtimestamp(time.time(), UTC))
        row = (number, who.user, who.pid, label, plan.text[:65535].replace("\0", ""), *times, rows, tag)
        self._remember(who, _QUERY, (*row, fields.get("C"), fields.get("M"), plan.writes))

    async def write_names(self, database: str) -> None:
        """Store the long names that the database does not have yet, so that its catalog shows them."""
        start = self._names.get(database, 0)
        if names := longnames.known(start):
            async with self._lock:
                connection = await self._connection(database)
                async with connection.cursor() as cursor:
                    await cursor.executemany(_LONG_NAME, names)
                self._names[database] = start + len(names)

    def load_errors(self, who: Who, number: int, table: str, bad_fields: list[BadField]) -> None:
        """Record rows that a COPY could not load."""
        for bad in bad_fields:
            row = (number, who.pid, who.user, table, datetime.now(UTC), *bad.as_row())
            self._remember(who, _LOAD_ERROR, row)

    def _remember(self, who: Who, statement: str, row: tuple) -> None:
        self._waiting.setdefault(who.database, []).append((statement, row))

    async def write(self) -> None:
        """Write the buffered records. Records of a dropped database are discarded."""
        async with self._lock:
            waiting, self._waiting = self._waiting, {}
            for database, rows in waiting.items():
                # Once more, in case the connection was lost since the last time.
                for _ in range(2):
                    try:
                        await self._insert(database, rows)
                        break
                    except psycopg.Error:
                        if connection := self._connections.pop(database, None):
                            await connection.close()

    async def _insert(self, database: str, rows: list[tuple[str, tuple]]) -> None:
        connection = await self._connection(database)
        async with connection.transaction(), connection.cursor() as cursor:
            for statement in (_QUERY, _LOAD_ERROR):
                if some := [row for kind, row in rows if kind is statement]:
                    await cursor.executemany(statement, some)

    async def _connection(self, database: str) -> psycopg.AsyncConnection:
        connection = self._connections.get(database)
        if connection is None or connection.closed:
            conninfo = self.postgres.conninfo(database)
            connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            await connection.execute("SET application_name = 'pg_redshift journal'")
            self._connections[database] = connection
        return connection

    async def leave(self, database: str) -> None:
        """Write the buffered records, and close the connection to a database, so that it can be dropped."""
        await self.write()
        async with self._lock:
            self._names.pop(database, None)
            if connection := self._connections.pop(database, None):
                await connection.close()

    async def run(self) -> None:
        """Write every second, until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            if self._waiting:
                await self.write()

    async def stop(self) -> None:
        """Write the rest and close."""
        await self.write()
        for connection in self._connections.values():
            await connection.close()
