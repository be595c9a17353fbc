"""Airflow's metadata database is migrated once, and later databases are copies."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from mwaa_local.mwaa.metadata import DATABASE, prepare_metadata
from redshift_local.server.postgres import Postgres


class Checkout:
    """A server, and the tables that its database had before each migration."""

    def __init__(self, folder: Path) -> None:
        self.server = Postgres(folder)
        self.server.start()
        self.migrations: list[list[str]] = []

    def migrate(self) -> None:
        query = "select tablename from pg_tables where schemaname = 'public' order by 1"
        self.migrations.append([name for (name,) in self.execute(query)])
        self.execute(
            "create table if not exists alembic_version (version text primary key);"
            "create table if not exists log (id serial, command text);"
            "insert into alembic_version values ('one') on conflict do nothing;"
            "insert into log (command) values ('airflow db migrate')"
        )

    def execute(self, statement: str) -> list[tuple[str, ...]]:
        with psycopg.connect(self.server.conninfo(DATABASE), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def prepare(self, dump: Path) -> None:
        prepare_metadata(self.server, dump, self.migrate)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Checkout]]:
    checkouts = []

    def start(name: str) -> Checkout:
        checkouts.append(Checkout(tmp_path / name))
        return checkouts[-1]

    yield start
    for checkout in checkouts:
        checkout.server.stop()


def test_second_checkout_gets_the_migrated_database(start: Callable[[str], Checkout], tmp_path: Path) -> None:
    dump, first, second = tmp_path / "metadata.sql", start("first"), start("second")
    first.prepare(dump)
    second.prepare(dump)
    assert (first.migrations, second.migrations) == ([[]], [])
    assert second.execute("select version from alembic_version") == [("one",)]
    assert second.execute("select command from log") == []
    # Another version of Airflow migrates a database with data, which does not change the dump.
    before = dump.read_text()
    second.execute("insert into log (command) values ('secret')")
    second.prepare(dump)
    assert (second.migrations, dump.read_text()) == ([["alembic_version", "log"]], before)


def test_damaged_dump_is_replaced(start: Callable[[str], Checkout], tmp_path: Path) -> None:
    dump, first, second = tmp_path / "metadata.sql", start("first"), start("second")
    first.prepare(dump)
    with dump.open("a") as file:
        file.write("nonsense;\n")
    second.prepare(dump)
    assert second.migrations == [[]]
    assert second.execute("select version from alembic_version") == [("one",)]
    assert "nonsense" not in dump.read_text()
    assert {path.name for path in tmp_path.glob("metadata.*")} == {"metadata.sql", "metadata.lock"}
