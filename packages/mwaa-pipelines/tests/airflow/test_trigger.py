"""The sensors' trigger: a successful node ends its task in the triggerer, any other node resumes on a worker."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from conftest import DagSerialization, serialized
from cosmos.operators._watcher.triggerer import WatcherTrigger

from mwaa_pipelines import sensors
from mwaa_pipelines.node_outcomes import outcome_key
from mwaa_pipelines.node_trigger import NodeTrigger

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL = "model.flights.departures"
RUN = "manual__2026-01-01T00:00"
PAGES = "https://airflow.example.com"
# A poll to which Airflow's API answers with an error.
FAILS = ("running", "API error")


def test_sensors_start_in_the_triggerer_from_airflow_3_3(dag: Any) -> None:
    starts = tuple(map(int, __version__.split(".")[:2])) >= (3, 3)
    restored_dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    sensor = restored_dag.get_task("transform_data.departures.run")
    assert sensor.start_from_trigger is starts
    assert sensor.start_trigger_args.trigger_cls == "mwaa_pipelines.node_trigger.NodeTrigger"
    watching = [task for task in dag.tasks if isinstance(task, sensors._Sensor)]
    assert len(watching) > 20
    for task in watching:
        arguments = task.start_trigger_args.trigger_kwargs
        trigger = NodeTrigger(**arguments)
        assert trigger.serialize() == (task.start_trigger_args.trigger_cls, arguments)
        assert (arguments["model_unique_id"], arguments["producer_task_id"]) == (task.model_unique_id, PRODUCER)
        assert callable(getattr(task, task.start_trigger_args.next_method))
    for task_id in (PRODUCER, "dbt_check", "audit_dbt_task.audit_table_model_build"):
        assert dag.get_task(task_id).start_from_trigger is False


class FakePolls:
    """Fakes the producer's state and the node's XCom for each poll of the trigger."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *polls: tuple[str | None, Any]) -> None:
        self.polls, self.keys = list(polls), []
        self.outcomes: dict[str, list[str]] = {}

        async def state(trigger: WatcherTrigger) -> str | None:
            assert (trigger.dag_id, trigger.run_id, trigger.producer_task_id) == ("flights_pipeline", RUN, PRODUCER)
            return self.polls[0][0]

        async def value(_: WatcherTrigger, key: str) -> Any:
            self.keys.append(key)
            if key.endswith("_compiled_sql"):
                return None
            if key.endswith("_outcome"):
                return self.outcomes.get(key)
            _, reported_value = poll = self.polls.pop(0)
            if poll == FAILS:
                raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 503}))
            return reported_value

        monkeypatch.setattr(WatcherTrigger, "_get_producer_task_status", state)
        monkeypatch.setattr(WatcherTrigger, "get_xcom_val", value)
        monkeypatch.setattr("mwaa_pipelines.node_trigger._POKE_SECONDS", 0.0)


def first_event(is_test_sensor: bool = False, **more: Any) -> TriggerEvent:
    async def first() -> TriggerEvent:
        trigger = NodeTrigger(MODEL, PRODUCER, is_test_sensor)
        trigger.task_instance = SimpleNamespace(
            dag_id="flights_pipeline", run_id=RUN, map_index=-1, task_id="transform_data.departures.run", **more
        )
        return await anext(trigger.run())

    return asyncio.run(asyncio.wait_for(first(), 5))


def model(status: str) -> dict[str, Any]:
    return {"status": status, "outlet_uris": []}


def test_successful_node_ends_its_task_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePolls(monkeypatch, ("running", None), ("running", None), ("running", model("success")))
    assert isinstance(first_event(), TaskSuccessEvent)
    assert fake.polls == []


def test_passed_tests_end_their_task_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePolls(monkeypatch, ("running", None), ("success", "pass"))
    assert isinstance(first_event(is_test_sensor=True), TaskSuccessEvent)
    assert set(fake.keys) == {f"model__flights__departures_tests_{name}" for name in ("status", "outcome")}


@pytest.mark.parametrize("status", ["error", "failed", "skipped", "runtime error"])
def test_failed_node_resumes_its_task_on_a_worker(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    FakePolls(monkeypatch, ("running", None), ("running", model(status)))
    assert not isinstance(first_event(), TaskSuccessEvent)


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "upstream_failed", "removed"])
def test_node_without_a_result_resumes_on_a_worker_after_dbt_ended(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    FakePolls(monkeypatch, (None, None), ("running", None), (state, None))
    assert not isinstance(first_event(), TaskSuccessEvent)


def test_result_pushed_just_before_the_producer_ended_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    FakePolls(monkeypatch, ("success", model("success")))
    assert isinstance(first_event(), TaskSuccessEvent)


@pytest.mark.parametrize(
    ("is_test_sensor", "poll", "line"),
    [
        (False, ("running", model("success")), "dbt reported success for model.flights.departures."),
        (True, ("running", "fail"), "dbt reported fail for the tests of model.flights.departures."),
        (False, ("failed", None), "dbt ended without a report about model.flights.departures."),
    ],
)
def test_sensor_logs_one_line_about_its_node(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_test_sensor: bool, poll: Any, line: str
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"{PAGES}/")
    FakePolls(monkeypatch, ("running", None), poll)
    first_event(is_test_sensor)
    url = f"{PAGES}/dags/flights_pipeline/runs/manual__2026-01-01T00%3A00/tasks/{PRODUCER}"
    assert caplog.messages == [f"{line} The output of dbt is in the log of {PRODUCER}: {url}"]


@pytest.mark.parametrize(
    ("is_test_sensor", "status", "lines"),
    [
        (False, model("success"), ["model.flights.departures: success, SELECT 16, 0.45 s"]),
        (True, "fail", ["test.flights.one: pass, 0.05 s", "test.flights.two: fail, 3 rows, 0.06 s"]),
    ],
)
def test_sensor_logs_status_rows_and_seconds(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_test_sensor: bool,
    status: Any,
    lines: list[str],
) -> None:
    caplog.set_level("INFO")
    fake = FakePolls(monkeypatch, ("running", None), ("running", status))
    fake.outcomes[outcome_key(MODEL, is_test_sensor)] = lines
    first_event(is_test_sensor)
    assert caplog.messages[:-1] == lines


def test_errors_of_the_airflow_api_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.node_trigger._ERRORS_IN_A_ROW", 3)
    response = ("running", None)
    fake = FakePolls(monkeypatch, FAILS, FAILS, response, FAILS, FAILS, ("running", model("success")))
    assert isinstance(first_event(), TaskSuccessEvent)
    assert fake.polls == []


def test_airflow_api_that_keeps_failing_fails_the_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.node_trigger._ERRORS_IN_A_ROW", 3)
    fake = FakePolls(monkeypatch, *[FAILS] * 5)
    with pytest.raises(AirflowRuntimeError, match="503"):
        first_event()
    assert len(fake.polls) == 2


def test_trigger_keeps_no_reference_to_other_tasks(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restored_dag = DagSerialization.from_dict(serialized(dag))
    task, other = (
        restored_dag.get_task("transform_data.departures.run"),
        weakref.ref(restored_dag.get_task("dbt_check")),
    )
    FakePolls(monkeypatch, ("running", model("success")))
    assert isinstance(first_event(task=task), TaskSuccessEvent)
    gc.collect()
    assert task.dag is restored_dag
    assert other() is None
