"""Connect a command on models to the running local warehouse, or start one for the duration of the command."""

import contextlib
from collections.abc import Iterator
from multiprocessing import resource_tracker

import redshift_connector

from mwaa_local.settings import Passwords, Settings, SetupError
from mwaa_local.stack import Stack, connect, rows
from mwaa_release.progress import Steps
from mwaa_release.redshift import quote_identifier


@contextlib.contextmanager
def warehouse(settings: Settings) -> Iterator[redshift_connector.Connection]:
    """Yield a connection of dbt_user, in autocommit, to a warehouse with the sample sources.

    Raises:
        SetupError: the warehouse did not start.
    """
    with contextlib.ExitStack() as cleanup:
        connection = _running(settings)
        if connection is None:
            # dbt's locks need the resource tracker until the end, so start it before the stand-ins that are stopped.
            resource_tracker.ensure_running()
            stack = Stack(settings)
            cleanup.callback(stack.stop)
            stack.take_lock()
            with Steps() as steps:
                stack.start_for_models(steps)
            connection = connect(settings, "dbt_user", Passwords.load(settings.state).dbt_user)
        cleanup.enter_context(contextlib.closing(connection))
        connection.autocommit = True
        yield connection


def make_schema(settings: Settings, name: str) -> None:
    """Create a schema owned by dbt_user, which cannot create schemas itself."""
    with contextlib.closing(connect(settings, "awsuser", Passwords.load(settings.state).awsuser)) as connection:
        connection.autocommit = True
        rows(connection, f"create schema if not exists {quote_identifier(name)} authorization dbt_user")


def drop_schemas(settings: Settings, prefix: str, but: str) -> None:
    """Drop the schemas whose name starts with `prefix`, except for one."""
    with contextlib.closing(connect(settings, "awsuser", Passwords.load(settings.state).awsuser)) as connection:
        connection.autocommit = True
        for (name,) in rows(connection, "select nspname from pg_namespace")[1]:
            if name.startswith(prefix) and name != but:
                rows(connection, f"drop schema {quote_identifier(name)} cascade")


def _running(settings: Settings) -> redshift_connector.Connection | None:
    try:
        return connect(settings, "dbt_user", Passwords.load(settings.state).dbt_user)
    except (SetupError, redshift_connector.Error, redshift_connector.InterfaceError, OSError):
        return None
