"""One client's connection: translates its messages for PostgreSQL and returns the answers."""

import asyncio
import contextlib
import copy
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg

from redshift_local.catalog.bind_late import Known, resolve
from redshift_local.copy.rows import BadField
from redshift_local.parse import longnames
from redshift_local.plan import HELPERS, Plan, Refused, literal, raising, unsupported
from redshift_local.protocol import wire
from redshift_local.protocol.bind import has_intervals, inferred, values_of
from redshift_local.server.closed import reason
from redshift_local.server.journal import READS, Journal, Who
from redshift_local.server.segment import Answers, Segment
from redshift_local.translate.translator import translate, translate_long

_CHUNK = 256 * 1024
_CACHED_LENGTH = 32768  # characters; longer statements are not cached
_TOO_LARGE = "Statement is too large. Statement Size: {} bytes. Maximum Allowed: {} bytes"

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Connection:
    """A connection to PostgreSQL.

    Attributes:
        reader: from PostgreSQL.
        writer: to it.
        key: its process id and secret for cancel requests.
        who: its user and database.
        known: what the gateway knows of the database.
        prepared: names of the statements that were sent to be prepared.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: bytes
    who: Who
    known: Known
    prepared: set[str] = field(default_factory=set)


class Session:
    """A connection after login. `run` serves it until one side leaves."""

    def __init__(
        self,
        client: Stream,
        home: Connection,
        enter: Callable[[str], Awaitable[Connection]],
        journal: Journal,
        protocol: int,
    ) -> None:
        """Take over both connections after the login.

        Args:
            client: the connection to the client.
            home: the connection to the database that the client has connected to.
            enter: opens a connection to another database.
            journal: records statements.
            protocol: the version of Redshift's protocol that the client asked for.
        """
        self.client_reader, self.client_writer = client
        self.server = self._home = home
        self._enter = enter
        self._reading: asyncio.Task | None = None  # from a database that USE has entered
        self.journal = journal
        self.label = "default"  # the query group
        self._answers = Answers(self._completed, journal.postgres.folder, protocol)
        self._open: Segment | None = None  # the extended-protocol segment that no Sync has closed yet
        self._statements: dict[str, Plan] = {}
        self._types: dict[str, bytes] = {}  # of the parameters of named statements
        self._portals: dict[str, Plan] = {}
        self._skipping = False  # an action failed: messages are ignored until Sync, as in PostgreSQL

    @property
    def busy(self) -> bool:
        """Whether PostgreSQL still works for the session."""
        return bool(self._answers.segments)

    async def run(self) -> None:
        """Serve until the client or the server leaves.

        Raises:
            ProtocolError: the client sent invalid bytes.
        """
        tasks = [asyncio.create_task(self._from_client()), asyncio.create_task(self._from_server(self._home))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            if self._reading is not None:
                tasks.append(self._reading)
                self.server.writer.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def who(self) -> Who:
        """User, database and process of the statements."""
        return self.server.who

    @property
    def used_database(self) -> str:
        """The database of USE; empty in the one that the client has connected to."""
        return "" if self.server is self._home else self.who.database

    @property
    def known(self) -> Known:
        """What the gateway knows of the current database."""
        return self.server.known

    @property
    def server_writer(self) -> asyncio.StreamWriter:
        """The connection to the current database."""
        return self.server.writer

    async def use(self, database: str) -> None:
        """Continue in another database, or in the first one without a name.

        PostgreSQL has no transactions over two databases, so USE commits, and begins another one.

        Raises:
            Refused: the transaction has failed, or PostgreSQL refuses the connection.
        """
        if self.failed:
            raise Refused("current transaction is aborted, commands ignored until end of transaction block", "25P02")
        in_transaction = self.in_transaction
        name = longnames.fitting(database.lower())
        other = self._home if name in ("", self._home.who.database) else await self._enter(name)
        if in_transaction:
            await self.query_internal("COMMIT")
        if self._reading is not None:
            used, reading, self._reading = self.server, self._reading, None
            reading.cancel()
            used.writer.close()
        self.server = other
        if other is not self._home:
            self._reading = asyncio.create_task(self._from_server(other))
            self._reading.add_done_callback(lambda task: task.cancelled() or self.client_writer.close())
        await self.query_internal(f"SET {HELPERS}.use TO {literal(database)}")
        if in_transaction:
            await self.query_internal("BEGIN")

    async def _from_client(self) -> None:
        handlers: dict[bytes, Callable] = {
            b"Q": self._query,
            b"P": self._parse,
            b"B": self._bind,
            b"D": self._describe,
            b"E": self._execute,
            b"S": self._sync,
            b"C": self._close,
            b"H": self._flush,
        }
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, payload = await wire.read_message(self.client_reader)
                if kind == b"X":
                    return
                if kind in b"dcf" or (self._skipping and kind not in b"SQ"):
                    continue  # d, c, f: data of a COPY that has failed already
                if kind not in handlers:
                    raise wire.ProtocolError(f"invalid frontend message type {kind[0]}")
                await handlers[kind](payload)
                await self.server_writer.drain()

    async def _from_server(self, server: Connection) -> None:
        buffer = bytearray()
        try:
            with contextlib.suppress(ConnectionError):
                while chunk := await server.reader.read(_CHUNK):
                    buffer += chunk
                    self.client_writer.write(self._answers.take(buffer))
                    await self.client_writer.drain()
            if any(segment.failed is None for segment in self._answers.segments):
                code, text = reason(self.journal.postgres)
                self.client_writer.write(wire.error(code, text, severity="FATAL"))
                await self.client_writer.drain()
        finally:
            for segment in self._answers.segments if server is self.server else ():
                segment.failed = segment.failed or {"C": "57P01", "M": "PostgreSQL closed the connection"}
                segment.end()

    def _completed(self, plan: Plan, started: float, tag: str, error: dict[str, str] | None) -> None:
        if plan.label is not None and error is None:
            self.label = plan.label
        self.journal.query(self.who, self.journal.next_id(), self.label, plan, started, tag, error)

    def _send(self, kind: bytes, payload: bytes) -> None:
        self.server_writer.write(wire.message(kind, payload))

    async def _plans(self, text: str) -> tuple[Plan, ...]:
        if READS.search(text):
            await self.journal.write()
        plans = translate(text) if len(text) < _CACHED_LENGTH else translate_long(text)
        # Copies, because sessions share the cached plans, and each learns about its own results.
        plans = tuple([copy.copy(await resolve(self, plan)) for plan in plans])
        try:
            await self.journal.write_names(self.who.database)
        except psycopg.Error as problem:
            text = f"the local warehouse could not store a name of more than 63 bytes: {problem}"
            return tuple(raising(Refused(text, "XX000")) for _ in plans)
        return plans

    # Simple protocol

    async def _query(self, payload: bytes | int) -> None:
        self._skipping = False
        if isinstance(payload, int):
            plans: tuple[Plan, ...] = (_too_large(payload),)
        else:
            plans = await self._plans(wire.string_at(payload, 0)[0])
        group: list[Plan] = []
        for plan in plans:
            if not plan.action:
                group.append(plan)
                continue
            if (group and not await self._run_batch(group)) or not await self._run_action(plan):
                self._answers.segments.append(Segment())
                self._send(b"S", b"")
                return
            group = []
        segment = Segment()
        self._answers.segments.append(segment)
        if group or not plans:
            self._send_batch(segment, group)
        else:
            self._send(b"S", b"")  # answered with nothing but ReadyForQuery

    async def _run_batch(self, plans: list[Plan]) -> bool:
        """Run the statements before an action; returns whether they succeeded."""
        segment = Segment(ready=False)
        self._answers.segments.append(segment)
        self._send_batch(segment, plans)
        await segment.done.wait()
        return segment.failed is None

    def _send_batch(self, segment: Segment, plans: list[Plan]) -> None:
        for plan in plans:
            segment.await_completion(plan)
        self._send(b"Q", ";\n".join(plan.sql for plan in plans).encode() + b"\0")

    # Extended protocol

    def _open_segment(self) -> Segment:
        if self._open is None:
            self._open = Segment()
            self._answers.segments.append(self._open)
        return self._open

    async def _parse(self, payload: bytes | int) -> None:
        if isinstance(payload, int):
            name, rest, plan = "", b"\0\0", _too_large(payload)
        else:
            name, position = wire.string_at(payload, 0)
            text, position = wire.string_at(payload, position)
            rest, size = payload[position:], position - len(name.encode()) - 2
            plans = await self._plans(text) if size <= wire.STATEMENT_LIMIT else (_too_large(size),)
            plan = plans[0] if plans else Plan("", text=text)
            if len(plans) > 1:
                plan = raising(Refused("cannot insert multiple commands into a prepared statement", "42601"))
                plan.text = text
            if has_intervals(rest):
                plan = raising(unsupported("bound values of type INTERVAL", "bind a string, and cast it"))
                plan.text = text
        self._open_segment().parsed = plan
        self._statements[name] = plan
        if name:
            self._types[name] = rest
            self.server.prepared.add(name)
        self._send(b"P", _parse_message(name, plan, rest))

    async def _prepare_again(self, name: str) -> None:
        """Prepare a statement that was prepared in another database."""
        if name in self._types and name not in self.server.prepared:
            if self._open is not None:
                await self._drain()
            segment = Segment(internal=True, ready=False)
            self._answers.segments.append(segment)
            self._send(b"P", _parse_message(name, self._statements[name], self._types[name]))
            self._send(b"S", b"")
            await segment.done.wait()
            if segment.failed is None:
                self.server.prepared.add(name)

    async def _bind(self, payload: bytes) -> None:
        portal, position = wire.string_at(payload, 0)
        name, position = wire.string_at(payload, position)
        await self._prepare_again(name)
        plan = self._statements.get(name)
        if plan and plan.bind and not self.failed:
            values, formats = values_of(payload, position)
            plan = await self._prepare_bound(plan, values)
            # The unnamed statement, without formats and values. An error has one column.
            payload = portal.encode() + b"\0\0\0\0\0\0" + (b"\0\0" if plan.refused else formats)
        self._open_segment()
        if plan:
            self._portals[portal] = plan
        self._send(b"B", payload)

    async def _prepare_bound(self, plan: Plan, values: list[str | None]) -> Plan:
        """Prepare the unnamed statement for the bound values of a SHOW."""
        try:
            bound_plan = plan.bind(values)
        except Refused as refusal:
            bound_plan = raising(refusal)
        bound_plan.text = plan.text
        if self._open is not None:
            await self._drain()
        bound_plan = await resolve(self, bound_plan)
        if refused := await self._prepare_unnamed(bound_plan):
            bound_plan = refused
            await self._prepare_unnamed(bound_plan)
        return bound_plan

    async def _prepare_unnamed(self, plan: Plan) -> Plan | None:
        """Prepare a plan as the unnamed statement; returns one that raises the error if this fails."""
        segment = Segment(internal=True, ready=False)
        self._answers.segments.append(segment)
        self._send(b"P", _parse_message("", plan, b"\0\0"))
        self._send(b"S", b"")
        await segment.done.wait()
        if segment.failed is None:
            return None
        refused = raising(Refused(segment.failed.get("M", ""), segment.failed.get("C", "XX000")))
        refused.text = plan.text
        return refused

    async def _describe(self, payload: bytes) -> None:
        name, _ = wire.string_at(payload, 1)
        if payload[:1] == b"S":
            await self._prepare_again(name)
        plan = (self._statements if payload[:1] == b"S" else self._portals).get(name)
        self._open_segment().described.append(plan or Plan(""))
        self._send(b"D", payload)

    async def _execute(self, payload: bytes) -> None:
        segment = self._open_segment()
        plan = self._portals.get(wire.string_at(payload, 0)[0], Plan(""))
        if not plan.action:
            segment.await_completion(plan)
            self._send(b"E", payload)
            return
        if not await self._drain() or not await self._run_action(plan):
            self._skipping = True

    async def _drain(self) -> bool:
        """Wait for the answers to everything sent so far; returns whether all of it succeeded."""
        segment = self._open_segment()
        self._open = None
        segment.ready = False
        self._send(b"S", b"")
        await segment.done.wait()
        return segment.failed is None

    async def _sync(self, payload: bytes) -> None:
        self._skipping = False
        self._open_segment()
        self._open = None
        self._send(b"S", payload)

    async def _flush(self, payload: bytes) -> None:
        self._open_segment()
        self._send(b"H", payload)

    async def _close(self, payload: bytes) -> None:
        self._open_segment()
        name, _ = wire.string_at(payload, 1)
        if payload[:1] == b"S":
            self._types.pop(name, None)
            self._home.prepared.discard(name)
            self.server.prepared.discard(name)
        (self._statements if payload[:1] == b"S" else self._portals).pop(name, None)
        self._send(b"C", payload)

    # Statements and actions of the gateway itself, in the client's session

    async def _run_action(self, plan: Plan) -> bool:
        """Run a plan's action, report the result to the client, and return whether it succeeded."""
        started, tag, error = time.time(), "", None
        try:
            tag = await plan.action.run(self)
        except Refused as refusal:
            error = {"C": refusal.code, "M": refusal.text}
            self.client_writer.write(wire.error(refusal.code, longnames.restore(refusal.text), refusal.hint))
        else:
            without_count = tag.split()[0] if tag.startswith(("COPY", "UNLOAD")) else tag
            self.client_writer.write(wire.message(b"C", without_count.encode() + b"\0"))
        self._completed(plan, started, tag, error)
        return error is None

    async def query_between(self, sql: str) -> list[list[str | None]]:
        """Run a query of the gateway between two statements of the client; returns its rows."""
        if self._open is not None:
            await self._drain()
        return await self.query_internal(sql)

    async def run_internal(
        self, sql: str, *, wait: bool = True, data: Callable[[bytes], None] | None = None
    ) -> Segment:
        """Run a statement of the gateway, inside the client's transaction if one is open."""
        segment = Segment(internal=True, ready=False, data=data)
        self._answers.segments.append(segment)
        self._send(b"Q", sql.encode() + b"\0")
        await self.server_writer.drain()
        if wait:
            await segment.done.wait()
        return segment

    async def query_internal(self, sql: str) -> list[list[str | None]]:
        """Run a query of the gateway; returns its rows, as text.

        Raises:
            Refused: it failed, with PostgreSQL's fields.
        """
        segment = await self.run_internal(sql)
        if segment.failed is not None:
            raise Refused(segment.failed.get("M", ""), segment.failed.get("C", "XX000"), segment.failed.get("H", ""))
        return [wire.row_of(part) for part in segment.rows]

    async def abort_copy(self, segment: Segment) -> None:
        """Abort an internal COPY that waits for data."""
        if segment.failed is None:
            self._send(b"f", b"aborted\0")
            await self.server_writer.drain()
        await segment.done.wait()

    @property
    def failed(self) -> bool:
        """Whether the client's transaction failed and must be rolled back."""
        return self._answers.status == b"E"

    @property
    def in_transaction(self) -> bool:
        """Whether the client is in a transaction."""
        return self._answers.status != b"I"

    def notice(self, text: str) -> None:
        """Send the client a notice, as Redshift does after a COPY."""
        self.client_writer.write(wire.notice(longnames.restore(text)))

    async def leave_database(self, database: str) -> None:
        """Close the gateway's own connections to a database."""
        await self.journal.leave(database)

    def load_errors(self, table: str, bad_fields: list[BadField]) -> None:
        """Record rows that a COPY could not load."""
        self.journal.load_errors(self.who, self.journal.next_id(), table, bad_fields)


def _too_large(size: int) -> Plan:
    return raising(Refused(_TOO_LARGE.format(size, wire.STATEMENT_LIMIT), "54000"))


def _parse_message(name: str, plan: Plan, types: bytes) -> bytes:
    sql = "" if plan.action else plan.sql
    return name.encode() + b"\0" + sql.encode() + b"\0" + inferred(types, sql)
