"""Messages of the wire protocol: limits, errors, bound values and result rows."""

import asyncio
import struct

import pytest

from redshift_local.protocol import bind, wire
from redshift_local.protocol.retype import Row

LIMIT = 100


def read(function, data: bytes):
    """Call a reader of `wire` on a stream that ends after `data`."""

    async def call():
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await function(reader)

    return asyncio.run(call())


@pytest.mark.parametrize("size", [0, 1, wire.STARTUP_LIMIT - 8])
def test_startup_messages_are_read(size):
    message = struct.pack("!II", size + 8, wire.PROTOCOL_3_0) + b"x" * size
    assert read(wire.read_startup, message) == (wire.PROTOCOL_3_0, b"x" * size)


@pytest.mark.parametrize("length", [0, 7, wire.STARTUP_LIMIT + 1, 2**32 - 1])
def test_invalid_startup_lengths_are_refused(length):
    message = struct.pack("!II", length, wire.PROTOCOL_3_0) + b"x" * 20_000
    with pytest.raises(wire.ProtocolError, match="invalid length of startup packet"):
        read(wire.read_startup, message)


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_messages_up_to_the_limit_are_read(monkeypatch, size):
    monkeypatch.setattr(wire, "MESSAGE_LIMIT", LIMIT)
    assert read(wire.read_message, wire.message(b"B", b"x" * size)) == (b"B", b"x" * size)


@pytest.mark.parametrize("length", [0, 3, LIMIT + 5, 2**32 - 1])
def test_invalid_message_lengths_are_refused(monkeypatch, length):
    monkeypatch.setattr(wire, "MESSAGE_LIMIT", LIMIT)
    with pytest.raises(wire.ProtocolError, match="invalid message length"):
        read(wire.read_message, b"B" + struct.pack("!I", length) + b"x" * 1000)


@pytest.mark.parametrize(("kind", "longest"), [(b"Q", LIMIT + 1), (b"P", LIMIT + 4096)])
def test_too_long_statements_are_discarded_and_measured(monkeypatch, kind, longest):
    monkeypatch.setattr(wire, "STATEMENT_LIMIT", LIMIT)
    assert read(wire.read_message, wire.message(kind, b"x" * longest)) == (kind, b"x" * longest)
    too_long = wire.message(kind, b"x" * (longest + 1))
    assert read(wire.read_message, too_long) == (kind, longest)

    async def read_two(reader):
        return await wire.read_message(reader), await wire.read_message(reader)

    assert read(read_two, too_long + wire.message(b"S"))[1] == (b"S", b"")


def test_incomplete_message_is_not_returned():
    with pytest.raises(asyncio.IncompleteReadError):
        read(wire.read_message, wire.message(b"B", b"xyz")[:-1])


def test_startup_parameters_can_be_empty():
    assert wire.parameters_of(b"\0") == {}


def test_errors_contain_their_fields():
    message = wire.error("42601", "syntax error", "fix it")
    assert message[:1] == b"E"
    assert struct.unpack_from("!I", message, 1)[0] == len(message) - 1
    assert message.endswith(b"\0\0")
    expected = {"S": "ERROR", "V": "ERROR", "C": "42601", "M": "syntax error", "H": "fix it"}
    assert wire.fields_of(message[5:]) == expected
    assert "H" not in wire.fields_of(wire.error("42601", "syntax error")[5:])


def test_notices_contain_their_fields():
    message = wire.notice("loaded")
    assert message[:1] == b"N"
    assert message.endswith(b"\0\0")
    assert wire.fields_of(message[5:]) == {"S": "INFO", "V": "INFO", "C": "00000", "M": "loaded"}


def data_row(*values: bytes | None) -> bytes:
    body = b"".join(struct.pack("!i", -1 if value is None else len(value)) + (value or b"") for value in values)
    return wire.message(b"D", struct.pack("!H", len(values)) + body)


def test_data_rows_are_read():
    assert wire.row_of(data_row(b"a", None, b"", "é".encode())) == ["a", None, "", "é"]


def test_strings_in_messages_end_with_a_zero_byte():
    assert wire.string_at(b"ab\0cd\0", 3) == ("cd", 6)
    with pytest.raises(wire.ProtocolError, match="does not end"):
        wire.string_at(b"ab\0cd", 3)
    with pytest.raises(wire.ProtocolError, match="invalid byte sequence"):
        wire.string_at(b"\xff\0", 0)


def test_unknown_parameter_types_are_inferred():
    types = struct.pack("!H3I", 3, 705, 0, 23)
    assert bind.inferred(types, used=True) == struct.pack("!H3I", 3, 0, 0, 23)
    assert bind.inferred(types, used=False) == struct.pack("!H3I", 3, 25, 25, 23)
    assert bind.inferred(b"\0\0", used=True) == b"\0\0"


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\1", b"\0\1\0\0\0", b"\0\1\0\0\0\0\0", b"\0\0\0"])
def test_invalid_parameter_types_are_refused(rest):
    with pytest.raises(wire.ProtocolError, match="invalid parameter types"):
        bind.inferred(rest, used=True)


def test_varbyte_parameters_are_recognized():
    assert bind.of_bytes(wire.message(b"t", struct.pack("!H3I", 3, 17, 23, 17))) == {0, 2}


def bind_message(formats: list[int], values: list[bytes | None]) -> bytes:
    body = struct.pack(f"!H{len(formats)}H", len(formats), *formats) + struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1 if value is None else len(value)) + (value or b"")
    return b"portal\0name\0" + body + struct.pack("!HH", 1, 0)


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ([], [b"\\x0aFF", None, b"0aFF", b"\\x", b"abc"]),
        ([0], [b"\\x0aFF", None, b"0aFF", b"\\x", b"abc"]),
        ([1], [b"0aFF", None, b"0aFF", b"", b"abc"]),
        ([0, 0, 0, 1, 0], [b"\\x0aFF", None, b"0aFF", b"", b"abc"]),
        ([1, 0, 0, 0, 0], [b"0aFF", None, b"0aFF", b"\\x", b"abc"]),
    ],
)
def test_hexadecimal_text_is_marked_for_varbyte_parameters(formats, expected):
    message = bind_message(formats, [b"0aFF", None, b"0aFF", b"", b"abc"])
    rewritten = bind.as_hexadecimal(message, len(b"portal\0name\0"), frozenset({0, 1, 3, 4}))
    assert rewritten == bind_message(formats, expected)


@pytest.mark.parametrize("formats", [[0, 0], [0, 0, 0, 0]])
def test_wrong_number_of_formats_is_left_to_postgresql(formats):
    message = bind_message(formats, [b"0aFF", b"0aFF", b"0aFF"])
    assert bind.as_hexadecimal(message, len(b"portal\0name\0"), frozenset({0, 1, 2})) == message


def description(*columns: tuple[bytes, int, int]) -> bytes:
    body = b"".join(
        name + b"\0" + struct.pack("!IhIhih", 9, 1, kind, 8, modifier, 0) for name, kind, modifier in columns
    )
    return wire.message(b"T", struct.pack("!H", len(columns)) + body)


def test_intervals_varbyte_and_super_are_rewritten():
    year, month, day = 1 << 18, 1 << 17, 1 << 19
    kinds = [(b"a", 23, -1), (b"b", 1186, year | month), (b"c", 1186, day), (b"d", 1186, -1), (b"e", 17, -1)]
    kinds += [(b"f", 3802, -1), (b"g", 1186, year | day)]
    row, rewritten = Row.of(description(*kinds))
    assert row.columns == {1: 1188, 2: 1190, 3: 1190, 4: 1043, 5: 4000, 6: 1190}
    new_kinds = [23, 1188, 1190, 1190, 1043, 4000, 1190]
    assert rewritten == description(*((name, new, mod) for (name, _, mod), new in zip(kinds, new_kinds, strict=True)))
    interval = struct.pack("!qii", 5, 2, 14)
    rows = data_row(b"1234567890123456", interval, interval, None, b"\\x0aff", b'\x01{"a: b": [1, 2]}', b"14 mons")
    rows += data_row(None, None, None, None, None, None, None) + data_row(b"", b"", b"", b"", b"\x00\xff", b"", b"")
    microseconds = struct.pack("!q", 5 + (2 + 30 * 14) * 86_400_000_000)
    expected = data_row(
        b"1234567890123456", struct.pack("!i", 14), microseconds, None, b"0aff", b'{"a: b":[1,2]}', b"14 mons"
    )
    expected += data_row(None, None, None, None, None, None, None) + data_row(b"", b"", b"", b"", b"00ff", b"", b"")
    assert row.rewrite(rows) == expected


def test_other_results_are_not_rewritten():
    plain = description((b"a", 23, -1))
    assert Row.of(plain) == (None, plain)
