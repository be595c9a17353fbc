"""`make report`: writes the audit report of a warehouse into a file."""

import contextlib
import datetime
import os
from pathlib import Path

import redshift_connector

from audit_report import source
from audit_report.page import render
from audit_report.redshift import connect as connect_to_named
from audit_report.redshift import named_warehouse
from mwaa_local.settings import Passwords, Settings, SetupError
from mwaa_local.stack import DATABASE, connect
from mwaa_release.pipelines import first_pipeline
from mwaa_release.redshift import error_text
from mwaa_release.repository import github_address


def write(settings: Settings, path: Path, days: int) -> Path:
    """Write the report of the last `days` days, and return its path.

    Raises:
        SetupError: no warehouse answers, or the file cannot be written (either module's, by that name).
    """
    if named_warehouse():
        database = os.environ.get("REDSHIFT_DATABASE") or DATABASE
        schema = os.environ.get("REDSHIFT_SCHEMA") or first_pipeline().target_schema
        connection = connect_to_named()
    else:
        database, schema, connection = DATABASE, first_pipeline().target_schema, _connect(settings)
    with contextlib.closing(connection):
        history = source.read(connection, schema, days)
    made_at = datetime.datetime.now(datetime.UTC)
    page = render(history, f"{database}.{schema}", days, made_at, github_address())
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Replace the file at once, so that readers never see an incomplete report.
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise SetupError(f"{path} cannot be written ({error.strerror}); name another with --output") from None
    return path


def _connect(settings: Settings) -> redshift_connector.Connection:
    try:
        passwords = Passwords.load(settings.state)
    except SetupError as error:
        raise SetupError(f"{error}; or name a warehouse with REDSHIFT_HOST, _USER and _PASSWORD") from None
    try:
        return connect(settings, "dbt_user", passwords.dbt_user)
    except redshift_connector.Error as error:
        raise SetupError(
            f"the warehouse does not answer ({error_text(error)}); start it with make up, or set REDSHIFT_HOST"
        ) from None
