"""The task load_sources: which files it asks for, and what it reports."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redshift_connector
from conftest import TaskInstance, entries, serialized
from test_pipelines import bag

from mwaa_pipelines import load_files, load_operator
from mwaa_pipelines.compatibility import AirflowException, AirflowFailException
from mwaa_pipelines.load_files import LoadOutcome
from mwaa_pipelines.profile import RedshiftProfileMapping
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.run_outcome import nodes_to_report
from mwaa_pipelines.settings import PipelineError

TASK = "load_sources.copy_files"
LOAD = """copy_role: arn:aws:iam::123456789012:role/copy
    load:
      - {table: landing.orders, prefix: orders/, format: csv, bucket: shop-landing}
      - {table: landing.visits, prefix: visits/, format: json}"""
PARAMS = {"start": None, "end": None, "full_refresh": False, "select": [], "files": []}


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__DBT__LANDING_BUCKET", "landing")
    return bag(tmp_path, entries("one", one=LOAD)).dags["one"].get_task(TASK)


class Warehouse:
    """A fake connection, and a loader that records its calls and answers with `problems` by table."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.problems: dict[str, tuple[str, ...]] = {}
        self.audit_rows: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self._usock = SimpleNamespace(settimeout=lambda _: None)

    def close(self) -> None:
        self.calls.append(("closed",))

    def rollback(self) -> None:
        pass

    def loader(self, connection: Any, _s3: Any, *arguments: str) -> Any:
        assert connection is self
        self.calls.append(arguments)
        return SimpleNamespace(load=self.load)

    def load(self, table: Any, bucket: str, only: set[str]) -> LoadOutcome:
        self.calls.append((table.table, bucket, sorted(only)))
        time = datetime(2026, 1, 1, tzinfo=UTC)
        return LoadOutcome(table.table, 2, 30, 400, self.problems.get(table.table, ()), time, time)

    def write(self, connection: Any, schema: str, run: Any, results: Any) -> None:
        if self.error:
            raise self.error
        self.audit_rows += [{"schema": schema, **run, **result} for result in results]


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    fake = Warehouse()
    monkeypatch.setattr(RedshiftProfileMapping, "connect", lambda _: fake)
    monkeypatch.setattr(load_files, "Loader", fake.loader)
    monkeypatch.setattr(load_operator, "write_audit_rows", fake.write)
    return fake


def context(ti: TaskInstance, **params: Any) -> dict[str, Any]:
    ti.task_id = TASK
    dag_run = SimpleNamespace(run_id="run", logical_date=None)
    return {"ti": ti, "dag_run": dag_run, "params": {**PARAMS, **params}}


def test_load_comes_before_audit_and_models(task: Any, tmp_path: Path) -> None:
    dag = task.dag
    assert task.upstream_task_ids == set()
    assert task.downstream_task_ids == {"audit_dbt_task.audit_table_model_build"}
    assert TASK in dag.get_task("dbt_check").get_flat_relative_ids(upstream=True)
    assert "`landing.orders`, `landing.visits`" in dag.doc_md
    serialized(dag)
    without = bag(tmp_path, entries("one")).dags["one"]
    assert not [task_id for task_id in without.task_ids if task_id.startswith("load")]


def test_all_new_files_of_all_tables_are_loaded(task: Any, ti: TaskInstance, warehouse: Warehouse) -> None:
    task.execute(context(ti))
    assert warehouse.calls == [
        ("analytics", "arn:aws:iam::123456789012:role/copy", "flights_pipeline", "run"),
        ("landing.orders", "shop-landing", []),
        ("landing.visits", "landing", []),
        ("closed",),
    ]
    orders, _ = ti.xcoms[TASK, RESULTS_KEY]["results"]
    assert orders == {
        "unique_id": "load.flights.landing.orders",
        "status": "success",
        "execution_time": 0.0,
        "message": "2 files loaded",
        "rows": 30,
    }
    assert [row["adapter_response"]["bytes_loaded"] for row in warehouse.audit_rows] == [400, 400]
    assert {row["schema"] for row in warehouse.audit_rows} == {"analytics"}
    assert {row["invocation_id"] for row in warehouse.audit_rows} == {ti.xcoms[TASK, RESULTS_KEY]["invocation_id"]}


def test_run_for_a_file_loads_only_this_file(task: Any, ti: TaskInstance, warehouse: Warehouse) -> None:
    files = ["s3://shop-landing/orders/1.csv", "s3://elsewhere/orders/2.csv"]
    task.execute(context(ti, files=files))
    assert [call for call in warehouse.calls if "landing" in call[0]] == [("landing.orders", "shop-landing", files[:1])]


def test_marker_file_starts_a_load_of_all_files(task: Any, ti: TaskInstance, warehouse: Warehouse) -> None:
    task.execute(context(ti, files=["s3://shop-landing/orders/_SUCCESS"]))
    assert [call[2] for call in warehouse.calls if "landing" in call[0]] == [[], []]


def test_broken_files_fail_the_task_and_are_reported(task: Any, ti: TaskInstance, warehouse: Warehouse) -> None:
    warehouse.problems["landing.visits"] = (
        "s3://landing/visits/1: line 2: wrong",
        "s3://landing/visits/2: line 3: wrong",
    )
    with pytest.raises(AirflowFailException) as raised:
        task.execute(context(ti))
    assert str(raised.value).splitlines() == [
        "2 files were not loaded: s3://landing/visits/1: line 2: wrong",
        "s3://landing/visits/2: line 3: wrong",
    ]
    assert [row["status"] for row in warehouse.audit_rows] == ["success", "partial success"]
    failed, *_ = nodes_to_report(ti, {TASK: task}, {TASK: "failed"})
    assert [(node["unique_id"], node["status"]) for node in failed] == [
        ("load.flights.landing.visits", "partial success")
    ]
    assert failed[0]["message"].startswith("s3://landing/visits/1: line 2: wrong (2 not loaded, 2 files loaded)")


def test_results_wait_in_s3_until_there_is_an_audit_table(
    task: Any, ti: TaskInstance, warehouse: Warehouse, bucket: Any
) -> None:
    warehouse.error = redshift_connector.ProgrammingError({"M": 'relation "audit_table" does not exist', "C": "42P01"})
    task.execute(context(ti))
    (stored,) = bucket.objects.all()
    content = json.loads(stored.get()["Body"].read())
    assert [result["unique_id"] for result in content["results"]] == [
        "load.flights.landing.orders",
        "load.flights.landing.visits",
    ]
    assert content["run"]["airflow_task_id"] == TASK


def test_failed_warehouse_is_named_and_retried(
    task: Any, ti: TaskInstance, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise redshift_connector.InterfaceError("connection closed")

    monkeypatch.setattr(warehouse, "load", refuse)
    with pytest.raises(AirflowException, match="the files could not be loaded: connection closed") as raised:
        task.execute(context(ti))
    assert not isinstance(raised.value, AirflowFailException)
    assert warehouse.calls[-1] == ("closed",)


def test_missing_landing_bucket_names_the_option(
    task: Any, ti: TaskInstance, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__DBT__LANDING_BUCKET")
    with pytest.raises(PipelineError, match=r"load: landing.visits names no bucket, and .* dbt.landing_bucket"):
        task.execute(context(ti))


def test_wrong_run_parameters_fail_before_anything_is_loaded(task: Any, ti: TaskInstance, warehouse: Warehouse) -> None:
    with pytest.raises(AirflowFailException, match="go together"):
        task.execute(context(ti, start="2026-01-01"))
    assert warehouse.calls == []


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"cluster_identifier": "c"}, {"cluster_identifier": "c", "db_user": "dbt_user", "is_serverless": False}),
        (
            {"is_serverless": True, "serverless_work_group": "w"},
            {"serverless_work_group": "w", "db_user": "dbt_user", "is_serverless": True},
        ),
    ],
)
def test_load_logs_in_with_temporary_credentials_like_dbt(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], expected: dict[str, Any]
) -> None:
    content = {"conn_type": "redshift", "host": "cluster.example", "schema": "dev", "login": "dbt_user"}
    content["extra"] = json.dumps({"iam": True, "region": "eu-west-1", **extra})
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", json.dumps(content))
    logins: list[dict[str, Any]] = []
    monkeypatch.setattr(redshift_connector, "connect", lambda **login: logins.append(login))
    RedshiftProfileMapping("flights_redshift", None, {"dbname": "dev", "schema": "analytics"}).connect()
    (login,) = logins
    common = {"iam": True, "host": "cluster.example", "database": "dev", "region": "eu-west-1", "profile": None}
    assert {name: login.get(name) for name in common | expected} == common | expected
