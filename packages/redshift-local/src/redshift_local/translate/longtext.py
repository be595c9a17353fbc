"""Long statements bypass the parser, which is slow: it reads one character at a time.

Long string literals are replaced by short marks, and put back, in PostgreSQL's form, into the translated text. Of an
INSERT whose rows are nothing but values, only the part before the rows is parsed.
"""

import re

from redshift_local.plan import literal

_LONG = 64  # characters; replacing shorter literals costs more than parsing them
_STRING = r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'"
_PIECE = re.compile(rf"""({_STRING})|"[^"]*"|--[^\n]*|/\*.*?\*/|\$([A-Za-z_]\w*|)\$.*?\$\2\$""", re.DOTALL)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)|''", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_MARK = re.compile(r"'\x01(\d+)\x01'")
_JSON = re.compile(r"""'\s*[\[{"]""")
_NAME = r'(?:"[^"]+"|[a-z_][\w$]*+)'
# Every repetition is possessive, so that a text that does not match fails without backtracking.
_INSERT = re.compile(
    rf"((?:\s|/\*.*?\*/)*+insert\s+into\s+{_NAME}(?:\.{_NAME})*+\s*+"
    rf"(?:\(\s*+{_NAME}\s*+(?:,\s*+{_NAME}\s*+)*+\)\s*+)?+values)\s*+\(",
    re.IGNORECASE | re.DOTALL,
)
_VALUES = re.compile(
    rf"(?:[\s,()]++|(?>{_STRING})|[-+]?[\d.]++(?:[eE][-+]?\d++)?+\b|\$\d++|\b(?:null|true|false|default)\b)++;?\s*+",
    re.IGNORECASE | re.DOTALL,
)


def rows_of(text: str) -> tuple[str, str] | None:
    """Split an INSERT of plain values into a short INSERT to translate, and its rows in PostgreSQL's form."""
    insert = _INSERT.match(text)
    if not insert or not _VALUES.fullmatch(text, insert.end(1)):
        return None
    rows = text[insert.end(1) :].rstrip().rstrip(";")
    if "\\" in rows or _JSON.search(rows):
        rows = _PIECE.sub(lambda piece: _stored(piece[0]) if piece[1] else piece[0], rows)
    return f"{insert[1]} (null)", rows


def _stored(text: str) -> str:
    # As in dml.stored: a string that looks like JSON stays a string in any column.
    return _plain_literal(text) + ("::text" if _JSON.match(text) else "")


def extract_literals(text: str) -> tuple[str, list[str]]:
    """Replace long literals by marks; returns the text, and the literals in PostgreSQL's form."""
    values: list[str] = []

    def one(match: re.Match[str]) -> str:
        if match[1] is None or len(match[1]) < _LONG:
            return match[0]
        values.append(_plain_literal(match[1]))
        return f"'\x01{len(values) - 1}\x01'"

    return _PIECE.sub(one, text), values


def restore_literals(sql: str, values: list[str]) -> str:
    """Replace the marks by the literals."""
    return _MARK.sub(lambda mark: values[int(mark[1])], sql)


def _plain_literal(text: str) -> str:
    return literal(_ESCAPE.sub(_plain, text[1:-1])) if "\\" in text else text


def _plain(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped is None:
        return "'"
    if escaped[0] in "01234567":
        return chr(int(escaped, 8) & 0xFF)
    return _LETTERS.get(escaped, escaped)
