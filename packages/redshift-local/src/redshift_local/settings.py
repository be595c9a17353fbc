"""Ports, the admin's password, and the address that clients use."""

import errno
import json
import os
import secrets
import socket
from pathlib import Path
from urllib.parse import quote

HOST = "127.0.0.1"
ADMIN = "awsuser"
DATABASE = "dev"


class SetupError(Exception):
    """The warehouse cannot start. The message says what failed and which setting to change."""


def read_port(variable: str, default: int) -> int:
    """Return the port that an environment variable names.

    Raises:
        SetupError: the value is not a number from 1 to 65535.
    """
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
        raise SetupError(f"{variable}={text!r} is not a port; set it to a number from 1 to 65535")
    return int(text)


def check_port(port: int, variable: str) -> None:
    """Fail early when a port is in use.

    Raises:
        SetupError: something listens on `port`; the text names the variable to change.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SetupError(
                    f"port {port} cannot be used ({error.strerror}); choose another: {variable}=<port>"
                ) from error
            raise SetupError(f"port {port} is busy; stop what uses it, or choose another: {variable}=<port>") from error


def generate_password() -> str:
    """Return a random password that Redshift accepts."""
    # Redshift wants an upper-case letter, a lower-case letter and a digit in 8 to 64 characters.
    # https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html
    return f"Aa1{secrets.token_hex(16)}"


def write_passwords(state: Path, passwords: dict[str, str]) -> None:
    """Write `passwords.json` under `state` with mode 0600, replacing the file of an earlier start."""
    state.mkdir(parents=True, exist_ok=True)
    # A start that is killed half-way leaves the old file or the new one, never a part of it.
    partial = state / "passwords.json.partial"
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(passwords, file)
    partial.replace(state / "passwords.json")


def admin_password(folder: Path) -> str:
    """Return the admin's password from `passwords.json` under `folder`; the first start generates it.

    Raises:
        SetupError: the file is damaged.
    """
    path = folder / "passwords.json"
    try:
        return str(json.loads(path.read_text())[ADMIN])
    except FileNotFoundError:
        password = generate_password()
        write_passwords(folder, {ADMIN: password})
        return password
    except (ValueError, TypeError, KeyError):
        # Without the cause: it could show a password.
        raise SetupError(f"{path} is damaged; delete it and start the warehouse again") from None


def dsn(port: int, password: str) -> str:
    """Return the admin's address."""
    return f"redshift://{ADMIN}:{quote(password, safe='')}@{HOST}:{port}/{DATABASE}"
