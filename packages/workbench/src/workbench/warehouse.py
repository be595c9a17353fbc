"""Connect a command on models to the running local warehouse, or start one for the duration of the command."""

import contextlib
from collections.abc import Collection, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import redshift_connector
import yaml

from mwaa_local.settings import HOST, Passwords, Settings, SetupError
from mwaa_local.stack import DATABASE, Stack, connect, rows
from mwaa_release.progress import Steps
from mwaa_release.redshift import quote_identifier
from workbench.choose_project import valid_settings

# dbt parses a project again if another variable of its profile changes, and each start has a new password.
_PASSWORD = "DBT_ENV_SECRET_PASSWORD"  # noqa: S105 - the variable's name


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


def make_schemas(
    settings: Settings, names: Collection[str], sources: Collection[str] = (), user: str = "dbt_user"
) -> None:
    """Create schemas owned by a pipeline's user, which cannot create schemas itself.

    Args:
        settings: where the warehouse is.
        names: of the schemas. Those that exist do not change.
        sources: schemas that the user gets to read, if they exist.
        user: the owner.
    """
    owner = quote_identifier(user)
    with superuser(settings) as connection:
        existing = {name for (name,) in rows(connection, "select nspname from pg_namespace")[1]}
        for name in names:
            rows(connection, f"create schema if not exists {quote_identifier(name)} authorization {owner}")
        for schema in (quote_identifier(name) for name in sources if name in existing):
            rows(connection, f"grant usage on schema {schema} to {owner}")
            rows(connection, f"grant select on all tables in schema {schema} to {owner}")


def drop_schemas(settings: Settings, prefix: str, but: str) -> None:
    """Drop the schemas whose name starts with `prefix`, except for those that start with `but`, if it is not empty."""
    with superuser(settings) as connection:
        for (name,) in rows(connection, "select nspname from pg_namespace")[1]:
            if name.startswith(prefix) and not (but and name.startswith(but)):
                rows(connection, f"drop schema {quote_identifier(name)} cascade")


def write_profile(
    project: Path, folder: Path, settings: Settings, target: str, schema: str, user: str = "dbt_user"
) -> None:
    """Write a profiles.yml that connects a dbt project to the local warehouse. `dbt_variables` has its password.

    Args:
        project: the dbt project. Its own profiles.yml is for production, and not read.
        folder: for the file.
        settings: where the warehouse is.
        target: name of the target.
        schema: the target schema.
        user: database user of a pipeline.
    """
    profile = valid_settings(project).get("profile") or project.name
    output = {
        "type": "redshift",
        "host": HOST,
        "port": settings.warehouse_port,
        "user": user,
        "password": f"{{{{ env_var('{_PASSWORD}') }}}}",
        "dbname": DATABASE,
        "schema": schema,
        "sslmode": "disable",
        "threads": 4,
        "connect_timeout": 30,
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_dump({profile: {"target": target, "outputs": {target: output}}}, sort_keys=False)
    (folder / "profiles.yml").write_text(content)


def dbt_variables(settings: Settings) -> dict[str, str]:
    """Return the environment variables that the profiles of `write_profile` need."""
    return {_PASSWORD: Passwords.load(settings.state).dbt_user}


@contextlib.contextmanager
def superuser(settings: Settings) -> Iterator[redshift_connector.Connection]:
    """Yield a superuser's connection to the running warehouse, in autocommit."""
    with contextlib.closing(connect(settings, "awsuser", Passwords.load(settings.state).awsuser)) as connection:
        connection.autocommit = True
        yield connection


def _running(settings: Settings) -> redshift_connector.Connection | None:
    try:
        return connect(settings, "dbt_user", Passwords.load(settings.state).dbt_user)
    except (SetupError, redshift_connector.Error, redshift_connector.InterfaceError, OSError):
        return None
