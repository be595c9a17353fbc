"""The sensors' trigger: a successful node ends its task in the triggerer, any other node resumes on a worker."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from conftest import DagSerialization, serialized
from cosmos.operators._watcher.triggerer import WatcherTrigger

from mwaa_pipelines import sensors
from mwaa_pipelines.node_outcomes import outcome_key
from mwaa_pipelines.node_trigger import NodeTrigger

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL, TASK, ABOVE = "model.flights.departures", "transform_data.departures.run", "transform_data.stg_flights.run"
RUN = "manual__2026-01-01T00:00"
PAGES = "https://airflow.example.com"
# A look to which Airflow's API answers with an error.
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


class FakeRun:
    """Fakes a run: what Airflow's API answers at each look of the trigger.

    Args:
        looks: the producer's state and the node's XCom, one pair after the other. The last one stays.
        upstream: states of the upstream tasks, one dictionary after the other. The last one stays.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *looks: tuple[str | None, Any],
        upstream: Sequence[dict[str, str]] = ({},),
    ) -> None:
        self.looks, self.upstream, self.keys = list(looks), list(upstream), []
        self.outcomes: dict[str, list[str]] = {}

        async def state(trigger: WatcherTrigger) -> str | None:
            assert (trigger.dag_id, trigger.run_id, trigger.producer_task_id) == ("flights_pipeline", RUN, PRODUCER)
            look = next_of(self.looks)
            if look == FAILS:
                raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 503}))
            self.reported = look[1]
            return look[0]

        async def value(_: WatcherTrigger, key: str) -> Any:
            self.keys.append(key)
            if key.endswith("_compiled_sql"):
                return None
            return self.outcomes.get(key) if key.endswith("_outcome") else self.reported

        def states(dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
            assert (dag_id, run_ids) == ("flights_pipeline", [RUN])
            return {RUN: {task: state for task, state in next_of(self.upstream).items() if task in task_ids}}

        monkeypatch.setattr(WatcherTrigger, "_get_producer_task_status", state)
        monkeypatch.setattr(WatcherTrigger, "get_xcom_val", value)
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))
        monkeypatch.setattr("mwaa_pipelines.node_trigger._POKE_SECONDS", 0.0)


def next_of(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


def event(
    is_test_sensor: bool = False, try_number: int = 1, upstream: Sequence[str] = (), **more: Any
) -> tuple[type, Any]:
    """Return the type and the content of the trigger's event."""

    async def first() -> TriggerEvent:
        trigger = NodeTrigger(MODEL, PRODUCER, is_test_sensor, upstream)
        trigger.task_instance = SimpleNamespace(
            dag_id="flights_pipeline", run_id=RUN, map_index=-1, task_id=TASK, try_number=try_number, **more
        )
        return await anext(trigger.run())

    happened = asyncio.run(asyncio.wait_for(first(), 5))
    return type(happened), happened.payload


def model(status: str) -> dict[str, Any]:
    return {"status": status, "outlet_uris": []}


SUCCESS, FAILURE, SKIP = (TaskSuccessEvent, "success"), (TaskFailedEvent, "failed"), (TaskSkippedEvent, "skipped")
RUN_NODE = (TriggerEvent, {})


def test_successful_node_ends_its_task_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRun(monkeypatch, (None, None), ("queued", None), ("running", None), ("running", model("success")))
    assert event() == SUCCESS


def test_passed_tests_end_their_task_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun(monkeypatch, ("running", None), ("success", "pass"))
    assert event(is_test_sensor=True) == SUCCESS
    assert set(fake.keys) == {f"model__flights__departures_tests_{name}" for name in ("status", "outcome")}


@pytest.mark.parametrize("status", ["error", "runtime error"])
def test_failed_node_fails_its_task_while_dbt_still_runs(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    FakeRun(monkeypatch, ("running", None), ("running", model(status)))
    assert event() == (TriggerEvent, {"status": status})


def test_failed_tests_are_named_after_dbt_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun(
        monkeypatch, ("running", "fail"), ("running", "fail"), ("failed", "fail"), upstream=[{TASK: "success"}]
    )
    assert event(is_test_sensor=True, upstream=[TASK]) == RUN_NODE
    assert len(fake.looks) == 1


def test_result_pushed_just_before_the_producer_ended_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRun(monkeypatch, ("success", model("success")))
    assert event() == SUCCESS


def test_node_that_the_run_leaves_out_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRun(monkeypatch, ("running", None), ("success", None), upstream=[{ABOVE: "failed"}])
    assert event(upstream=[ABOVE]) == SUCCESS


# Cosmos reports a skipped node as failed. A producer that dies reports nothing.
@pytest.mark.parametrize(("state", "reported"), [("running", model("failed")), ("failed", None), ("skipped", None)])
@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ([{}, {ABOVE: "up_for_retry"}, {ABOVE: "running"}, {ABOVE: "success"}], RUN_NODE),
        ([{ABOVE: "up_for_retry"}, {ABOVE: "failed"}], FAILURE),
        ([{ABOVE: "upstream_failed"}], FAILURE),
        ([{ABOVE: "skipped"}], SKIP),
    ],
)
def test_node_that_dbt_skipped_follows_its_upstream_tasks(
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    reported: Any,
    upstream: list[dict[str, str]],
    expected: tuple[type, Any],
) -> None:
    FakeRun(monkeypatch, ("running", None), (state, reported), ("failed", reported), upstream=upstream)
    assert event(upstream=[ABOVE]) == expected


def test_task_of_a_failed_audit_group_names_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FakeRun(monkeypatch, (None, None), ("upstream_failed", None), upstream=[{"audit.a": "failed", ABOVE: "success"}])
    assert event(upstream=["audit.a", ABOVE]) == FAILURE
    assert caplog.messages[-1] == "Not run, because audit.a failed"


# --- second tries ----------------------------------------------------------------------------------------------------


def test_retry_uses_the_report_of_a_dbt_that_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRun(monkeypatch, ("running", None), ("running", None), ("success", model("success")))
    assert event(try_number=2) == SUCCESS


def test_retry_of_a_failed_node_runs_it_after_dbt_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun(monkeypatch, ("running", model("error")), ("running", model("error")), ("failed", model("error")))
    assert event(try_number=2) == RUN_NODE
    assert len(fake.looks) == 1


@pytest.mark.parametrize("status", ["success", "error"])
def test_cleared_node_runs_again(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    FakeRun(monkeypatch, ("success", model(status)), upstream=[{ABOVE: "running"}, {ABOVE: "success"}])
    assert event(try_number=2, upstream=[ABOVE]) == RUN_NODE


def test_cleared_run_waits_for_dbt_and_ignores_its_earlier_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    old = model("success")
    FakeRun(monkeypatch, (None, old), ("queued", old), ("running", old), ("running", None), ("skipped", None))
    assert event(try_number=2) == RUN_NODE


# --- logs and errors -------------------------------------------------------------------------------------------------


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
    FakeRun(monkeypatch, ("running", None), poll, ("failed", None))
    event(is_test_sensor)
    url = f"{PAGES}/dags/flights_pipeline/runs/manual__2026-01-01T00%3A00/tasks/{PRODUCER}"
    assert caplog.messages[:1] == [f"{line} The output of dbt is in the log of {PRODUCER}: {url}"]


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
    fake = FakeRun(monkeypatch, ("running", None), ("running", status), ("failed", status))
    fake.outcomes[outcome_key(MODEL, is_test_sensor)] = lines
    event(is_test_sensor)
    assert caplog.messages[:-1] == lines


def test_errors_of_the_airflow_api_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.node_trigger._ERRORS_IN_A_ROW", 3)
    response = ("running", None)
    FakeRun(monkeypatch, FAILS, FAILS, response, FAILS, FAILS, ("running", model("success")))
    assert event() == SUCCESS


def test_airflow_api_that_keeps_failing_fails_the_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.node_trigger._ERRORS_IN_A_ROW", 3)
    fake = FakeRun(monkeypatch, *[FAILS] * 5)
    with pytest.raises(AirflowRuntimeError, match="503"):
        event()
    assert len(fake.looks) == 2


def test_trigger_keeps_no_reference_to_other_tasks(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restored_dag = DagSerialization.from_dict(serialized(dag))
    task, other = (
        restored_dag.get_task("transform_data.departures.run"),
        weakref.ref(restored_dag.get_task("dbt_check")),
    )
    FakeRun(monkeypatch, ("running", model("success")))
    assert event(task=task) == SUCCESS
    gc.collect()
    assert task.dag is restored_dag
    assert other() is None
