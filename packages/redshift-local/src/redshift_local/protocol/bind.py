"""Bound values of unknown type: the Redshift connector sends strings, bytes and nulls without a type."""

import re
import struct

from redshift_local.protocol.wire import ProtocolError

_UNKNOWN, _TEXT, _BYTES, _TO_BE_INFERRED = 705, 25, 17, 0
_DIGITS = re.compile(rb"(?:[0-9a-fA-F]{2})*")


def inferred(rest: bytes, *, used: bool) -> bytes:
    """Let PostgreSQL infer unknown types, as Redshift does; PostgreSQL refuses the type `unknown`.

    Args:
        rest: the end of a Parse message, after the text: the number of parameter types, and the types.
        used: whether the text contains the parameters; the text of a refused statement does not.

    Raises:
        ProtocolError: the bytes are not parameter types.
    """
    count = struct.unpack_from("!H", rest)[0] if len(rest) >= 2 else 0
    if len(rest) != 2 + 4 * count:
        raise ProtocolError("invalid parameter types in a Parse message")
    kinds = struct.unpack_from(f"!{count}I", rest, 2)
    kinds = [(_TO_BE_INFERRED if used else _TEXT) if kind in (_UNKNOWN, _TO_BE_INFERRED) else kind for kind in kinds]
    return struct.pack(f"!H{count}I", count, *kinds)


def of_bytes(part: bytes) -> frozenset[int]:
    """Return the numbers of the VARBYTE parameters in a ParameterDescription message."""
    count = struct.unpack_from("!H", part, 5)[0]
    return frozenset(number for number, kind in enumerate(struct.unpack_from(f"!{count}I", part, 7)) if kind == _BYTES)


def as_hexadecimal(payload: bytes, start: int, numbers: frozenset[int]) -> bytes:
    """Mark the text of VARBYTE parameters as hexadecimal digits, which clients send for bytes.

    Args:
        payload: a Bind message.
        start: where in it the format codes begin.
        numbers: the VARBYTE parameters.
    """
    count = struct.unpack_from("!H", payload, start)[0]
    formats = struct.unpack_from(f"!{count}H", payload, start + 2)
    position = start + 2 + 2 * count
    values = struct.unpack_from("!H", payload, position)[0]
    if count not in (0, 1, values):
        return payload  # PostgreSQL refuses it
    position += 2
    out = [payload[:position]]
    for number in range(values):
        length = struct.unpack_from("!i", payload, position)[0]
        end = position + 4 + max(length, 0)
        value = payload[position + 4 : end]
        is_text = not (formats[number] if count > 1 else formats[0] if count else 0)
        if length >= 0 and number in numbers and is_text and _DIGITS.fullmatch(value):
            out.append(struct.pack("!i", length + 2) + b"\\x" + value)
        else:
            out.append(payload[position:end])
        position = end
    return b"".join([*out, payload[position:]])
