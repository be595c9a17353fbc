"""Connects to the warehouse that REDSHIFT_* variables name, quotes its identifiers, and reads its errors."""

import os
from collections.abc import Mapping

import redshift_connector

_MODES = {
    "disable": None,
    "prefer": "verify-ca",
    "require": "verify-ca",
    "verify-ca": "verify-ca",
    "verify-full": "verify-full",
}


class WarehouseError(Exception):
    """The warehouse cannot be used (exit code 2). The text gives the reason and the setting to change."""

    exit_code = 2


def quote_identifier(name: str) -> str:
    """Write a name as a Redshift identifier, 1 to 127 bytes long.

    Source: https://docs.aws.amazon.com/redshift/latest/dg/r_names.html

    Raises:
        WarehouseError: the name is not valid in Redshift.
    """
    if not 0 < len(name.encode()) < 128 or "\0" in name:
        raise WarehouseError(
            f"{name!r} is not a valid Redshift identifier; choose a name of 1 to 127 bytes without NUL"
        )
    return '"' + name.replace('"', '""') + '"'


def error_code(error: redshift_connector.Error) -> str:
    """Return the SQLSTATE of an error, or an empty string."""
    fields = error.args[0] if error.args else None
    return fields.get("C", "") if isinstance(fields, dict) else ""


def error_text(error: redshift_connector.Error) -> str:
    """Return the server's message without the other fields of the wire protocol."""
    fields = error.args[0] if error.args else None
    return fields.get("M", str(fields)) if isinstance(fields, dict) else str(error)


def named_warehouse(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether REDSHIFT_* variables name a warehouse."""
    return bool(environment.get("REDSHIFT_HOST"))


def connect(environment: Mapping[str, str] = os.environ) -> redshift_connector.Connection:
    """Connect to the warehouse that REDSHIFT_HOST, _PORT, _USER, _PASSWORD, _DATABASE and _SSLMODE name, as dbt does.

    Raises:
        WarehouseError: a variable is missing or wrong, or the warehouse does not answer.
    """
    if missing := [name for name in ("REDSHIFT_USER", "REDSHIFT_PASSWORD") if not environment.get(name)]:
        raise WarehouseError(
            f"REDSHIFT_HOST is set, but {' and '.join(missing)} is not. Set both, or unset REDSHIFT_HOST"
        )
    host, port = environment["REDSHIFT_HOST"], environment.get("REDSHIFT_PORT") or "5439"
    if not (port.isascii() and port.isdecimal()):
        raise WarehouseError(f"REDSHIFT_PORT={port!r} is not a port. Set it to a number")
    mode = environment.get("REDSHIFT_SSLMODE") or "verify-full"
    if mode not in _MODES:
        raise WarehouseError(f"REDSHIFT_SSLMODE={mode!r} is unknown. Set it to one of {', '.join(_MODES)}")
    try:
        return redshift_connector.connect(
            host=host,
            port=int(port),
            user=environment["REDSHIFT_USER"],
            password=environment["REDSHIFT_PASSWORD"],
            database=environment.get("REDSHIFT_DATABASE") or "dev",
            ssl=mode != "disable",
            sslmode=_MODES[mode] or "verify-ca",
            timeout=30,
        )
    except (redshift_connector.Error, OSError) as error:
        text = error_text(error) if isinstance(error, redshift_connector.Error) else str(error)
        raise WarehouseError(
            f"user {environment['REDSHIFT_USER']} cannot connect to {host}:{port}: {text}. Check REDSHIFT_*"
        ) from None
