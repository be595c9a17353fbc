"""The audit task runs dbt once per release, weekly, when results are stored, when cleared, and without a table."""

import dataclasses
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redshift_connector
from airflow.exceptions import AirflowException

from mwaa_pipelines.audit_operator import BUILT_KEY
from mwaa_pipelines.profile import RedshiftProfileMapping

AUDIT = "audit_dbt_task.audit_table_model_build"
AUDIT_TABLE = "fqn:audit_trail.audit_table,package:audit_trail,resource_type:model,file:audit_table.sql"
BUILD = ["build", "--select", f"{AUDIT_TABLE} tag:audit_view"]


class Warehouse:
    """A fake connection of redshift_connector, which a test can make fail."""

    error: str | None = None

    def __init__(self) -> None:
        self.login: dict[str, Any] = {}
        self.statements: list[str] = []

    def connect(self, **login: Any) -> "Warehouse":
        self.login = login
        return self

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def cursor(self) -> "Warehouse":
        return self

    def execute(self, statement: str) -> None:
        self.statements.append(statement)
        if self.error:
            raise redshift_connector.ProgrammingError(self.error)


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A warehouse that answers, in place of a network connection."""
    answering = Warehouse()
    monkeypatch.setattr(redshift_connector, "connect", answering.connect)
    return answering


@pytest.fixture
def audit(run: Any, warehouse: Warehouse, tmp_path: Path) -> Any:
    """Runs the audit task of a new DAG run, with a script for dbt; returns whether it started dbt."""

    def audit_run(
        try_number: int = 1, release: str = "", kept_results: tuple[str, ...] = (), has_secret: bool = True
    ) -> bool:
        before = len(run.commands())
        task = run.task(AUDIT, try_number)
        # Each process reads the connection again.
        mapping = task.profile_config.profile_mapping
        mapping = RedshiftProfileMapping(
            mapping.conn_id, mapping.secret_name if has_secret else None, mapping.profile_args
        )
        task.profile_config = dataclasses.replace(task.profile_config, profile_mapping=mapping)
        if release:
            copied = shutil.copytree(task.project_dir, tmp_path / release, dirs_exist_ok=True)
            task.project_dir = str(copied)
        task.execute({**run.context, "kept_results": list(kept_results)})
        return len(run.commands()) > before

    return audit_run


def test_dbt_builds_table_and_views_once_per_release(audit: Any, run: Any) -> None:
    assert [audit(release=release) for release in ("r1", "r1", "r2", "r2", "r1")] == [True, False, True, False, True]
    assert run.commands() == [BUILD] * 3


@pytest.mark.parametrize("error", ['relation "analytics.audit_table" does not exist', "Connection refused"])
def test_dbt_runs_if_the_table_cannot_be_queried(audit: Any, warehouse: Any, caplog: Any, error: str) -> None:
    audit()
    warehouse.error = error
    assert audit()
    assert f"so dbt runs and reports why: {error}" in caplog.text
    warehouse.error = None
    assert not audit()


@pytest.mark.parametrize(
    ("sslmode", "tls"),
    [("disable", (False, "verify-ca")), ("prefer", (True, "verify-ca")), ("verify-full", (True, "verify-full"))],
)
def test_query_uses_the_login_of_dbt(audit: Any, warehouse: Any, monkeypatch: Any, sslmode: str, tls: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", f"redshift://cluster.example/other?sslmode={sslmode}")
    assert [audit(), audit()] == [True, False]
    login = warehouse.login
    assert (login["host"], login["port"], login["database"]) == ("cluster.example", 5439, "dev")
    assert (login["user"], login["password"]) == ("dbt_user", "Pa55-one")
    assert (login["ssl"], login["sslmode"]) == tls
    assert warehouse.statements == ['select 1 from "analytics"."audit_table" limit 0']


def test_dbt_always_runs_with_temporary_credentials(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = "iam=true&cluster_identifier=cluster&region=us-east-1"
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", f"redshift://dbt_user@cluster.example:5439/dev?{extra}")
    assert [audit(has_secret=False), audit(has_secret=False)] == [True, True]


@pytest.mark.parametrize(("days", "runs_dbt"), [(6.9, False), (7.1, True)])
def test_old_rows_are_deleted_at_least_weekly(audit: Any, run: Any, days: float, runs_dbt: bool) -> None:
    audit()
    run.ti.pushed[AUDIT, BUILT_KEY][0]["at"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    assert audit() is runs_dbt


def test_stored_results_are_written_by_dbt(audit: Any) -> None:
    assert [audit(), audit(kept_results=("kept/a.json",)), audit()] == [True, True, False]


def test_clearing_the_task_repairs_dropped_views(audit: Any) -> None:
    assert [audit(), audit(try_number=2)] == [True, True]


def test_failed_build_is_repeated(audit: Any, run: Any) -> None:
    run.dbt(code=1, status="error")
    for _ in range(2):
        with pytest.raises(AirflowException, match="non-zero exit code 1"):
            audit()
    run.dbt(code=0)
    assert [audit(), audit()] == [True, False]


def test_log_names_the_release_that_built_the_table(audit: Any, caplog: pytest.LogCaptureFixture) -> None:
    audit(release="r1")
    audit(release="r1")
    assert "the audit table can be queried, release r1 built it and its views at 20" in caplog.text
    assert "Clear this task to build them again" in caplog.text
