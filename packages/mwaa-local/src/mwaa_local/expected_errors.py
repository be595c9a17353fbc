"""Errors of the environment of a command, such as a full disk or a warehouse that stopped, and their messages."""

import errno

from mwaa_local.settings import SetupError


def expected_errors() -> tuple[type[Exception], ...]:
    """Expected environment errors. Their imports are slow, so this is called only after an error."""
    import httpx
    import psycopg
    import redshift_connector
    from botocore.exceptions import BotoCoreError, ClientError

    from audit_report.redshift import WarehouseError
    from mwaa_release.errors import DeployError

    drivers = (psycopg.Error, redshift_connector.Error, redshift_connector.InterfaceError)
    return (SetupError, DeployError, WarehouseError, BotoCoreError, ClientError, httpx.HTTPError, OSError, *drivers)


def error_words(error: Exception) -> str:
    """Return the message of an expected error: what failed, without details of Python."""
    from mwaa_release.redshift import error_text

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full{f': {error.filename}' if error.filename else ''}. Free some space, and try again"
    text = error_text(error) if error.args and isinstance(error.args[0], dict) else str(error)
    return text or type(error).__name__
