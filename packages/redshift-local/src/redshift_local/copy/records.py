"""Splits files into records: lines of CSV or delimited text, or JSON objects."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from redshift_local.copy.fields import Bad

csv.field_size_limit(16 * 1024 * 1024)


def records(lines: Iterator[str], options: Any) -> Iterator[tuple[int, str, Any]]:
    """Line number, raw text and fields of every record."""
    if options.json:
        yield from ((line, raw, raw) for line, raw in _objects(lines))
        return
    for _ in range(options.header):
        next(lines, None)
    if options.csv:
        pending = _PendingLines(lines)
        reader = csv.reader(pending, delimiter=options.delimiter or ",", quotechar=options.quote, strict=True)
        while True:
            pending.lines_read.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                fields = Bad(1214, f"Invalid quote formatting for CSV: {problem}")
            raw = "".join(pending.lines_read)
            if fields or "ignoreblanklines" not in options.flags:
                yield reader.line_num + options.header, raw, fields or [""]
        return
    number = options.header
    for raw in lines:
        number += 1
        line = raw.rstrip("\n")
        if "escape" in options.flags:
            while _open_escape(line) and (more := next(lines, None)) is not None:
                number += 1
                line = line[:-1] + "\\\n" + more.rstrip("\n")
        line = line.removesuffix("\r")
        if line or "ignoreblanklines" not in options.flags:
            yield number, raw, _delimited(line, options.delimiter or "|", options.flags)


def decoded(pieces: Iterable[bytes], errors: str) -> Iterator[str]:
    """Decode UTF-8 chunks, without a byte order mark. `errors` is the handler for invalid bytes."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def lines_of(texts: Iterator[str]) -> Iterator[str]:
    """Lines with their line feeds; a carriage return alone ends none."""
    rest = ""
    for text in texts:
        parts = (rest + text).split("\n")
        rest = parts.pop()
        for part in parts:
            yield part + "\n"
    if rest:
        yield rest


class _PendingLines:
    """Passes lines to the csv module, and holds the lines of the current record."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines, self.lines_read = lines, []

    def __iter__(self) -> "_PendingLines":
        return self

    def __next__(self) -> str:
        self.lines_read.append(next(self.lines))
        return self.lines_read[-1]


def _open_escape(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _delimited(line: str, delimiter: str, flags: set[str]) -> list[str]:
    """Fields of a line of delimited text."""
    if "escape" in flags:
        parts = re.findall(rf"((?:\\.|[^\\{re.escape(delimiter)}])*)(?:{re.escape(delimiter)}|$)", line, re.DOTALL)
        # The pattern also matches the empty string at the end.
        parts = parts[:-1] if len(parts) > 1 and not line.endswith(delimiter) else parts
        return [part if part == "\\N" else re.sub(r"\\(.)", _unescaped, part, flags=re.DOTALL) for part in parts]
    parts = line.split(delimiter)
    if "removequotes" in flags:
        parts = [part[1:-1] if len(part) > 1 and part[0] in "\"'" and part[-1] == part[0] else part for part in parts]
    return parts


def _unescaped(match: re.Match[str]) -> str:
    return match[1]


def _objects(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """The JSON objects of a file, one after the other, with the line each begins on."""
    decoder = json.JSONDecoder()
    pending, start = io.StringIO(), 1
    for number, line in enumerate(lines, 1):
        if pending.tell() == 0:
            start = number
        pending.write(line)
        text = pending.getvalue().lstrip()
        while text:
            try:
                _, end = decoder.raw_decode(text)
            except ValueError:
                break
            yield start, text[:end]
            text = text[end:].lstrip(", \r\n\t")
            start = number
        pending = io.StringIO()
        pending.write(text)
    if rest := pending.getvalue().strip():
        yield start, rest
