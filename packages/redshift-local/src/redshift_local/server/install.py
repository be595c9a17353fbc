"""Sets up a PostgreSQL server like a new cluster: the database, its admin, Redshift's functions."""

import hashlib
from pathlib import Path

import psycopg
from psycopg import sql

from redshift_local.protocol.login import verifier
from redshift_local.server.postgres import Postgres
from redshift_local.settings import SetupError

_SCRIPTS = sorted((Path(__file__).parents[1] / "sql").glob("*.sql"))


def install(postgres: Postgres, database: str, admin: str, password: str) -> None:
    """Create the database and its admin if absent, set the admin's password, update every database."""
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (admin,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(admin)))
        # New databases are copies of template1.
        _bring_up_to_date(postgres, "template1")
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")]
        if database not in names:
            create = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(create.format(sql.Identifier(database), sql.Identifier(admin)))
        for name in names:
            _bring_up_to_date(postgres, name)
        connection.execute("SET allow_system_table_mods = on")
        connection.execute("UPDATE pg_authid SET rolpassword = %s WHERE rolname = %s", (verifier(password), admin))


def _bring_up_to_date(postgres: Postgres, database: str) -> None:
    """Run the scripts of `sql/` in a database, unless a comment records that it has this version."""
    script = "\n".join(path.read_text() for path in _SCRIPTS)
    version = hashlib.sha256(script.encode()).hexdigest()
    with psycopg.connect(postgres.conninfo(database)) as connection:
        schema = connection.execute("SELECT obj_description(to_regnamespace('pg_redshift'), 'pg_namespace')").fetchone()
        if schema and schema[0] == version:
            return
        connection.execute("SET LOCAL allow_system_table_mods = on")
        try:
            connection.execute(script)
        except psycopg.Error as problem:
            raise SetupError(
                f"the warehouse in {postgres.folder} was created by another version and cannot be"
                f" updated ({str(problem).splitlines()[0]}). Delete that folder and load the data again"
            ) from problem
        connection.execute(sql.SQL("COMMENT ON SCHEMA pg_redshift IS {}").format(sql.Literal(version)))
