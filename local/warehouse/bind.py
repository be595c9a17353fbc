"""Bound values whose type the client does not know: the Redshift connector sends strings and nulls that way."""

import struct

from local.warehouse.wire import ProtocolError

_UNKNOWN, _TO_BE_INFERRED = 705, 0


def inferred(rest: bytes) -> bytes:
    """Have PostgreSQL infer such types, as Redshift does; told that they are unknown, it gives up.

    Args:
        rest: what follows the text of a Parse message: the number of parameter types, and the types.

    Raises:
        ProtocolError: it is something else.
    """
    count = struct.unpack_from("!H", rest)[0] if len(rest) >= 2 else 0
    if len(rest) != 2 + 4 * count:
        raise ProtocolError("invalid parameter types in a Parse message")
    kinds = struct.unpack_from(f"!{count}I", rest, 2)
    return struct.pack(f"!H{count}I", count, *(_TO_BE_INFERRED if kind == _UNKNOWN else kind for kind in kinds))
