"""Converts fields of a file to values of a column. An invalid field raises `Bad`.

https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html
"""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from redshift_local.copy.formats import DATE_GUESSES, TIME_GUESSES, parse

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
        """Whether an empty field is an empty string instead of a null."""
        return self.kind in ("varchar", "bpchar", "text")

    @property
    def is_super(self) -> bool:
        """Whether the values are JSON. CREATE TABLE AS names SUPER's base type."""
        return self.kind in ("super", "json")

    @property
    def limit(self) -> int | None:
        """The maximum size of a value in bytes."""
        return self.modifier - 4 if self.kind in ("varchar", "bpchar") and self.modifier > 4 else None

    @property
    def too_long(self) -> str:
        """SQL that is true for a value above the size limit; empty if there is no limit."""
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
        """The values, in the column order of the table."""
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


class Bad(Exception):  # noqa: N818 - not yet an error: MAXERROR may allow it
    """A field or row that cannot be loaded."""

    def __init__(self, code: int, reason: str) -> None:
        """Store Redshift's error number and text."""
        super().__init__(reason)
        self.code, self.reason = code, reason


def converted(column: Column, value: str, options: Any) -> str | None:
    """Convert a non-empty field to PostgreSQL's form for a column without text; None is a null.

    Raises:
        Bad: the field is not a value of the column's type.
    """
    kind = column.kind
    if kind in _INTEGERS:
        try:
            number = int(value)
        except ValueError as problem:
            raise Bad(
                1207, f"Invalid digit, Value '{_wrong(value)}', Pos {_position(value)}, Type: Integer"
            ) from problem
        if not -(2 ** _INTEGERS[kind]) <= number < 2 ** _INTEGERS[kind]:
            raise Bad(1206, "Overflow, Value out of range")
        return str(number)
    if kind in ("numeric", "float4", "float8"):
        try:
            Decimal(value)
        except InvalidOperation as problem:
            text = f"Invalid digit, Value '{_wrong(value)}', Pos {_position(value)}, Type: Decimal"
            raise Bad(1207, text) from problem
        return value
    if kind == "bool":
        if value.lower() not in _TRUE | _FALSE:
            raise Bad(1210, "Unknown boolean format")
        return "t" if value.lower() in _TRUE else "f"
    if kind == "date":
        moment = parse(value, options.date_format or "YYYY-MM-DD", DATE_GUESSES)
        moment = _moment(moment, options, 1205, "Invalid Date Format - length must be 10 or more")
        return moment and moment.date().isoformat()
    if kind in ("timestamp", "timestamptz"):
        moment = parse(
            value, options.time_format or "YYYY-MM-DD HH:MI:SS", TIME_GUESSES, with_zone=kind == "timestamptz"
        )
        moment = _moment(moment, options, 1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]")
        return moment and moment.isoformat(" ")
    if column.is_super:
        try:
            json.loads(value)
        except ValueError as problem:
            raise Bad(1224, f"Invalid JSON for a SUPER column: {problem}") from problem
    return value


def _moment(moment: datetime | None, options: Any, code: int, reason: str) -> datetime | None:
    if moment is None and "acceptanydate" not in options.flags:
        raise Bad(code, reason)
    return moment


def _wrong(value: str) -> str:
    return value[_position(value)]


def _position(value: str) -> int:
    return next((i for i, char in enumerate(value) if not char.isdecimal() and not (i == 0 and char in "+-")), 0)
