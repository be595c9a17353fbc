"""Prepares Airflow's metadata database.

Migrations take seconds, so they run once for each image. Other new databases get a dump of the result. The dump lies
in the image's virtual environment, which several checkouts can share, and is deleted with it.
"""

import fcntl
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg

from redshift_local.server.postgres import BINARIES, OWNER, PORT, Postgres

DATABASE = "airflow"


def prepare_metadata(server: Postgres, dump: Path, migrate: Callable[[], None]) -> None:
    """Create the database if it is missing, and migrate it to the image's version of Airflow.

    Args:
        server: a running server.
        dump: file with a dump of a new database after its migration; written if it is missing.
        migrate: migrates the database by Airflow.
    """
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone():
            connection.execute(f"create database {DATABASE}")
    with psycopg.connect(server.conninfo(DATABASE)) as connection:
        has_tables = connection.execute("select 1 from pg_tables where schemaname = 'public'").fetchone()
    if has_tables:
        migrate()
        return
    with dump.with_suffix(".lock").open("w") as lock:
        # Of several checkouts, the first one migrates, and the others wait for its dump.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _load(server, dump):
            migrate()
            _save(server, dump)


def _load(server: Postgres, dump: Path) -> bool:
    """Load the dump, and return whether it could be loaded. The database stays empty otherwise."""
    if not dump.is_file():
        return False
    options = ("--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1")
    return _run(server, "psql", *options, f"--file={dump}").returncode == 0


def _save(server: Postgres, dump: Path) -> None:
    partial = dump.with_suffix(".partial")
    # Airflow logs its own commands in the table log.
    saved = _run(server, "pg_dump", "--no-owner", "--exclude-table-data=log", f"--file={partial}")
    # Without a dump, the next database is migrated, too.
    if saved.returncode == 0:
        partial.replace(dump)


def _run(server: Postgres, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    place = [f"--host={server.socket_folder}", f"--port={PORT}", f"--username={OWNER}", f"--dbname={DATABASE}"]
    command = [BINARIES / program, *place, *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
