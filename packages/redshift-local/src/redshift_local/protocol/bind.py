"""Bound values of unknown type: the Redshift connector sends strings, bytes and nulls without a type."""

import re
import struct

from redshift_local.protocol.wire import ProtocolError

_UNKNOWN, _TEXT, _BYTES, _TO_BE_INFERRED = 705, 25, 17, 0
_INTERVALS = {1188, 1190}  # YEAR TO MONTH, DAY TO SECOND
_PARAMETER = re.compile(r"\$(\d{1,5})")


def has_intervals(rest: bytes) -> bool:
    """Whether the end of a Parse message, after the text, has types that PostgreSQL lacks."""
    return any(int.from_bytes(rest[at : at + 4]) in _INTERVALS for at in range(2, len(rest), 4))


def inferred(rest: bytes, sql: str) -> bytes:
    """Let PostgreSQL infer unknown types, as Redshift does; PostgreSQL refuses the type `unknown`.

    Args:
        rest: the end of a Parse message, after the text: the number of parameter types, and the types.
        sql: the text for PostgreSQL. It has no type for parameters that the text does not use.

    Raises:
        ProtocolError: the bytes are not parameter types.
    """
    count = struct.unpack_from("!H", rest)[0] if len(rest) >= 2 else 0
    if len(rest) != 2 + 4 * count:
        raise ProtocolError("invalid parameter types in a Parse message")
    kinds = struct.unpack_from(f"!{count}I", rest, 2)
    used = {int(number) for number in _PARAMETER.findall(sql)} if count else set()
    inferable = (_TO_BE_INFERRED if number in used else _TEXT for number in range(1, count + 1))
    types = (
        new if kind in (_UNKNOWN, _TO_BE_INFERRED) else _BYTES if kind in _INTERVALS else kind
        for kind, new in zip(kinds, inferable, strict=True)
    )
    return struct.pack(f"!H{count}I", count, *types)


def values_of(payload: bytes, position: int) -> tuple[list[str | None], bytes]:
    """Read the values of a Bind message, after the names; returns them, and the formats of the result.

    A value in binary form is an integer: no driver sends text in binary form.

    Raises:
        ProtocolError: the message is too short.
    """
    try:
        [count] = struct.unpack_from("!H", payload, position)
        formats = struct.unpack_from(f"!{count}H", payload, position + 2)
        position += 2 + 2 * count
        [count] = struct.unpack_from("!H", payload, position)
        position += 2
        binary = formats if len(formats) == count else [*formats, 0][:1] * count
        values: list[str | None] = []
        for is_binary in binary:
            [length] = struct.unpack_from("!i", payload, position)
            value = payload[position + 4 : position + 4 + max(length, 0)]
            position += 4 + max(length, 0)
            text = str(int.from_bytes(value, signed=True)) if is_binary else value.decode()
            values.append(None if length < 0 else text)
    except (struct.error, UnicodeDecodeError) as problem:
        raise ProtocolError(f"invalid values in a Bind message: {problem}") from problem
    return values, payload[position:]
