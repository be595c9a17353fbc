"""Bound values whose type the client does not know: the Redshift connector sends strings and nulls that way."""

import struct

from local.warehouse.wire import ProtocolError

_UNKNOWN, _TEXT, _TO_BE_INFERRED = 705, 25, 0


def inferred(rest: bytes, *, used: bool) -> bytes:
    """Have PostgreSQL infer such types, as Redshift does; told that they are unknown, it gives up.

    Args:
        rest: what follows the text of a Parse message: the number of parameter types, and the types.
        used: whether the text has the parameters; that of a refused statement has not, and nothing can be inferred.

    Raises:
        ProtocolError: it is something else.
    """
    count = struct.unpack_from("!H", rest)[0] if len(rest) >= 2 else 0
    if len(rest) != 2 + 4 * count:
        raise ProtocolError("invalid parameter types in a Parse message")
    kinds = struct.unpack_from(f"!{count}I", rest, 2)
    kinds = [(_TO_BE_INFERRED if used else _TEXT) if kind in (_UNKNOWN, _TO_BE_INFERRED) else kind for kind in kinds]
    return struct.pack(f"!H{count}I", count, *kinds)
