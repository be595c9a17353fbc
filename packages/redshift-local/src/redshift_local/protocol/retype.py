"""Rewrites values that Redshift's clients decode differently from PostgreSQL's format: intervals, VARBYTE and SUPER.

Redshift has two interval types, of 4 and of 8 bytes, where PostgreSQL has one of 16.
https://docs.aws.amazon.com/redshift/latest/dg/r_interval_data_types.html
"""

import re
import struct
from dataclasses import dataclass

from redshift_local.parse import longnames

_INTERVAL, _YEAR_TO_MONTH, _DAY_TO_SECOND = 1186, 1188, 1190
_JSONB, _SUPER = 3802, 4000
# In this protocol version the connector decodes VARBYTE as UTF-8 text. In the newest version it gets hexadecimal
# digits, which a VARCHAR can carry too.
_BYTEA, _VARBYTE = 17, 1043
# PostgreSQL's type modifier of an interval keeps its fields in the upper half: bit 1 month, bit 2 year.
_MONTHS = (1 << 1) | (1 << 2)
_DAY = 86_400_000_000  # microseconds
_BLANKS = re.compile(rb'("(?:[^"\\]|\\.)*")|[:,] ')


@dataclass(frozen=True)
class Row:
    """Which columns of a result are to be rewritten, and to what."""

    columns: dict[int, int]

    @classmethod
    def of(cls, part: bytes) -> tuple["Row | None", bytes]:
        """Read a RowDescription; returns how its rows are to be rewritten, if at all, and the client's description."""
        count = struct.unpack_from("!H", part, 5)[0]
        position, columns, changed = 7, {}, bytearray(part)
        names: list[tuple[int, int, bytes]] = []  # where the long names belong
        for index in range(count):
            start, position = position, part.index(b"\0", position) + 1
            if position - start >= longnames.SHORTENED and (name := longnames.restore_bytes(part[start:position])):
                names.append((start, position, name))
            kind, _, modifier = struct.unpack_from("!Ihi", part, position + 6)
            if kind == _INTERVAL:
                fields = (modifier >> 16) & 0x7FFF if modifier >= 0 else 0
                target_type = _YEAR_TO_MONTH if fields and not fields & ~_MONTHS else _DAY_TO_SECOND
                columns[index] = target_type
                struct.pack_into("!I", changed, position + 6, target_type)
            elif kind == _BYTEA:
                columns[index] = _VARBYTE
                struct.pack_into("!I", changed, position + 6, _VARBYTE)
            elif kind == _JSONB:
                columns[index] = _SUPER
                struct.pack_into("!I", changed, position + 6, _SUPER)
            position += 18
        for start, end, name in reversed(names):
            changed[start:end] = name
        struct.pack_into("!I", changed, 1, len(changed) - 1)
        return (cls(columns) if columns else None), bytes(changed)

    def rewrite(self, parts: bytes) -> bytes:
        """Rewrite a run of DataRow messages. Values in text form (not 16 bytes long) stay as they are."""
        out, position = [], 0
        while position < len(parts):
            end = position + 1 + struct.unpack_from("!I", parts, position + 1)[0]
            out.append(self._one(parts[position:end]))
            position = end
        return b"".join(out)

    def _one(self, part: bytes) -> bytes:
        count, position, body = struct.unpack_from("!H", part, 5)[0], 7, []
        for index in range(count):
            length = struct.unpack_from("!i", part, position)[0]
            value = part[position + 4 : position + 4 + max(length, 0)]
            position += 4 + max(length, 0)
            target_type = self.columns.get(index)
            if target_type == _VARBYTE:
                # Hexadecimal digits without PostgreSQL's mark; or the bytes, if the client asked for binary form.
                value = value[2:] if value.startswith(b"\\x") else value.hex().encode()
                length = length if length < 0 else len(value)
            elif target_type == _SUPER and length > 0:
                # Without PostgreSQL's blanks, and without the byte that marks its binary form.
                value = _BLANKS.sub(lambda match: match[1] or match[0][:1], value.removeprefix(b"\x01"))
                length = len(value)
            elif target_type and length == 16:
                microseconds, days, months = struct.unpack("!qii", value)
                if target_type == _YEAR_TO_MONTH:
                    value = struct.pack("!i", months)
                else:
                    # A month counts 30 days, as in PostgreSQL's own comparisons.
                    value = struct.pack("!q", microseconds + (days + 30 * months) * _DAY)
                length = len(value)
            body.append(struct.pack("!i", length) + value)
        payload = struct.pack("!H", count) + b"".join(body)
        return b"D" + struct.pack("!I", len(payload) + 4) + payload
