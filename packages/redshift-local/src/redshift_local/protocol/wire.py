"""Reads and writes messages of PostgreSQL's protocol 3.0, which Redshift uses too.

https://www.postgresql.org/docs/18/protocol-message-formats.html
"""

import asyncio
import struct
from collections.abc import Iterator

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
PROTOCOL_3_0 = 196608

STARTUP_LIMIT = 10_000  # bytes, PostgreSQL's own limit
# Redshift's limit of a statement, in bytes. https://docs.aws.amazon.com/redshift/latest/dg/c_redshift-sql.html
STATEMENT_LIMIT = 16 * 1024 * 1024
# Bound values come on top of a statement. A longer message is garbage or an attack, so the connection ends.
MESSAGE_LIMIT = 256 * 1024 * 1024


class ProtocolError(Exception):
    """The peer sent invalid bytes. The connection must end: the start of the next message is unknown."""


def message(kind: bytes, payload: bytes = b"") -> bytes:
    """Frame a message: its kind (one byte, or none in the start-up phase), its length, its payload."""
    return header(kind, len(payload)) + payload


def header(kind: bytes, size: int) -> bytes:
    """Return the header of a message, so that a large payload can be sent without a copy."""
    return kind + struct.pack("!I", size + 4)


def error(code: str, text: str, hint: str = "", severity: str = "ERROR") -> bytes:
    """Return an ErrorResponse with SQLSTATE `code`."""
    fields = {"S": severity, "V": severity, "C": code, "M": text, "H": hint}
    return error_of(fields)


def error_of(fields: dict[str, str]) -> bytes:
    """Return an ErrorResponse of `fields`, keyed by their one-letter field types. Empty ones are left out."""
    payload = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items() if value)
    return message(b"E", payload + b"\0")


def parameter(name: str, value: str) -> bytes:
    """Return a ParameterStatus message."""
    return message(b"S", f"{name}\0{value}\0".encode())


def notice(text: str) -> bytes:
    """Return a NoticeResponse of severity INFO."""
    return message(b"N", b"SINFO\0VINFO\0C00000\0M" + text.encode() + b"\0\0")


def split(parts: bytes) -> list[bytes]:
    """Split consecutive messages."""
    out, position = [], 0
    while position < len(parts):
        end = position + 1 + struct.unpack_from("!I", parts, position + 1)[0]
        out.append(parts[position:end])
        position = end
    return out


def row_of(part: bytes) -> list[str | None]:
    """Read a DataRow of text values, frame included."""
    values, position = [], 7
    for _ in range(struct.unpack_from("!H", part, 5)[0]):
        length = struct.unpack_from("!i", part, position)[0]
        position += 4
        values.append(None if length < 0 else part[position : position + length].decode())
        position += max(length, 0)
    return values


def fields_of(payload: bytes) -> dict[str, str]:
    """Read the fields of an ErrorResponse or NoticeResponse."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in payload.split(b"\0") if part}


def parameters_of(payload: bytes) -> dict[str, str]:
    """Read the names and values of a start-up message, after the protocol number.

    Raises:
        ProtocolError: they are not pairs of zero-terminated UTF-8 strings.
    """
    parts = payload.split(b"\0")
    if len(parts) < 2 or parts[-1] or parts[-2] or len(parts) % 2:
        raise ProtocolError("invalid startup packet layout: expected terminator as last byte")
    try:
        texts = [part.decode() for part in parts[:-2]]
    except UnicodeDecodeError as problem:
        raise ProtocolError("the start-up parameters are not UTF-8") from problem
    return dict(zip(texts[::2], texts[1::2], strict=True))


def startup_message(user: str, database: str, parameters: dict[str, str]) -> bytes:
    """Return the message that opens a session in PostgreSQL."""
    fields = {"user": user, "database": database, "client_encoding": "UTF8", **parameters}
    body = b"".join(part.encode() + b"\0" for pair in fields.items() for part in pair)
    payload = struct.pack("!I", PROTOCOL_3_0) + body + b"\0"
    return struct.pack("!I", len(payload) + 4) + payload


def string_at(payload: bytes, start: int) -> tuple[str, int]:
    """Read the zero-terminated string at `start`; returns it and the position after it.

    Raises:
        ProtocolError: it does not end, or is not UTF-8.
    """
    end = payload.find(b"\0", start)
    if end < 0:
        raise ProtocolError("a string in a message does not end")
    try:
        return payload[start:end].decode(), end + 1
    except UnicodeDecodeError as problem:
        raise ProtocolError(f"invalid byte sequence for encoding UTF8: {problem.reason}") from problem


async def read_startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a message of the start-up phase; returns its code and the rest.

    Raises:
        ProtocolError: the length is invalid.
        asyncio.IncompleteReadError: the peer disconnected.
    """
    length, code = struct.unpack("!II", await reader.readexactly(8))
    if not 8 <= length <= STARTUP_LIMIT:
        raise ProtocolError("invalid length of startup packet")
    return code, await reader.readexactly(length - 8)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes | int]:
    """Read one message; returns its kind and its payload.

    The payload of a statement above Redshift's limit is discarded while it arrives, and its size in bytes is returned.

    Raises:
        ProtocolError: the length is invalid.
        asyncio.IncompleteReadError: the peer disconnected.
    """
    header = await reader.readexactly(5)
    kind, length = header[:1], struct.unpack("!I", header[1:])[0] - 4
    if not 0 <= length <= MESSAGE_LIMIT:
        raise ProtocolError("invalid message length")
    # A Query has the text and a zero byte. A Parse also has a name and parameter types, well below 4 KiB.
    if (kind == b"Q" and length > STATEMENT_LIMIT + 1) or (kind == b"P" and length > STATEMENT_LIMIT + 4096):
        left = length
        while left:
            left -= len(await reader.readexactly(min(left, 1 << 20)))
        return kind, length - 1
    return kind, await reader.readexactly(length)


def complete(buffer: bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of the complete messages in `buffer`; consecutive data rows count as one.

    Raises:
        ProtocolError: a length is invalid.
    """
    position, size = 0, len(buffer)
    unpack = struct.Struct("!I").unpack_from
    while position + 5 <= size:
        start = position
        kind = buffer[position]
        if kind == 68:  # DataRow
            while position + 5 <= size and buffer[position] == 68:
                end = position + 1 + unpack(buffer, position + 1)[0]
                if end > size:
                    break
                if end < position + 5:
                    raise ProtocolError("invalid message length")
                position = end
            if position == start:
                return
        else:
            position += 1 + unpack(buffer, position + 1)[0]
            if position > size:
                return
            if position < start + 5:
                raise ProtocolError("invalid message length")
        yield kind, start, position
