"""Rewrites results to Redshift's format: intervals, VARBYTE, SUPER, and what its newer protocols have.

A client asks for a protocol with the start-up parameter client_protocol_version. Version 1 adds the origin of a column
to its description, version 2 sends numerics and VARBYTE in binary form. Only Redshift's drivers document this:
https://github.com/aws/amazon-redshift-python-driver/blob/master/redshift_connector/core.py (handle_ROW_DESCRIPTION,
_enable_protocol_based_conversion_funcs) and utils/type_utils.py, read 2026-11-29.

Redshift has two interval types, of 4 and of 8 bytes, where PostgreSQL has one of 16.
https://docs.aws.amazon.com/redshift/latest/dg/r_interval_data_types.html
"""

import json
import re
import struct
from dataclasses import dataclass

from redshift_local.parse import longnames

TEXT, EXTENDED, BINARY = 0, 1, 2  # protocol versions
_INTERVAL, _YEAR_TO_MONTH, _DAY_TO_SECOND = 1186, 1188, 1190
_JSON, _SUPER = 114, 4000
_BYTEA, _VARBYTE = 17, 6551
_NUMERIC, _ACLS = 1700, 1034
_REWRITTEN = {_JSON: _SUPER, _BYTEA: _VARBYTE}
# PostgreSQL's type modifier of an interval keeps its fields in the upper half: bit 1 month, bit 2 year.
_MONTHS = (1 << 1) | (1 << 2)
_DAY = 86_400_000_000  # microseconds
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_BETWEEN_BLANKS = re.compile(rb'(?:%b|[^" \t\r\n]++)+' % _STRING.pattern)
# Schema, table, column and database are unknown. Of the flags, bit 0 is NOT NULL and bit 12 "can be searched".
# https://github.com/aws/amazon-redshift-jdbc-driver, QueryExecutorImpl.receiveFields
_ORIGIN = b"\0\0\0\0" + struct.pack("!H", 0x1000)


@dataclass(frozen=True)
class Row:
    """Which columns of a result are to be rewritten, and to what.

    Attributes:
        columns: Redshift's types by the columns' positions.
        scales: digits, all and after the point, of the columns that are numerics in binary form.
        protocol: the protocol of the result.
    """

    columns: dict[int, int]
    scales: dict[int, tuple[int, int]]
    protocol: int = TEXT

    @classmethod
    def of(cls, part: bytes, protocol: int = TEXT) -> tuple["Row | None", bytes, int]:
        """Read a RowDescription.

        Args:
            part: the message.
            protocol: the protocol that the client asked for.

        Returns:
            how the rows are to be rewritten, if at all, the client's description, and the protocol to use. Binary
            numerics need a scale. Of a computed numeric only the values have one, so such a result uses version 1, and
            so does one with lists of privileges, which PostgreSQL cannot send in binary form.
        """
        fields, position = [], 7
        for _ in range(struct.unpack_from("!H", part, 5)[0]):
            end = part.index(b"\0", position)
            fields.append((part[position:end], *struct.unpack_from("!IhIhih", part, end + 1)))
            position = end + 19
        if protocol == BINARY and any(
            kind == _ACLS or (kind == _NUMERIC and mod < 0) for *_, kind, _, mod, _ in fields
        ):
            protocol = EXTENDED
        columns, scales, body = {}, {}, []
        for index, (name, table, number, kind, size, modifier, form) in enumerate(fields):
            if len(name) + 1 >= longnames.SHORTENED:
                name = longnames.restore_bytes(name)
            new_kind = _REWRITTEN.get(kind, kind)
            if kind == _INTERVAL:
                parts = (modifier >> 16) & 0x7FFF if modifier >= 0 else 0
                new_kind = _YEAR_TO_MONTH if parts and not parts & ~_MONTHS else _DAY_TO_SECOND
            elif kind == _NUMERIC and protocol == BINARY:
                columns[index], scales[index] = kind, ((modifier - 4) >> 16, (modifier - 4) & 0x7FF)
            if new_kind != kind:
                columns[index] = new_kind
            body.append(name + b"\0" + struct.pack("!IhIhih", table, number, new_kind, size, modifier, form))
        payload = struct.pack("!H", len(fields)) + (_ORIGIN if protocol else b"").join([*body, b""])
        description = b"T" + struct.pack("!I", len(payload) + 4) + payload
        return (cls(columns, scales, protocol) if columns else None), description, protocol

    def rewrite(self, parts: bytes) -> bytes:
        """Rewrite a run of DataRow messages. Intervals and numerics in text form stay as they are."""
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
            if length >= 0 and index in self.columns:
                value = self._value(index, value)
                length = len(value)
            body.append(struct.pack("!i", length) + value)
        payload = struct.pack("!H", count) + b"".join(body)
        return b"D" + struct.pack("!I", len(payload) + 4) + payload

    def _value(self, index: int, value: bytes) -> bytes:
        kind = self.columns[index]
        if kind == _VARBYTE:
            # PostgreSQL marks hexadecimal digits; without the mark, the client has asked for binary form.
            data = bytes.fromhex(value[2:].decode()) if value.startswith(b"\\x") else value
            return data if self.protocol == BINARY else data.hex().encode()
        if kind == _SUPER:
            return compact(value)
        if kind == _NUMERIC:
            return _scaled(value, *self.scales[index])
        if len(value) != 16:
            return value
        microseconds, days, months = struct.unpack("!qii", value)
        if kind == _YEAR_TO_MONTH:
            return struct.pack("!i", months)
        # A month counts 30 days, as in PostgreSQL's own comparisons.
        return struct.pack("!q", microseconds + (days + 30 * months) * _DAY)


def compact(document: bytes) -> bytes:
    """Write JSON as JSON_SERIALIZE does: no blanks between tokens, no escapes of characters beyond ASCII."""
    if b"\\u" in document:
        document = _STRING.sub(lambda match: _unescaped(match[0]) if b"\\u" in match[0] else match[0], document)
    return b"".join(_BETWEEN_BLANKS.findall(document))


def _unescaped(string: bytes) -> bytes:
    return json.dumps(json.loads(string), ensure_ascii=False).encode(errors="replace")


def _scaled(value: bytes, precision: int, scale: int) -> bytes:
    """Turn PostgreSQL's binary numeric, in digits to the base 10,000, into an integer of 8 or 16 bytes."""
    if len(value) < 8 or len(value) != 8 + 2 * struct.unpack_from("!H", value)[0]:
        return value  # text
    count, weight, sign, _ = struct.unpack_from("!HhHH", value)
    number = 0
    for digit in struct.unpack_from(f"!{count}H", value, 8):
        number = number * 10_000 + digit
    shift = 4 * (weight - count + 1) + scale
    number = number * 10**shift if shift >= 0 else number // 10**-shift
    return (-number if sign else number).to_bytes(8 if precision <= 18 else 16, "big", signed=True)
