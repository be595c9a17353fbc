"""Find the place of an error in the file of a dbt node. The warehouse's messages have no position."""

import csv
import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot.errors import ParseError, SqlglotError

# Returns the error of a query; empty if there is none.
ErrorOf = Callable[[str], str]
# Line and column, from 1.
Place = tuple[int, int | None]

_NOT_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|\{#.*?#\}|'(?:[^']|'')*'", re.DOTALL)
_QUOTED_NAME = re.compile(r'"[^"]*"')
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|\{#.*?#\}", re.DOTALL)
_NAMED = re.compile(
    r"column \"?([\w.]+)\"? does not exist|function ([\w.]+)\(|permission denied for \w+ ([\w.]+)"
    r"|[\"']([^\"']+)[\"']"
)
_UNKNOWN = "column_that_does_not_exist"
_MOST_CANDIDATES = 12


def in_sql(message: str, compiled: str, source: str, error_of: ErrorOf) -> Place | None:
    """Return the place of an error in the file of a model, test or snapshot; None if the message names nothing in it.

    Args:
        message: of the warehouse.
        compiled: the SQL that failed, as dbt compiled it.
        source: the text of the file.
        error_of: runs a query on the warehouse.
    """
    offset = _syntax_error(compiled) if "syntax error" in message else None
    if offset is None:
        offset = _named(message, compiled, error_of)
    return None if offset is None else _in_source(compiled, offset, source)


def of_projection(column: str, compiled: str, source: str) -> Place | None:
    """Return the place of a column of the final SELECT; None if it is not there, for example because of `*`."""
    try:
        query = sqlglot.parse_one(compiled, read="redshift")
    except SqlglotError:
        return None
    for projection in getattr(query, "selects", ()):
        name = projection.args.get("alias") or projection.this
        if projection.alias_or_name.lower() == column.lower() and "start" in getattr(name, "meta", {}):
            return _in_source(compiled, name.meta["start"], source)
    return None


def words_in_order(text: str, *words: str) -> Place | None:
    """Return the place of the last of some words, each after the one before. Words that do not follow are left out."""
    place, start = None, 0
    for word in words:
        if match := re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search(text, start):
            place, start = match.start(), match.end()
    return None if place is None else _line_and_column(text, place)


def word_in_code(text: str, is_sql: bool, *words: str) -> Place | None:
    """Return the place of the first of the words that a text contains outside of SQL comments.

    A name with a qualifier is searched as it is written, then without its qualifier.
    """
    if is_sql:
        text = _COMMENT.sub(_blank, text)
    for word in words:
        for name, before in ((word, r"(?<![\w.])"), (word.split(".")[-1], r"(?<!\w)")):
            if match := re.search(rf"{before}{re.escape(name)}(?!\w)", text, re.IGNORECASE):
                return _line_and_column(text, match.start())
    return None


def in_code(text: str, pattern: str, only: bool = False) -> Place | None:
    """Return the place of the first match of a pattern in SQL, outside of comments and text.

    Args:
        text: the SQL.
        pattern: a regular expression.
        only: return nothing if there are several matches.
    """
    spots = [match.start() for match in re.finditer(pattern, _NOT_CODE.sub(_blank, text), re.IGNORECASE)]
    return _line_and_column(text, spots[0]) if spots and not (only and len(spots) > 1) else None


def unclosed(text: str) -> Place | None:
    """Return the place of a quote or comment of a SQL text that has no end."""
    match = re.search(r"['\"]|/\*", _QUOTED_NAME.sub(_blank, _NOT_CODE.sub(_blank, text)))
    return _line_and_column(text, match.start()) if match else None


def in_csv(path: Path, delimiter: str, is_wrong: Callable[[str, str], bool]) -> tuple[int, str, str] | None:
    """Return line, column and value of the first value of a CSV file for which `is_wrong(column, value)` is true."""
    rows = _csv_rows(path, delimiter)
    for line, row in rows[1:]:
        for column, value in zip(rows[0][1], row, strict=False):
            if is_wrong(column, value):
                return line, column, value
    return None


def line_of_row(path: Path, delimiter: str, index: int) -> int | None:
    """Return the first line of a row of a CSV file; rows count from 0 after the header."""
    lines = [line for line, _ in _csv_rows(path, delimiter)[1:]]
    return lines[index] if index < len(lines) else None


def _csv_rows(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not empty, each with its first line; no rows if it cannot be read.

    The seeds of an installed package have paths in the package.
    """
    rows, line = [], 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for row in reader:
                if row:
                    rows.append((line, row))
                line = reader.line_num + 1
    except (OSError, UnicodeDecodeError):
        return []
    return rows


def excerpt(source: str, line: int, column: int | None) -> str | None:
    """Return a line of a text, and below it a caret at the column."""
    lines = source.splitlines()
    if not 0 < line <= len(lines):
        return None
    if column is None:
        return lines[line - 1]
    # Tabs stay, so that the caret is below its character on a terminal.
    return f"{lines[line - 1]}\n{re.sub(r'[^\t]', ' ', lines[line - 1][: column - 1])}^"


def _syntax_error(compiled: str) -> int | None:
    try:
        sqlglot.parse(compiled, read="redshift")
    except ParseError as error:
        details: dict[str, Any] = error.errors[0] if error.errors else {}
        if details.get("line"):
            starts = [0, *(match.end() for match in re.finditer("\n", compiled))]
            # The column is that of the token's last character.
            return max(starts[details["line"] - 1] + details["col"] - len(details.get("highlight") or " "), 0)
    except SqlglotError:
        # The end of a string or comment is missing.
        pass
    return None


def _named(message: str, compiled: str, error_of: ErrorOf) -> int | None:
    match = _NAMED.search(message)
    name = next((group for group in match.groups() if group), None) if match else None
    if not name:
        return None
    code = _NOT_CODE.sub(_blank, compiled)
    qualified = r"\"?\s*\.\s*\"?".join(re.escape(part) for part in name.split("."))
    last = re.escape(name.split(".")[-1])
    for pattern in (rf"(?<![\w.\"])\"?{qualified}\"?(?![\w\"])", rf"(?<!\w){last}(?!\w)"):
        if spots := [(match.start(), match.end()) for match in re.finditer(pattern, code, re.IGNORECASE)]:
            if len(spots) > 1 and match[1]:
                return _first_unknown(compiled, spots, name, error_of)
            return spots[0][0]
    return compiled.find(f"'{name}'") if f"'{name}'" in compiled else None


def _first_unknown(compiled: str, spots: list[tuple[int, int]], name: str, error_of: ErrorOf) -> int:
    """Return the occurrence of a column's name that the warehouse does not know. The others can be aliases."""
    suspects = []
    for start, end in spots[:_MOST_CANDIDATES]:
        # The warehouse complains about the first unknown column, in its own order.
        if _UNKNOWN not in error_of(f"{compiled[:start]}{_UNKNOWN}{compiled[end:]}"):
            continue
        suspects.append(start)
        if name not in error_of(f"{compiled[:start]}null{compiled[end:]}"):
            return start
    return suspects[-1] if suspects else spots[0][0]


def _in_source(compiled: str, offset: int, source: str) -> Place:
    """Return the place in a file of a place in its compiled code. Lines without Jinja are equal in both."""
    row, column = (number - 1 for number in _line_and_column(compiled, offset))
    compiled_lines, lines = compiled.split("\n"), source.rstrip().split("\n")
    line = 0
    # Empty lines tell nothing: those of a macro's SQL are not those of the file.
    matcher = difflib.SequenceMatcher(lambda text: not text.strip(), compiled_lines, lines, autojunk=False)
    for tag, start, end, first, last in matcher.get_opcodes():
        if start <= row < end:
            if tag == "equal":
                return first + row - start + 1, column + 1
            # Compiled code can have more lines after the last line of the file.
            line = min(first + (row - start), max(last - 1, first), len(lines) - 1)
    word = match[0] if (match := re.compile(r"\w+").match(compiled_lines[row], column)) else ""
    # Jinja before the word can have another length than what it became.
    spots = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", lines[line])] if word else []
    nearest = min(spots, key=lambda spot: abs(spot - column), default=None)
    return line + 1, None if nearest is None else nearest + 1


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, start) + 1, offset - start + 1


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])
