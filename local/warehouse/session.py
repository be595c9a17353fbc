"""One client's connection: its messages go to PostgreSQL translated, PostgreSQL's answers come back.

Answers belong to segments: everything up to one ReadyForQuery. A segment is the client's, or one of our own
statements in the client's session, whose answers the client does not see.
"""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from local.warehouse import wire
from local.warehouse.plan import Plan, Refused, raising
from local.warehouse.translate import translate

_CHUNK = 256 * 1024
_TOO_LARGE = "Statement is too large. Statement Size: {} bytes. Maximum Allowed: {} bytes"


@dataclass
class Segment:
    """What PostgreSQL still has to answer, up to one ReadyForQuery.

    Attributes:
        own: collects an own statement's answers; the client sees none of them.
        ready: whether the client gets the ReadyForQuery.
        plans: statements whose completion is awaited, in order.
        failed: fields of the error that ended it.
        done: set when the ReadyForQuery has come.
        copying: set when PostgreSQL waits for the data of a COPY.
    """

    own: bool = False
    ready: bool = True
    plans: deque[Plan] = field(default_factory=deque)
    tag: str = ""
    rows: list[bytes] = field(default_factory=list)
    failed: dict[str, str] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    copying: asyncio.Event = field(default_factory=asyncio.Event)


class Session:
    """A connection after login. `run` serves it until one side leaves."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        self._segments: deque[Segment] = deque()
        self._open: Segment | None = None  # the extended-protocol segment that no Sync has closed yet
        self._statements: dict[str, Plan] = {}
        self._portals: dict[str, Plan] = {}
        self._skipping = False  # an own job failed: what follows is ignored until Sync, as PostgreSQL does

    async def run(self) -> None:
        """Serve until the client or the server leaves.

        Raises:
            ProtocolError: the client sent garbage.
        """
        tasks = [asyncio.create_task(self._from_client()), asyncio.create_task(self._from_server())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # From the client

    async def _from_client(self) -> None:
        handlers: dict[bytes, Callable] = {
            b"Q": self._query,
            b"P": self._parse,
            b"B": self._bind,
            b"E": self._execute,
            b"S": self._sync,
            b"C": self._close,
        }
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, payload = await wire.read_message(self.client_reader)
                if kind == b"X":
                    return
                if kind not in b"QPBESCDHdcf":
                    raise wire.ProtocolError(f"invalid frontend message type {kind[0]}")
                if self._skipping and kind not in b"SQ":
                    continue
                if handler := handlers.get(kind):
                    await handler(payload)
                elif kind in b"DH":
                    self._extended()
                    self._send(kind, payload)
                # d, c, f: data of a COPY that has failed already
                await self.server_writer.drain()

    def _send(self, kind: bytes, payload: bytes) -> None:
        self.server_writer.write(wire.message(kind, payload))

    def _extended(self) -> Segment:
        if self._open is None:
            self._open = Segment()
            self._segments.append(self._open)
        return self._open

    def _plans(self, text: str) -> tuple[Plan, ...]:
        # Texts that long are not worth their place in the cache.
        return translate(text) if len(text) < 65536 else translate.__wrapped__(text)

    async def _query(self, payload: bytes | int) -> None:
        """A simple query, of any number of statements."""
        self._skipping = False
        if isinstance(payload, int):
            plans: tuple[Plan, ...] = (_too_large(payload),)
        else:
            plans = self._plans(wire.string_at(payload, 0)[0])
        group: list[Plan] = []
        for plan in plans:
            if not plan.job:
                group.append(plan)
                continue
            if group and not await self._simple(group, ready=False):
                break
            group = []
            if not await self._job(plan):
                break
        else:
            await self._simple(group, ready=True)
            return
        await self._simple([], ready=True, silent=True)

    async def _simple(self, plans: list[Plan], *, ready: bool, silent: bool = False) -> bool:
        """Send statements as one simple query; without `ready`, wait and say whether they succeeded."""
        segment = Segment(ready=ready, plans=deque(plans))
        self._segments.append(segment)
        if silent:
            # A Sync alone is answered with nothing but ReadyForQuery.
            self._send(b"S", b"")
        else:
            self._send(b"Q", ";\n".join(plan.sql for plan in plans).encode() + b"\0")
        if not ready:
            await segment.done.wait()
        return segment.failed is None

    async def _parse(self, payload: bytes | int) -> None:
        segment = self._extended()
        if isinstance(payload, int):
            name, rest, plan = "", b"\0\0", _too_large(payload)
        else:
            name, position = wire.string_at(payload, 0)
            text, position = wire.string_at(payload, position)
            rest, plans = payload[position:], self._plans(text)
            if len(plans) > 1:
                refusal = Refused("cannot insert multiple commands into a prepared statement", "42601")
                plan = Plan(raising(refusal), text=text)
            else:
                plan = plans[0] if plans else Plan("")
        self._statements[name] = plan
        del segment
        self._send(b"P", name.encode() + b"\0" + ("" if plan.job else plan.sql).encode() + b"\0" + rest)

    async def _bind(self, payload: bytes) -> None:
        self._extended()
        portal, position = wire.string_at(payload, 0)
        name, _ = wire.string_at(payload, position)
        if plan := self._statements.get(name):
            self._portals[portal] = plan
        self._send(b"B", payload)

    async def _execute(self, payload: bytes) -> None:
        segment = self._extended()
        plan = self._portals.get(wire.string_at(payload, 0)[0], Plan(""))
        if not plan.job:
            segment.plans.append(plan)
            self._send(b"E", payload)
            return
        # Everything before it must have been answered, as the job talks to the same session.
        self._send(b"S", b"")
        segment.ready = False
        self._open = None
        await segment.done.wait()
        if segment.failed is not None or not await self._job(plan):
            self._skipping = True

    async def _sync(self, payload: bytes) -> None:
        self._skipping = False
        self._extended()
        self._open = None
        self._send(b"S", payload)

    async def _close(self, payload: bytes) -> None:
        self._extended()
        kind, (name, _) = payload[:1], wire.string_at(payload, 1)
        (self._statements if kind == b"S" else self._portals).pop(name, None)
        self._send(b"C", payload)

    async def _job(self, plan: Plan) -> bool:
        """Run what the gateway does itself; tells the client how it ended and returns whether it succeeded."""
        try:
            tag = await plan.job.run(self)
        except Refused as refusal:
            self.client_writer.write(wire.error(refusal.code, refusal.text, refusal.hint))
            return False
        self.client_writer.write(wire.message(b"C", tag.encode() + b"\0"))
        return True

    async def own(self, sql: str, *, wait: bool = True) -> Segment:
        """Run a statement of ours in the client's session, inside its transaction if it has one open."""
        segment = Segment(own=True, ready=False)
        self._segments.append(segment)
        self._send(b"Q", sql.encode() + b"\0")
        await self.server_writer.drain()
        if wait:
            await segment.done.wait()
        return segment

    # From the server

    async def _from_server(self) -> None:
        buffer = bytearray()
        try:
            while chunk := await self.server_reader.read(_CHUNK):
                buffer += chunk
                out, position = [], 0
                for kind, start, end in wire.complete(buffer):
                    part = bytes(memoryview(buffer)[start:end])
                    out.append(part if kind == 68 and not self._own() else self._answer(part))
                    position = end
                del buffer[:position]
                self.client_writer.write(b"".join(out))
                await self.client_writer.drain()
        finally:
            for segment in self._segments:
                segment.done.set()
                segment.copying.set()

    def _own(self) -> bool:
        return bool(self._segments) and self._segments[0].own

    def _answer(self, part: bytes) -> bytes:
        """Take notice of one message of the server; returns what the client gets of it."""
        if not self._segments:
            return part
        segment, kind, payload = self._segments[0], part[:1], part[5:]
        if kind == b"Z":
            self._segments.popleft()
            segment.done.set()
            segment.copying.set()
            return part if segment.ready else b""
        if kind == b"G":
            segment.copying.set()
        if kind == b"E":
            segment.failed = wire.fields_of(payload)
            segment.plans.clear()
            return b"" if segment.own else _error(segment.failed)
        if kind == b"C" and segment.own:
            segment.tag = payload[:-1].decode()
        if kind == b"D" and segment.own:
            segment.rows += [part]
        if segment.own:
            return part if kind in b"NSA" else b""
        if kind in b"CI" and segment.plans:
            plan = segment.plans.popleft()
            if plan.tag and kind == b"C":
                return wire.message(b"C", plan.tag.encode() + b"\0")
        return part


def _error(fields: dict[str, str]) -> bytes:
    # Where in our helpers an error was raised says nothing to the client; positions are those of the translated text.
    return wire.error_of({key: value for key, value in fields.items() if key not in "PpqWFLR"})


def _too_large(size: int) -> Plan:
    return Plan(raising(Refused(_TOO_LARGE.format(size, wire.STATEMENT_LIMIT), "54000")))


def startup_message(user: str, database: str, parameters: dict[str, str]) -> bytes:
    """Make the message that opens a session of PostgreSQL."""
    wanted = {"user": user, "database": database, "client_encoding": "UTF8", **parameters}
    body = b"".join(part.encode() + b"\0" for pair in wanted.items() for part in pair)
    payload = struct.pack("!I", wire.PROTOCOL_3_0) + body + b"\0"
    return struct.pack("!I", len(payload) + 4) + payload
