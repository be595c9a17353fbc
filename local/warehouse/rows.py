"""Reads the files of a COPY field by field, as Redshift does, and writes them as PostgreSQL's own COPY text.

https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from local.warehouse.formats import DATE_GUESSES, TIME_GUESSES, parse

csv.field_size_limit(16 * 1024 * 1024)
_BATCH = 1 << 20  # characters
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_INTEGERS = {"int2": 15, "int4": 31, "int8": 63}
_TRUE, _FALSE = {"1", "t", "true", "y", "yes"}, {"0", "f", "false", "n", "no"}


@dataclass(frozen=True)
class Column:
    """A column of the target: PostgreSQL's name of its type, and its type modifier."""

    name: str
    kind: str
    modifier: int
    identity: bool

    @property
    def is_text(self) -> bool:
        """Whether an empty field is an empty string here, and not a null."""
        return self.kind in ("varchar", "bpchar", "text")

    @property
    def limit(self) -> int | None:
        """Bytes that a value may have."""
        return self.modifier - 4 if self.kind in ("varchar", "bpchar") and self.modifier > 4 else None

    @property
    def too_long(self) -> str:
        """SQL that is true of a value longer than the column's bytes; nothing if it has no limit."""
        quoted = self.name.replace('"', '""')
        return f'octet_length(rtrim("{quoted}")) > {self.limit}' if self.limit else ""


@dataclass(frozen=True)
class BadField:
    """One row of stl_load_errors. https://docs.aws.amazon.com/redshift/latest/dg/r_STL_LOAD_ERRORS.html"""

    file: str
    line: int
    column: str
    kind: str
    length: str
    raw_line: str
    raw_value: str
    code: int
    reason: str

    def as_row(self) -> tuple:
        """Its values, in the order of the table that keeps them."""
        return (
            self.file,
            self.line,
            self.column,
            self.kind,
            self.length,
            self.raw_line,
            self.raw_value,
            self.code,
            self.reason,
        )


class LoadError(Exception):
    """More bad rows than MAXERROR allows."""

    def __init__(self, rows: list[BadField]) -> None:
        """Keep the bad rows; the first one is the text."""
        first = rows[0]
        super().__init__(f"{first.reason} (file {first.file}, line {first.line}, column {first.column or '-'})")
        self.rows = rows


class _Bad(Exception):  # noqa: N818 - carries a BadField's parts to where the line is known
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Reader:
    """Turns files into COPY text. `errors` collects what was left out."""

    def __init__(self, options: Any, columns: list[Column]) -> None:
        """Prepare for files with these options and columns."""
        self.options, self.columns, self.flags = options, columns, options.flags
        self.errors: list[BadField] = []
        self._replacement = next((flag[1:] for flag in self.flags if flag.startswith("=")), "?")

    def read(self, file: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Read one file; yields COPY text in pieces of about a mebibyte.

        Raises:
            LoadError: there were more bad rows than MAXERROR allows.
        """
        out: list[str] = []
        size = 0
        for line, raw, fields in self._records(_lines(_decoded(pieces, self._decoder()))):
            try:
                text = self._row(fields)
            except _Bad as bad:
                self._note(file, line, raw, bad)
                continue
            if "noload" not in self.flags:
                out.append(text)
                size += len(text)
            if size > _BATCH:
                yield "".join(out).encode()
                out, size = [], 0
        if out:
            yield "".join(out).encode()

    def _decoder(self) -> str:
        return "replace" if "acceptinvchars" in self.flags else "surrogateescape"

    def _records(self, lines: Iterator[str]) -> Iterator[tuple[int, str, Any]]:
        """Line number, raw text and fields of every record."""
        options = self.options
        if options.json:
            yield from ((line, raw, raw) for line, raw in _objects(lines))
            return
        for _ in range(options.header):
            next(lines, None)
        if options.csv:
            kept = _Kept(lines)
            reader = csv.reader(kept, delimiter=options.delimiter or ",", quotechar=options.quote, strict=True)
            while True:
                kept.taken.clear()
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as problem:
                    fields = _Bad(1214, f"Invalid quote formatting for CSV: {problem}")
                raw = "".join(kept.taken)
                if fields or "ignoreblanklines" not in self.flags:
                    yield reader.line_num + options.header, raw, fields or [""]
            return
        number = options.header
        for raw in lines:
            number += 1
            line = raw.rstrip("\n")
            if "escape" in self.flags:
                while _open_escape(line) and (more := next(lines, None)) is not None:
                    number += 1
                    line = line[:-1] + "\\\n" + more.rstrip("\n")
            line = line.removesuffix("\r")
            if line or "ignoreblanklines" not in self.flags:
                yield number, raw, _delimited(line, options.delimiter or "|", self.flags)

    def _row(self, fields: Any) -> str:
        if isinstance(fields, _Bad):
            raise fields
        values = self._from_object(fields) if self.options.json else list(fields)
        wanted = len(self.columns)
        if len(values) > wanted and not (len(values) == wanted + 1 and values[-1] == ""):
            raise _Bad(1202, "Extra column(s) found")
        if len(values) < wanted:
            if "fillrecord" not in self.flags:
                raise _Bad(1213 if values == [""] else 1203, "Delimiter not found")
            values += [None] * (wanted - len(values))
        out = []
        for column, value in zip(self.columns, values, strict=False):
            try:
                made = self._value(column, value)
            except _Bad as bad:
                bad.column, bad.value = column, value  # type: ignore[attr-defined]
                raise
            out.append("\\N" if made is None else made.translate(_ESCAPES))
        return "\t".join(out) + "\n"

    def _from_object(self, raw: str) -> list[Any]:
        try:
            found = json.loads(raw, parse_float=Decimal)
        except ValueError as problem:
            raise _Bad(1216, f"Invalid JSON: {problem}") from problem
        if not isinstance(found, dict):
            raise _Bad(1216, "Invalid JSON: not an object")
        if self.options.ignore_case:
            found = {key.lower(): value for key, value in found.items()}
        values = []
        for column in self.columns:
            value = found.get(column.name)
            if value is None or isinstance(value, str):
                values.append(value)
            elif column.kind == "jsonb" or isinstance(value, (dict, list)):
                values.append(json.dumps(value, default=float))
            else:
                values.append(str(value).lower() if isinstance(value, bool) else str(value))
        return values

    def _value(self, column: Column, value: str | None) -> str | None:
        """Convert a field to what PostgreSQL reads for the column's type."""
        if value is None or (value == self.options.null and not self.options.json):
            return None
        if not value.isascii() and any("\udc80" <= char <= "\udcff" for char in value):
            raise _Bad(1220, "String contains invalid or unsupported UTF8 codepoints")
        if "\0" in value:
            raise _Bad(1220, "String contains a null character")
        if "acceptinvchars" in self.flags:
            value = value.replace("\ufffd", self._replacement)
        if column.is_text:
            return self._text(column, value)
        value = value.strip()
        if not value:
            return None
        return _converted(column, value, self.options)

    def _text(self, column: Column, value: str) -> str | None:
        if "trimblanks" in self.flags:
            value = value.rstrip()
        if ("emptyasnull" in self.flags and not value) or (
            "blanksasnull" in self.flags and value and not value.strip()
        ):
            return None
        if column.limit is not None and len(data := value.encode()) > column.limit:
            if column.kind == "bpchar" and len(value.rstrip(" ").encode()) <= column.limit:
                return value.rstrip(" ")
            if "truncatecolumns" not in self.flags:
                raise _Bad(1204, "String length exceeds DDL length")
            value = data[: column.limit].decode(errors="ignore")
        return value

    def _note(self, file: str, line: int, raw: str, bad: _Bad) -> None:
        column = getattr(bad, "column", None)
        size = "" if column is None or column.limit is None else str(column.limit)
        shown = column.kind if column else ""
        value = getattr(bad, "value", None) or ""
        name = column.name if column else ""
        raw = raw.rstrip("\n")
        self.errors.append(
            BadField(file, line, name, shown, size, _clean(raw)[:1024], _clean(value)[:1024], bad.code, bad.reason)
        )
        if len(self.errors) > self.options.max_errors:
            raise LoadError(self.errors)


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "?")


def _decoded(pieces: Iterable[bytes], errors: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Lines with their line feeds; a carriage return alone ends none."""
    rest = ""
    for text in texts:
        parts = (rest + text).split("\n")
        rest = parts.pop()
        for part in parts:
            yield part + "\n"
    if rest:
        yield rest


class _Kept:
    """Lines on their way to the csv module, kept until the record is complete."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines, self.taken = lines, []

    def __iter__(self) -> "_Kept":
        return self

    def __next__(self) -> str:
        self.taken.append(next(self.lines))
        return self.taken[-1]


def _open_escape(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _delimited(line: str, delimiter: str, flags: set[str]) -> list[str]:
    """Fields of a line of delimited text."""
    if "escape" in flags:
        parts = re.findall(rf"((?:\\.|[^\\{re.escape(delimiter)}])*)(?:{re.escape(delimiter)}|$)", line, re.DOTALL)
        # The pattern matches once more, emptily, at the end.
        parts = parts[:-1] if len(parts) > 1 and not line.endswith(delimiter) else parts
        return [part if part == "\\N" else re.sub(r"\\(.)", _unescaped, part, flags=re.DOTALL) for part in parts]
    parts = line.split(delimiter)
    if "removequotes" in flags:
        parts = [part[1:-1] if len(part) > 1 and part[0] in "\"'" and part[-1] == part[0] else part for part in parts]
    return parts


def _unescaped(found: re.Match[str]) -> str:
    return found[1]


def _objects(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """The JSON objects of a file, one after the other, with the line each begins on."""
    decoder = json.JSONDecoder()
    kept, number, start = io.StringIO(), 0, 1
    for line in lines:
        number += 1
        if kept.tell() == 0:
            start = number
        kept.write(line)
        text = kept.getvalue().lstrip()
        while text:
            try:
                _, end = decoder.raw_decode(text)
            except ValueError:
                break
            yield start, text[:end]
            text = text[end:].lstrip(", \r\n\t")
            start = number
        kept = io.StringIO()
        kept.write(text)
    if rest := kept.getvalue().strip():
        yield start, rest


def _converted(column: Column, value: str, options: Any) -> str | None:
    kind = column.kind
    if kind in _INTEGERS:
        try:
            number = int(value)
        except ValueError as problem:
            raise _Bad(
                1207, f"Invalid digit, Value '{_wrong(value)}', Pos {_position(value)}, Type: Integer"
            ) from problem
        if not -(2 ** _INTEGERS[kind]) <= number < 2 ** _INTEGERS[kind]:
            raise _Bad(1206, "Overflow, Value out of range")
        return str(number)
    if kind in ("numeric", "float4", "float8"):
        try:
            Decimal(value)
        except InvalidOperation as problem:
            text = f"Invalid digit, Value '{_wrong(value)}', Pos {_position(value)}, Type: Decimal"
            raise _Bad(1207, text) from problem
        return value
    if kind == "bool":
        if value.lower() not in _TRUE | _FALSE:
            raise _Bad(1210, "Unknown boolean format")
        return "t" if value.lower() in _TRUE else "f"
    if kind == "date":
        found = parse(value, options.date_format or "YYYY-MM-DD", DATE_GUESSES)
        found = _moment(found, options, 1205, "Invalid Date Format - length must be 10 or more")
        return found and found.date().isoformat()
    if kind in ("timestamp", "timestamptz"):
        found = parse(
            value, options.time_format or "YYYY-MM-DD HH:MI:SS", TIME_GUESSES, with_zone=kind == "timestamptz"
        )
        found = _moment(found, options, 1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]")
        return found and found.isoformat(" ")
    if kind == "jsonb":
        try:
            json.loads(value)
        except ValueError as problem:
            raise _Bad(1224, f"Invalid JSON for a SUPER column: {problem}") from problem
    return value


def _moment(found: datetime | None, options: Any, code: int, reason: str) -> datetime | None:
    if found is None and "acceptanydate" not in options.flags:
        raise _Bad(code, reason)
    return found


def _wrong(value: str) -> str:
    return value[_position(value)]


def _position(value: str) -> int:
    return next((i for i, char in enumerate(value) if not char.isdecimal() and not (i == 0 and char in "+-")), 0)
