"""A task measures the sources before the models. A stale source ends the run only if the pipeline requires it."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TaskInstance, entries, serialized
from cosmos.operators.local import DbtSourceLocalOperator
from test_pipelines import bag

from mwaa_pipelines.compatibility import AirflowException
from mwaa_pipelines.freshness import SOURCES, push_freshness
from mwaa_pipelines.reporting import LOG
from mwaa_pipelines.results import LAST_WORDS_KEY, RESULTS_KEY

TASK = "transform_data.source_freshness"
PARAMETERS = {"start": None, "end": None, "full_refresh": False, "select": []}
STALE = {"unique_id": "source.flights.landing.flights", "status": "error", "max_loaded_at_time_ago_in_s": 90_000}
BROKEN = {
    "unique_id": "source.flights.landing.planes",
    "status": "runtime error",
    "error": "Database Error\n  no table",
}
FRESH = {"unique_id": "source.flights.landing.weather", "status": "pass", "max_loaded_at_time_ago_in_s": 60}


def dag_with(setting: str, folder: Path) -> Any:
    return bag(folder, entries("one", one=f"source_freshness: {setting}")).dags["one"]


def test_no_task_measures_sources_by_default(dag: Any) -> None:
    assert TASK not in dag.task_ids


@pytest.mark.parametrize("setting", ["measure", "require"])
def test_sources_are_measured_before_all_models(tmp_path: Path, setting: str) -> None:
    dag = dag_with(setting, tmp_path)
    task = dag.get_task(TASK)
    assert task.select.split() == [
        f"source:flights.landing.{name}" for name in ("airlines", "airports", "flights", "planes", "weather")
    ]
    assert task.upstream_task_ids == {"audit_dbt_task.audit_table_model_build"}
    later = {name for name in dag.task_ids if name.startswith("transform_data.")} - {TASK}
    assert later <= task.get_flat_relative_ids(upstream=False)
    severity = {"DBT_SOURCE_SEVERITY": "error" if setting == "require" else "warn"}
    assert task.env == {**dag.get_task("transform_data.dbt_producer_watcher").env, **severity}
    serialized(dag)


@pytest.mark.parametrize(("setting", "status"), [("measure", "warn"), ("require", None)])
def test_stale_source_ends_the_run_only_if_required(
    ti: TaskInstance, tmp_path: Path, setting: str, status: str | None
) -> None:
    task = dag_with(setting, tmp_path).get_task(TASK)
    (tmp_path / SOURCES).parent.mkdir()
    content = {"metadata": {"invocation_id": "i", "generated_at": "2026-01-01T00:00:00Z"}}
    (tmp_path / SOURCES).write_text(json.dumps({**content, "results": [STALE, BROKEN, FRESH]}))
    push_freshness(str(tmp_path), {"ti": ti, "task": task})
    results = ti.xcoms["dbt_check", RESULTS_KEY]["results"]
    assert [result["status"] for result in results] == [status or "error", status or "runtime error", "pass"]
    assert [result["message"] for result in results] == [
        "newest row 25.0 hours old",
        "no table",
        "newest row 0.0 hours old",
    ]


@pytest.mark.usefixtures("installed_dbt")
@pytest.mark.parametrize("setting", ["measure", "require"])
def test_failed_dbt_fails_the_task_only_if_required(
    ti: TaskInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(task: Any, context: Any) -> None:
        (tmp_path / SOURCES).parent.mkdir()
        (tmp_path / SOURCES).write_text(json.dumps({"metadata": {}, "results": []}))
        push_freshness(str(tmp_path), context)
        raise AirflowException("dbt command failed")

    monkeypatch.setattr(DbtSourceLocalOperator, "execute", fail)
    task = dag_with(setting, tmp_path).get_task(TASK)
    context = {"ti": ti, "task": task, "params": PARAMETERS}
    if setting == "require":
        with pytest.raises(AirflowException, match="dbt command failed"):
            task.execute(context)
    else:
        task.execute(context)
        assert "built all the same" in caplog.text


@pytest.mark.usefixtures("installed_dbt")
@pytest.mark.parametrize("setting", ["measure", "require"])
def test_dbt_that_measures_nothing_fails_the_task_with_its_error(
    ti: TaskInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    def fail(task: Any, context: Any) -> None:
        (tmp_path / LOG).parent.mkdir()
        (tmp_path / LOG).write_text(json.dumps({"info": {"level": "error", "msg": "password authentication failed"}}))
        push_freshness(str(tmp_path), context)
        raise AirflowException("dbt command failed")

    monkeypatch.setattr(DbtSourceLocalOperator, "execute", fail)
    task = dag_with(setting, tmp_path).get_task(TASK)
    with pytest.raises(AirflowException, match="dbt command failed"):
        task.execute({"ti": ti, "task": task, "params": PARAMETERS})
    assert ti.xcoms["dbt_check", LAST_WORDS_KEY] == "password authentication failed"
