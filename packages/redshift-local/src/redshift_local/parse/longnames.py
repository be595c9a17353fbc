"""Names of 64 to 127 bytes, which PostgreSQL lacks: it gets a shorter name that ends with a digest of the long one.

Statements are shortened token by token, before they are parsed. The gateway knows every long name that it has read,
stores it in the database (sql/1_base.sql, `long_names`) before the statement runs, and restores it in what clients see.
https://docs.aws.amazon.com/redshift/latest/dg/r_names.html
"""

import hashlib
import re
import string

from sqlglot.tokens import Token, TokenType

_LONGEST = 127  # bytes
_LONGEST_HERE = 63
_PREFIX = 46  # bytes of the name; "_" and its digest follow
SHORTENED = 60  # bytes of the shortest short name: a character of four bytes can be cut off
_DIGEST = re.compile(r"_([0-9a-f]{16})(?![0-9a-f])")
_DOTTED = re.compile(r'"[^"]+"|[^".]+')
_FOLDED = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_NAMES = (TokenType.VAR, TokenType.IDENTIFIER)

_long_names: dict[str, tuple[str, str]] = {}  # short and long name, by the digest in the short one


def fold(name: str) -> str:
    """Return a name in lower case, as Redshift stores it: only letters of ASCII change."""
    return name.translate(_FOLDED)


def fitting(name: str) -> str:
    """Return a name that PostgreSQL can store: the name itself, or a shorter one.

    The manual (r_CREATE_TABLE_NEW): "The maximum length for the table name is 127 bytes; longer names are truncated to
    127 bytes." https://github.com/estuary/connectors/pull/1237 reports it of all names.
    """
    if len(name) * 4 <= _LONGEST_HERE or len(data := fold(name).encode()) <= _LONGEST_HERE:
        return name
    data = data[:_LONGEST].decode(errors="ignore").encode()
    digest = hashlib.sha256(data).hexdigest()[:16]
    short = f"{data[:_PREFIX].decode(errors='ignore')}_{digest}"
    remember(short, data.decode())
    return short


def remember(short: str, name: str) -> None:
    """Know a long name from now on."""
    _long_names.setdefault(short[-16:], (short, name))


def known(start: int = 0) -> list[tuple[str, str]]:
    """Return the short and long names from number `start` on, in the order in which they were read."""
    return list(_long_names.values())[start:] if start < len(_long_names) else []


def shorten(tokens: list[Token]) -> None:
    """Replace long names in a statement."""
    for token in tokens:
        if len(token.text) * 4 > _LONGEST_HERE and token.token_type in _NAMES:
            token.text = fitting(token.text)


def shorten_string(text: str) -> str:
    """Replace long names in a string that names a relation, such as the argument of has_table_privilege."""
    if len(text) * 4 <= _LONGEST_HERE:
        return text
    return _DOTTED.sub(lambda part: fitting(part[0]) if part[0][0] != '"' else f'"{fitting(part[0][1:-1])}"', text)


def restore(text: str) -> str:
    """Put long names into a text that has their short ones."""
    for digest in _DIGEST.findall(text) if _long_names else ():
        if digest in _long_names:
            text = text.replace(*_long_names[digest])
    return text


def restore_bytes(data: bytes) -> bytes:
    """Do the same in UTF-8."""
    return restore(data.decode(errors="surrogateescape")).encode(errors="surrogateescape") if _long_names else data
