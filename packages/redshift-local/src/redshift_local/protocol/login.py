"""Stores and checks passwords in Redshift's formats.

A verifier is `sha256|<hex digest>|<salt>` or `md5<hex digest>`, as in CREATE USER. It is stored in PostgreSQL's
pg_authid, which plain users cannot read. https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html
"""

import hashlib
import hmac
import re
import secrets

_SHA256 = re.compile(r"sha256\|([0-9a-fA-F]{64})(?:\|(.*))?", re.DOTALL)
_MD5 = re.compile(r"md5[0-9a-f]{32}")


def verifier(password: str) -> str:
    """Return the verifier of a password in CREATE USER; digests are returned unchanged.

    Raises:
        ValueError: the password breaks Redshift's rules; the text is Redshift's message.
    """
    if _MD5.fullmatch(password):
        return password
    if match := _SHA256.fullmatch(password):
        # Without a salt, the digest is that of the password alone.
        return f"sha256|{match[1].lower()}|{match[2] or ''}"
    if password.startswith("sha256|"):
        # The digest is that of the password after the prefix.
        return _hashed(password.removeprefix("sha256|"))
    if not 8 <= len(password) <= 64:
        raise ValueError("password must be between 8 and 64 characters")
    for pattern, name in (("[A-Z]", "an uppercase letter"), ("[a-z]", "a lowercase letter"), ("[0-9]", "a number")):
        if not re.search(pattern, password):
            raise ValueError(f"password must contain {name}")
    return _hashed(password)


def matches(stored: str | None, user: str, password: str) -> bool:
    """Whether the clear-text `password` matches the stored verifier."""
    if not stored:
        return False
    if match := _SHA256.fullmatch(stored):
        digest = hashlib.sha256((password + (match[2] or "")).encode()).hexdigest()
        return hmac.compare_digest(digest, match[1].lower())
    if _MD5.fullmatch(stored):
        digest = "md5" + hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(digest, stored)
    return False


def _hashed(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"sha256|{hashlib.sha256((password + salt).encode()).hexdigest()}|{salt}"
