"""Pending answers of PostgreSQL, and their rewriting for the client.

Answers belong to segments: everything up to one ReadyForQuery. A segment belongs to the client, or to an internal
statement in the client's session, whose answers the client does not see.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from redshift_local.parse import longnames
from redshift_local.plan import Plan, unsupported
from redshift_local.protocol import wire
from redshift_local.protocol.retype import TEXT, Row
from redshift_local.server.closed import DISK_FULL, full_disk

# Error fields with positions in PostgreSQL's source, in helper functions or in the translated text.
_NOT_FOR_CLIENTS = "PpqWFLR"
_NO_SYSTEM_VIEW = re.compile(
    r'relation "(?:pg_catalog\.)?((?:svv|svl|stl|stv|sys|svcs)_\w+|pg_\w+_info)" does not exist'
)
# Columns of PostgreSQL 8.0's catalog, which is Redshift's, that later versions dropped.
_NO_CATALOG_COLUMN = re.compile(
    r'column "?(?:\w+\.)?(reltoastidxid|relukeys|relfkeys|relrefs|relhasoids|relhaspkey|consrc|datlastsysoid'
    r'|datvacuumxid|proisagg|spclocation)"? does not exist'
)


@dataclass
class Segment:
    """Answers up to one ReadyForQuery.

    Attributes:
        internal: the statement is the gateway's own; the client sees none of its answers.
        ready: whether the client gets the ReadyForQuery.
        plans: statements that have not completed, in order, with the time they were sent.
        described: plans whose columns were requested by Describe messages.
        parsed: the last parsed statement; an error before any execution belongs to it.
        tag: the last command tag; `rows`: the data rows of an internal statement.
        failed: fields of the error that ended it.
        done: set when the ReadyForQuery has arrived.
        copying: set when PostgreSQL waits for the data of a COPY, or has failed.
        data: called with the chunks of a COPY to the gateway.
    """

    internal: bool = False
    ready: bool = True
    plans: deque[tuple[Plan, float]] = field(default_factory=deque)
    described: deque[Plan] = field(default_factory=deque)
    parsed: Plan | None = None
    tag: str = ""
    rows: list[bytes] = field(default_factory=list)
    failed: dict[str, str] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    copying: asyncio.Event = field(default_factory=asyncio.Event)
    data: Callable[[bytes], None] | None = None

    def await_completion(self, plan: Plan) -> None:
        """Record that `plan` was sent for execution."""
        self.plans.append((plan, time.time()))

    def end(self) -> None:
        """Wake all waiting tasks."""
        self.done.set()
        self.copying.set()


class Answers:
    """Rewrites the server's messages for the client.

    Args:
        completed: called with each finished statement: plan, start in seconds since 1970, tag, error fields.
        folder: where the data is, for messages.
        protocol: the version of Redshift's protocol that the client asked for.
    """

    def __init__(
        self,
        completed: Callable[[Plan, float, str, dict[str, str] | None], None],
        folder: object = "",
        protocol: int = TEXT,
    ) -> None:
        """Start without pending statements."""
        self._folder = folder
        self._asked_protocol = self._protocol = protocol
        self.segments: deque[Segment] = deque()
        self.status = b"I"
        self._completed = completed

    def take(self, buffer: bytearray) -> bytes:
        """Remove the complete messages from `buffer`; returns the messages for the client."""
        out, position = [], 0
        for kind, start, end in wire.complete(buffer):
            part = bytes(memoryview(buffer)[start:end])
            position = end
            if kind != 68:
                out.append(self._one(part))
            elif self.segments and self.segments[0].internal:
                self.segments[0].rows += wire.split(part)
            else:
                columns = self._columns()
                if columns and columns.scales:  # described earlier than another result
                    out.append(self._announced(columns.protocol))
                out.append(columns.rewrite(part) if columns else part)
        del buffer[:position]
        return b"".join(out)

    def _columns(self) -> Row | None:
        """Return how the rows of the statement that runs now are rewritten."""
        plans = self.segments[0].plans if self.segments else None
        return plans[0][0].columns if plans else None

    def _one(self, part: bytes) -> bytes:
        if not self.segments:
            return part
        segment, kind = self.segments[0], part[:1]
        if kind == b"Z":
            self.status = part[5:]
            self.segments.popleft().end()
            return part if segment.ready else b""
        if kind == b"E":
            return self._error(segment, part)
        if kind == b"N":
            return wire.message(kind, longnames.restore_bytes(part[5:]))
        if kind in b"SA":
            return part
        if segment.internal:
            self._collect(segment, kind, part)
            return b""
        if kind in b"Tn" and segment.described:
            plan = segment.described.popleft()
            return self._describe(plan, part) if kind == b"T" else part
        if kind == b"T":
            return self._describe(segment.plans[0][0] if segment.plans else Plan(""), part)
        if kind in b"CIs":
            return self._complete(segment, kind, part)
        return part

    def _describe(self, plan: Plan, part: bytes) -> bytes:
        plan.columns, part, protocol = Row.of(part, self._asked_protocol)
        return self._announced(protocol) + part

    def _announced(self, protocol: int) -> bytes:
        """Return the message that another protocol follows, if one does. Redshift's drivers follow it at any time."""
        if protocol == self._protocol:
            return b""
        self._protocol = protocol
        return wire.parameter("server_protocol_version", str(protocol))

    def _collect(self, segment: Segment, kind: bytes, part: bytes) -> None:
        if kind == b"G":
            segment.copying.set()
        elif kind == b"C":
            segment.tag = part[5:-1].decode()
        elif kind == b"d" and segment.data:
            segment.data(part[5:])

    def _error(self, segment: Segment, part: bytes) -> bytes:
        segment.failed = wire.fields_of(longnames.restore_bytes(part[5:]))
        plan, started = segment.plans[0] if segment.plans else (segment.parsed, time.time())
        segment.plans.clear()
        segment.described.clear()
        if segment.internal:
            return b""
        if plan is not None:
            self._completed(plan, started, "", segment.failed)
        fields = segment.failed
        if fields.get("C") == DISK_FULL:
            fields["H"] = full_disk(self._folder)
        if fields.get("C") == "23502" and "c" in fields:
            fields["M"] = f"Cannot insert a NULL value into column {fields['c']}"  # Redshift's words
        if fields.get("C") == "42P01" and (name := _NO_SYSTEM_VIEW.match(fields.get("M", ""))):
            refusal = unsupported(
                f"the system view {name[1]}", "query it on a cluster; its content does not exist here"
            )
            fields |= {"C": refusal.code, "M": refusal.text, "H": refusal.hint}
        elif fields.get("C") == "42703" and (name := _NO_CATALOG_COLUMN.match(fields.get("M", ""))):
            refusal = unsupported(f"the catalog column {name[1]}", "query it on a cluster")
            fields |= {"C": refusal.code, "M": refusal.text, "H": refusal.hint}
        elif fields.get("M", "").startswith("cross-database references are not implemented"):
            fields["M"] = "not supported by the local warehouse: tables of another database"
            fields["H"] = "run USE <database> first"
        return wire.error_of({key: value for key, value in fields.items() if key not in _NOT_FOR_CLIENTS})

    def _complete(self, segment: Segment, kind: bytes, part: bytes) -> bytes:
        if not segment.plans:
            return part
        plan, started = segment.plans.popleft()
        if kind in b"Is":  # an empty statement, or rows remain for the next Execute
            return part
        self._completed(plan, started, part[5:-1].decode(), None)
        return wire.message(b"C", plan.tag.encode() + b"\0") if plan.tag else part
