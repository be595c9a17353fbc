"""Messages of the wire protocol: limits, errors, bound values and result rows."""

import asyncio
import struct
from decimal import Decimal

import pytest
from psycopg.types.numeric import DecimalBinaryDumper

from redshift_local.protocol import bind, wire
from redshift_local.protocol.retype import BINARY, EXTENDED, TEXT, Row

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
    assert bind.inferred(types, "select $2, $1") == struct.pack("!H3I", 3, 0, 0, 23)
    assert bind.inferred(types, "select $2") == struct.pack("!H3I", 3, 25, 0, 23)
    assert bind.inferred(types, "select refuse()") == struct.pack("!H3I", 3, 25, 25, 23)
    assert bind.inferred(b"\0\0", "select 1") == b"\0\0"


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\1", b"\0\1\0\0\0", b"\0\1\0\0\0\0\0", b"\0\0\0"])
def test_invalid_parameter_types_are_refused(rest):
    with pytest.raises(wire.ProtocolError, match="invalid parameter types"):
        bind.inferred(rest, "select $1")


def description(*columns: tuple[bytes, int, int]) -> bytes:
    body = b"".join(
        name + b"\0" + struct.pack("!IhIhih", 9, 1, kind, 8, modifier, 0) for name, kind, modifier in columns
    )
    return wire.message(b"T", struct.pack("!H", len(columns)) + body)


def test_intervals_varbyte_and_super_are_rewritten():
    year, month, day = 1 << 18, 1 << 17, 1 << 19
    kinds = [(b"a", 23, -1), (b"b", 1186, year | month), (b"c", 1186, day), (b"d", 1186, -1), (b"e", 17, -1)]
    kinds += [(b"f", 114, -1), (b"g", 1186, year | day)]
    row, rewritten, protocol = Row.of(description(*kinds))
    assert protocol == TEXT
    assert row.columns == {1: 1188, 2: 1190, 3: 1190, 4: 6551, 5: 4000, 6: 1190}
    new_kinds = [23, 1188, 1190, 1190, 6551, 4000, 1190]
    assert rewritten == description(*((name, new, mod) for (name, _, mod), new in zip(kinds, new_kinds, strict=True)))
    interval = struct.pack("!qii", 5, 2, 14)
    rows = data_row(b"1234567890123456", interval, interval, None, b"\\x0aff", b'{"a: b" : [1,\n  2]}', b"14 mons")
    rows += data_row(None, None, None, None, None, None, None) + data_row(b"", b"", b"", b"", b"\x00\xff", b"", b"")
    microseconds = struct.pack("!q", 5 + (2 + 30 * 14) * 86_400_000_000)
    expected = data_row(
        b"1234567890123456", struct.pack("!i", 14), microseconds, None, b"0aff", b'{"a: b":[1,2]}', b"14 mons"
    )
    expected += data_row(None, None, None, None, None, None, None) + data_row(b"", b"", b"", b"", b"00ff", b"", b"")
    assert row.rewrite(rows) == expected


def test_other_results_are_not_rewritten():
    plain = description((b"a", 23, -1))
    assert Row.of(plain) == (None, plain, TEXT)


@pytest.mark.parametrize("protocol", [EXTENDED, BINARY])
def test_newer_protocols_describe_the_origin_of_columns(protocol):
    columns = [(b"a", 23, -1), (b"b", 25, -1)]
    _, part, _ = Row.of(description(*columns), protocol)
    parts = description(*columns)[7:].split(b"\xff\xff\xff\xff\0\0")
    body = struct.pack("!H", 2) + b"".join(one + b"\xff\xff\xff\xff\0\0" + b"\0\0\0\0\x10\x00" for one in parts[:2])
    assert part == wire.message(b"T", body)


NUMERICS = [("0", 18, 2), ("12.34", 18, 2), ("-12.30", 10, 2), ("100000000", 18, 0), ("0.00012345", 18, 8)]
NUMERICS += [("-99999999999999999999999999999999999.123", 38, 3), ("123456789012345678", 18, 0), ("10000", 19, 0)]


@pytest.mark.parametrize(("text", "precision", "scale"), NUMERICS)
def test_numerics_are_integers_without_a_point_in_the_binary_protocol(text, precision, scale):
    row, _, protocol = Row.of(description((b"a", 1700, (precision << 16 | scale) + 4)), BINARY)
    dumped = bytes(DecimalBinaryDumper(Decimal).dump(Decimal(text)))
    number = int(text.replace(".", "")).to_bytes(8 if precision <= 18 else 16, "big", signed=True)
    assert (protocol, row.rewrite(data_row(dumped))) == (BINARY, data_row(number))
    assert row.rewrite(data_row(text.encode())) == data_row(text.encode())


def test_computed_numerics_stay_text():
    columns = [(b"a", 1700, (18 << 16) + 4), (b"b", 1700, -1), (b"c", 17, -1)]
    row, _, protocol = Row.of(description(*columns), BINARY)
    assert protocol == EXTENDED
    assert row.rewrite(data_row(b"1.5", b"2.50", b"\\xff")) == data_row(b"1.5", b"2.50", b"ff")


def test_varbyte_is_binary_in_the_binary_protocol():
    row, _, _ = Row.of(description((b"a", 17, -1)), BINARY)
    assert row.rewrite(data_row(b"\\x61ff") + data_row(b"a\xff")) == data_row(b"a\xff") * 2
