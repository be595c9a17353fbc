"""Passwords of the warehouse's users: how Redshift's forms of them are kept and checked.

A verifier is `sha256|<hex digest>|<salt>` or `md5<hex digest>`, as in CREATE USER. They are kept where PostgreSQL keeps
its own, in pg_authid, which plain users cannot read. https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html
"""

import hashlib
import hmac
import re
import secrets

_SHA256 = re.compile(r"sha256\|([0-9a-fA-F]{64})(?:\|(.*))?", re.DOTALL)
_MD5 = re.compile(r"md5[0-9a-f]{32}")


def verifier(password: str) -> str:
    """Turn what CREATE USER was given as password into a verifier; digests are kept as they are.

    Raises:
        ValueError: a clear text that breaks Redshift's rules; the text is Redshift's message.
    """
    if _MD5.fullmatch(password):
        return password
    if found := _SHA256.fullmatch(password):
        # A digest without salt is that of the bare password.
        return f"sha256|{found[1].lower()}|{found[2] or ''}"
    if password.startswith("sha256|"):
        # The digest is taken of the password that stands after the word.
        return _hashed(password.removeprefix("sha256|"))
    if not 8 <= len(password) <= 64:
        raise ValueError("password must be between 8 and 64 characters")
    for wanted, name in (("[A-Z]", "an uppercase letter"), ("[a-z]", "a lowercase letter"), ("[0-9]", "a number")):
        if not re.search(wanted, password):
            raise ValueError(f"password must contain {name}")
    return _hashed(password)


def matches(kept: str | None, user: str, password: str) -> bool:
    """Whether `password`, in clear text, is the one that `kept` verifies."""
    if not kept:
        return False
    if found := _SHA256.fullmatch(kept):
        made = hashlib.sha256((password + (found[2] or "")).encode()).hexdigest()
        return hmac.compare_digest(made, found[1].lower())
    if _MD5.fullmatch(kept):
        made = "md5" + hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(made, kept)
    return False


def _hashed(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"sha256|{hashlib.sha256((password + salt).encode()).hexdigest()}|{salt}"
