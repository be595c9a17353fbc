"""Run the SQL files of `infra/redshift/` on Redshift. psql can run the same files with the same variables.

Variables are written `:'name'` (a string) or `:"name"` (an identifier).
"""

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import redshift_connector
import sqlparse

from audit_report.redshift import error_code, error_text, quote_identifier
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.repository import REPOSITORY

INFRASTRUCTURE = REPOSITORY / "infra" / "redshift"

_VARIABLE = re.compile(r""":(?:'(?P<literal>\w+)'|"(?P<identifier>\w+)")""")
_QUOTED = re.compile(r"""('(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*")""", re.DOTALL)
_ALREADY_EXISTS = "42710"
_RESERVED_SCHEMAS = {"public", "information_schema", "pg_catalog"}


def quote_literal(value: str) -> str:
    """Quote a value as a Redshift string. Redshift treats a backslash as an escape character.

    Raises:
        SetupError: the value contains a NUL character.
    """
    if "\0" in value:
        raise SetupError(f"{value!r} contains a NUL character, which Redshift cannot store; remove it")
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def statements(path: Path, values: dict[str, str]) -> list[str]:
    """Return the statements of a SQL file with its variables replaced.

    The file is split into statements first, so no value can end a statement.

    Args:
        path: the SQL file.
        values: by name; any text, which is quoted.

    Raises:
        SetupError: a variable of the file has no value.
    """

    def fill(match: re.Match[str]) -> str:
        for kind, quote in (("literal", quote_literal), ("identifier", quote_identifier)):
            name = match[kind]
            if name is not None:
                if name not in values:
                    raise SetupError(f"{path.name} needs the variable {name}, which has no value")
                return quote(values[name])
        raise AssertionError(match)

    def fill_statement(statement: str) -> str:
        # Strings and quoted identifiers match, too, so a variable inside of one is text.
        position, done = 0, []
        for match in re.finditer(f"{_VARIABLE.pattern}|{_QUOTED.pattern}|::", statement, re.DOTALL):
            done.append(statement[position : match.start()])
            done.append(fill(match) if match.lastgroup else match[0])
            position = match.end()
        return "".join([*done, statement[position:]])

    text = sqlparse.format(path.read_text(encoding="utf-8"), strip_comments=True)
    return [fill_statement(part.rstrip().removesuffix(";")) for part in sqlparse.split(text) if part.strip(" \n;")]


def run_file(connection: redshift_connector.Connection, path: Path, values: dict[str, str]) -> None:
    """Run the statements of a SQL file on `connection`, without starting or ending a transaction.

    "Already exists" is not an error for `create user` and `create group`, which have no `if not exists`.

    Raises:
        DeployError: Redshift refused a statement; the message has the file and the statement, without values.
        SetupError: a variable has no value.
    """
    with connection.cursor() as cursor:
        # The default style treats every % outside of a string as a parameter.
        cursor.paramstyle = "qmark"
        for statement in statements(path, values):
            try:
                cursor.execute(statement)
            except redshift_connector.Error as error:
                head = " ".join(statement.lower().split()[:2])
                if head in ("create user", "create group") and error_code(error) == _ALREADY_EXISTS:
                    continue
                redacted = _QUOTED.sub(lambda match: "'…'" if match[0][0] == "'" else match[0], statement)
                raise DeployError(
                    f"{path.name}: Redshift refused: {error_text(error)} ({error_code(error) or 'no SQLSTATE'})\n"
                    f"  in: {' '.join(redacted.split())[:300]}"
                ) from error


def password_hash(password: str, salt: str | None = None) -> str:
    """Return a password in the form that Redshift stores: `sha256|<hex digest of password and salt>|<salt>`.

    Source: https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html
    """
    salt = salt or secrets.token_hex(16)
    return f"sha256|{hashlib.sha256((password + salt).encode()).hexdigest()}|{salt}"


def consumers(schema: str) -> str:
    """Return the group that can read the public models of a schema."""
    return f"{schema}_consumers"


def _value(connection: redshift_connector.Connection, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def apply_grants(
    connection: redshift_connector.Connection,
    dbt_user: str,
    dbt_password: str,
    source_schema: str | list[str] = "landing",
    target_schema: str = "analytics",
    *,
    readers: str | None = None,
    public_schemas: Sequence[str] = (),
    loading_user: str | None = None,
    close_public: bool = True,
    loaded_tables: Collection[str] = (),
) -> None:
    """Create or update the database user of a pipeline. A second call changes only the password.

    The user can read the tables of the source schemas, including tables that `loading_user` creates later, and the
    public models of other pipelines. It owns `target_schema`, can create temporary tables, and can do nothing else.
    Missing schemas are created.

    Args:
        connection: a superuser's connection to the database in which the pipeline builds. Autocommit is on meanwhile.
        dbt_user: name of the user.
        dbt_password: clear text; only its salted hash is sent.
        source_schema: schemas to read.
        target_schema: schema to build in; the user becomes its owner.
        readers: group that holds the grants; default `<dbt_user>_readers`.
        public_schemas: schemas of other pipelines. The user can read their public models.
        loading_user: user that creates the tables in the source schemas; default: the connection's user.
        close_public: revoke `create` on schema public from all users of the database.
        loaded_tables: source tables, such as landing.orders, that the user can also insert rows into.

    Raises:
        SetupError: a setting is not allowed.
        DeployError: Redshift refused a statement.
    """
    sources = [source_schema] if isinstance(source_schema, str) else source_schema
    if target_schema.lower() in {*_RESERVED_SCHEMAS, *(name.lower() for name in sources)}:
        raise SetupError(
            f"{dbt_user} cannot become the owner of schema {target_schema!r}, which others use; "
            "choose a target schema that only dbt writes to"
        )
    if not dbt_password:
        raise SetupError(f"the password of {dbt_user} is empty; set it in the secret")
    before = connection.autocommit
    # In a transaction, the first "already exists" would roll back the rest.
    connection.autocommit = True
    try:
        values = {
            "dbt_user": dbt_user,
            "dbt_password": password_hash(dbt_password),
            "readers": readers or f"{dbt_user}_readers",
            "consumers": consumers(target_schema),
            "target_schema": target_schema,
            "database": _value(connection, "select current_database()"),
            "loading_user": loading_user or _value(connection, "select current_user"),
        }
        run_file(connection, INFRASTRUCTURE / "dbt_user.sql", values)
        for schema in sources:
            run_file(connection, INFRASTRUCTURE / "source_schema.sql", {**values, "source_schema": schema})
        for schema in public_schemas:
            run_file(connection, INFRASTRUCTURE / "consumer.sql", {**values, "consumers": consumers(schema)})
        for schema, _, table in (name.partition(".") for name in loaded_tables):
            run_file(
                connection,
                INFRASTRUCTURE / "loaded_table.sql",
                {**values, "source_schema": schema, "source_table": table},
            )
        if close_public:
            run_file(connection, INFRASTRUCTURE / "public_schema.sql", values)
    finally:
        connection.autocommit = before
