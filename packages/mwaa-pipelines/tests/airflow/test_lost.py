"""If a worker dies with its dbt process, the results are taken from the sensors' states and stored."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TaskInstance

from mwaa_pipelines.lost_worker import MESSAGE, lost_results, store_lost_results
from mwaa_pipelines.node_outcomes import xcom_key
from mwaa_pipelines.results import LAST_WORDS_KEY, RESULTS_KEY
from mwaa_pipelines.unwritten_rows import KEPT_RESULTS, SAFE_KEY

PRODUCER = "transform_data.dbt_producer_watcher"
DEPARTURES = "model.flights.departures"


@pytest.fixture
def tasks(dag: Any) -> dict[str, Any]:
    return {task.task_id: task for task in dag.tasks if "." in task.task_id}


@pytest.fixture
def states(tasks: dict[str, Any]) -> dict[str, str]:
    """The worker died after `departures` was built. All other tasks failed."""
    return {**dict.fromkeys(tasks, "failed"), **dict.fromkeys(("transform_data.departures.run",), "success")}


def passed(ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str]) -> dict[str, str]:
    return {
        node_result["unique_id"]: node_result["status"]
        for node_result in lost_results(context(ti), tasks[PRODUCER], tasks, states)
    }


# Airflow retries the producer if its scheduler died. Cosmos skips that second try.
@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_model_that_passed_before_the_worker_died_has_a_result(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str], state: str
) -> None:
    states[PRODUCER] = state
    assert passed(ti, tasks, states) == {DEPARTURES: "success"}


def test_passed_tests_have_results_unless_another_task_ran_them(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str]
) -> None:
    one, *others = tasks[PRODUCER].tests_per_model[DEPARTURES]
    for task_id in (task_id for task_id in tasks if task_id.endswith(".test")):
        states[task_id] = "success"
        ti.xcoms[task_id, RESULTS_KEY] = {"results": []}
    del ti.xcoms["transform_data.departures.test", RESULTS_KEY]
    ti.xcoms["transform_data.airports.test", RESULTS_KEY] = {"results": [{"unique_id": one}]}
    assert passed(ti, tasks, states) == {DEPARTURES: "success", **dict.fromkeys(others, "pass")}


def test_model_built_by_its_own_task_gets_no_second_result(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str]
) -> None:
    ti.xcoms["transform_data.departures.run", RESULTS_KEY] = {"results": [{"unique_id": DEPARTURES}]}
    assert passed(ti, tasks, states) == {}


def test_shared_test_counts_only_if_all_its_tasks_succeeded(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str]
) -> None:
    """The other model's test task can succeed without running the shared test."""
    tests = tasks[PRODUCER].tests_per_model
    elsewhere = {test for model, of_model in tests.items() if model != DEPARTURES for test in of_model}
    own = set(tests[DEPARTURES]) - elsewhere
    assert own < set(tests[DEPARTURES])
    states["transform_data.departures.test"] = "success"
    assert passed(ti, tasks, states) == {DEPARTURES: "success", **dict.fromkeys(own, "pass")}


def test_safe_results_are_not_stored_again(ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str]) -> None:
    for key in (RESULTS_KEY, LAST_WORDS_KEY):
        ti.xcoms[PRODUCER, key] = ""
    assert passed(ti, tasks, states) == {DEPARTURES: "success"}
    for safe in ([DEPARTURES], None):
        ti.xcoms[PRODUCER, SAFE_KEY] = {"unique_ids": safe}
        assert passed(ti, tasks, states) == {}


def test_run_with_a_selection_has_only_results_that_dbt_reported(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str]
) -> None:
    """The tasks of deselected nodes succeed, too."""
    selective = context(ti, select=["departures"])
    states["transform_data.airports.run"] = "success"
    assert lost_results(selective, tasks[PRODUCER], tasks, states) == []
    ti.xcoms[PRODUCER, xcom_key(0)] = {DEPARTURES: {"status": "success", "lines": []}}
    (result,) = lost_results(selective, tasks[PRODUCER], tasks, states)
    assert result["unique_id"] == DEPARTURES


def context(ti: TaskInstance, **params: Any) -> dict[str, Any]:
    logical_date = datetime.fromisoformat("2026-01-01T08:00:00+02:00")
    return {"ti": ti, "dag_run": SimpleNamespace(run_id="run", logical_date=logical_date), "params": params}


def test_lost_results_are_stored_once_for_the_next_run(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str], bucket: Any
) -> None:
    for _ in range(2):
        store_lost_results(context(ti), "20260101T000000Z-aaaaaaa", tasks, states)
    (stored_object,) = bucket.objects.all()
    chunk = json.loads(stored_object.get()["Body"].read())
    run = chunk["run"]
    assert stored_object.key == f"kept_results/flights_pipeline/{run['invocation_id']}.0000.json"
    assert run["invocation_id"].startswith("lost-")
    assert (run["airflow_run_id"], run["airflow_task_id"], run["airflow_try_number"]) == ("run", PRODUCER, "1")
    assert (run["release_id"], run["code_version"]) == ("20260101T000000Z-aaaaaaa", "aaaaaaa")
    assert run["airflow_logical_date"] == "2026-01-01 06:00:00"
    assert run["model_execution_date"] == f"{datetime.now(UTC):%Y-%m-%d}"
    (result,) = chunk["results"]
    assert (result["unique_id"], result["status"], result["message"]) == (DEPARTURES, "success", MESSAGE)


def test_run_without_a_logical_date_stores_a_null_date(
    ti: TaskInstance, tasks: dict[str, Any], states: dict[str, str], bucket: Any
) -> None:
    store_lost_results({**context(ti), "dag_run": SimpleNamespace(run_id="run", logical_date=None)}, "r", tasks, states)
    (stored_object,) = bucket.objects.all()
    assert json.loads(stored_object.get()["Body"].read())["run"]["airflow_logical_date"] is None


def test_cleared_run_stores_no_results(tasks: dict[str, Any], states: dict[str, str], bucket: Any) -> None:
    store_lost_results(context(TaskInstance(try_number=2)), "r", tasks, states)
    assert list(bucket.objects.all()) == []


def test_storage_error_is_logged_and_not_raised(
    ti: TaskInstance,
    tasks: dict[str, Any],
    states: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(KEPT_RESULTS, "s3://no-such-bucket/kept_results")
    store_lost_results(context(ti), "r", tasks, states)
    assert "could not be stored" in caplog.text
