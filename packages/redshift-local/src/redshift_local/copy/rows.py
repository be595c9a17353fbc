"""Reads the files of a COPY field by field, as Redshift does, and writes them as PostgreSQL's own COPY text.

https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html
"""

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from redshift_local.copy.fields import Bad, BadField, Column, converted
from redshift_local.copy.records import decoded, lines_of, records
from redshift_local.parse import longnames

_BATCH = 1 << 20  # characters
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class LoadError(Exception):
    """More bad rows than MAXERROR allows."""

    def __init__(self, rows: list[BadField]) -> None:
        """Store the bad rows; the message is about the first one."""
        first = rows[0]
        super().__init__(f"{first.reason} (file {first.file}, line {first.line}, column {first.column or '-'})")
        self.rows = rows


class Reader:
    """Turns files into COPY text. `errors` collects the skipped rows."""

    def __init__(self, options: Any, columns: list[Column]) -> None:
        """Prepare for files with these options and columns."""
        self.options, self.columns, self.flags = options, columns, options.flags
        self.errors: list[BadField] = []
        self._replacement = next((flag[1:] for flag in self.flags if flag.startswith("=")), "?")

    def read(self, file: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Read one file; yields COPY text in chunks of about a mebibyte.

        Raises:
            LoadError: there were more bad rows than MAXERROR allows.
        """
        out: list[str] = []
        size = 0
        for line, raw, fields in records(lines_of(decoded(pieces, self._decoder())), self.options):
            try:
                text = self._row(fields)
            except Bad as bad:
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

    def _row(self, fields: Any) -> str:
        if isinstance(fields, Bad):
            raise fields
        values = self._from_object(fields) if self.options.json else list(fields)
        expected = len(self.columns)
        if len(values) > expected and not (len(values) == expected + 1 and values[-1] == ""):
            raise Bad(1202, "Extra column(s) found")
        if len(values) < expected:
            if "fillrecord" not in self.flags:
                raise Bad(1213 if values == [""] else 1203, "Delimiter not found")
            values += [None] * (expected - len(values))
        out = []
        for column, value in zip(self.columns, values, strict=False):
            try:
                text = self._value(column, value)
            except Bad as bad:
                bad.column, bad.value = column, value  # type: ignore[attr-defined]
                raise
            out.append("\\N" if text is None else text.translate(_ESCAPES))
        return "\t".join(out) + "\n"

    def _from_object(self, raw: str) -> list[Any]:
        try:
            record = json.loads(raw, parse_float=Decimal)
        except ValueError as problem:
            raise Bad(1216, f"Invalid JSON: {problem}") from problem
        if not isinstance(record, dict):
            raise Bad(1216, "Invalid JSON: not an object")
        if self.options.ignore_case:
            record = {key.lower(): value for key, value in record.items()}
        values = []
        for column in self.columns:
            value = record.get(longnames.restore(column.name))
            if value is not None and (column.is_super or isinstance(value, (dict, list))):
                values.append(json.dumps(value, default=float, ensure_ascii=False))
            elif value is None or isinstance(value, str):
                values.append(value)
            else:
                values.append(str(value).lower() if isinstance(value, bool) else str(value))
        return values

    def _value(self, column: Column, value: str | None) -> str | None:
        """Convert a field to PostgreSQL's form for the column's type."""
        if value is None or (value == self.options.null and not self.options.json):
            return None
        if not value.isascii() and any("\udc80" <= char <= "\udcff" for char in value):
            raise Bad(1220, "String contains invalid or unsupported UTF8 codepoints")
        if "\0" in value:
            raise Bad(1220, "String contains a null character")
        if "acceptinvchars" in self.flags:
            value = value.replace("\ufffd", self._replacement)
        if column.is_text:
            return self._text(column, value)
        value = value.strip()
        if not value:
            return None
        return converted(column, value, self.options)

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
                raise Bad(1204, "String length exceeds DDL length")
            value = data[: column.limit].decode(errors="ignore")
        return value

    def _note(self, file: str, line: int, raw: str, bad: Bad) -> None:
        column = getattr(bad, "column", None)
        size = "" if column is None or column.limit is None else str(column.limit)
        kind = column.kind if column else ""
        value = getattr(bad, "value", None) or ""
        name = column.name if column else ""
        raw = raw.rstrip("\n")
        self.errors.append(
            BadField(file, line, name, kind, size, _clean(raw)[:1024], _clean(value)[:1024], bad.code, bad.reason)
        )
        if len(self.errors) > self.options.max_errors:
            raise LoadError(self.errors)


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "?")
