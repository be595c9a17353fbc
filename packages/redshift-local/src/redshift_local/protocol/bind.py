"""Bound values of unknown type: the Redshift connector sends strings, bytes and nulls without a type."""

import struct

from redshift_local.protocol.wire import ProtocolError

_UNKNOWN, _TEXT, _TO_BE_INFERRED = 705, 25, 0


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
