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
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from conftest import DagSerialization, serialized

from mwaa_pipelines import sensors
from mwaa_pipelines.node_outcomes import PER_XCOM
from mwaa_pipelines.node_trigger import NodeTrigger
from mwaa_pipelines.run_progress import RunProgress

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL, TASK, ABOVE = "model.flights.departures", "transform_data.departures.run", "transform_data.stg_flights.run"
RUN = "manual__2026-01-01T00:00"
PAGES = "https://airflow.example.com"
TESTS = f"tests of {MODEL}"
# A look to which Airflow's API answers with an error.
FAILS = "API error"


def test_sensors_start_in_the_triggerer_from_airflow_3_3(dag: Any) -> None:
    starts = tuple(map(int, __version__.split(".")[:2])) >= (3, 3)
    restored_dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    sensor = restored_dag.get_task("transform_data.departures.run")
    assert sensor.start_from_trigger is starts
    assert sensor.start_trigger_args.trigger_cls == "mwaa_pipelines.node_trigger.NodeTrigger"
    watching = [task for task in dag.tasks if isinstance(task, sensors.NodeSensor)]
    assert len(watching) > 20
    for task in watching:
        arguments = task.start_trigger_args.trigger_kwargs
        trigger = NodeTrigger(**arguments)
        assert trigger.serialize() == (task.start_trigger_args.trigger_cls, arguments)
        assert (arguments["outcome_key"], arguments["producer_task_id"]) == (task.outcome_key, PRODUCER)
        assert callable(getattr(task, task.start_trigger_args.next_method))
    for task_id in (PRODUCER, "dbt_check", "audit_dbt_task.audit_table_model_build"):
        assert dag.get_task(task_id).start_from_trigger is False


class FakeRun:
    """Fakes a run: what Airflow's API answers at each look at it.

    Args:
        looks: the state of the dbt task, or those of several tasks, and the outcomes. The last look stays.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: Any) -> None:
        self.looks, self.requests = list(looks), 0
        RunProgress._runs.clear()
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", self._states)
        monkeypatch.setattr(XCom, "get_one", self._outcomes)
        monkeypatch.setattr("mwaa_pipelines.node_trigger._SECONDS", 0.0)
        for name in ("_SECONDS", "_SECONDS_BEFORE_DBT", "_PAUSE_PER_SECOND"):
            monkeypatch.setattr(f"mwaa_pipelines.run_progress.{name}", 0.0)

    def _states(self, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str | None]]:
        assert (dag_id, run_ids) == ("flights_pipeline", [RUN])
        self.requests += 1
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if look == FAILS:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 503}))
        states, self.outcomes = look
        return {RUN: states if isinstance(states, dict) else {PRODUCER: states}}

    def _outcomes(self, key: str, **of: Any) -> dict[str, Any] | None:
        assert of == {"dag_id": "flights_pipeline", "run_id": RUN, "task_id": PRODUCER, "map_index": -1}
        chunks = [self.outcomes[start : start + PER_XCOM] for start in range(0, len(self.outcomes), PER_XCOM)]
        number = int(key.removeprefix("dbt_outcomes_"))
        return dict(chunks[number]) if number < len(chunks) else None

    def task_instance(self, task_id: str = TASK, **more: Any) -> Any:
        names = {"dag_id": "flights_pipeline", "run_id": RUN, "map_index": -1, "task_id": task_id}
        return SimpleNamespace(**names, **{"try_number": 1, **more})

    def event(self, upstream: Sequence[str] = (), *, tests: bool = False, **more: Any) -> tuple[type, Any]:
        """Return the type and the content of the trigger's event. `more` are attributes of its task instance."""
        settings = {name: more.pop(name) for name in ("retries", "attempt") if name in more}

        async def first() -> TriggerEvent:
            key = TESTS if tests else MODEL
            trigger = NodeTrigger(key, PRODUCER, upstream, **{"retries": 1, "retry_delay": 0, **settings})
            trigger.task_instance = self.task_instance(**more)
            return await anext(trigger.run())

        happened = asyncio.run(asyncio.wait_for(first(), 5))
        return type(happened), happened.payload


def outcome(status: str, *lines: str, of_tests: bool = False) -> list[tuple[str, dict[str, Any]]]:
    return [(TESTS if of_tests else MODEL, {"status": status, "lines": list(lines)})]


SUCCESS, FAILURE, SKIP = (TaskSuccessEvent, "success"), (TaskFailedEvent, "failed"), (TaskSkippedEvent, "skipped")
RUN_NODE, RUN_AGAIN = (TriggerEvent, {"attempt": 1}), (TriggerEvent, {"attempt": 2})


def test_successful_node_ends_its_task_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch, (None, []), ("queued", []), ("running", []), ("running", outcome("success")))
    assert run.event() == SUCCESS
    assert run.requests == 4


def test_passed_tests_end_their_task_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch, ("running", outcome("success")), ("success", outcome("pass", of_tests=True)))
    assert run.event(tests=True) == SUCCESS
    assert run.requests == 2


@pytest.mark.parametrize("number", [PER_XCOM - 2, PER_XCOM - 1, PER_XCOM, 3 * PER_XCOM])
def test_outcomes_of_many_nodes_are_read(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    others = [(f"model.flights.m{item}", {"status": "success", "lines": []}) for item in range(number)]
    run = FakeRun(monkeypatch, ("running", others), ("running", others + outcome("warn")))
    assert run.event() == SUCCESS
    assert run.requests == 2


def test_result_pushed_just_before_the_producer_ended_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FakeRun(monkeypatch, ("success", outcome("success"))).event() == SUCCESS


def test_node_that_the_run_leaves_out_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch, ("running", []), ({PRODUCER: "success", ABOVE: "failed"}, []))
    assert run.event([ABOVE]) == SUCCESS


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tests", "status"), [(False, "error"), (False, "partial success"), (True, "fail")])
def test_failed_node_runs_again_when_dbt_has_ended(monkeypatch: pytest.MonkeyPatch, tests: bool, status: str) -> None:
    failed = outcome(status, of_tests=tests)
    run = FakeRun(monkeypatch, ("running", []), ("running", failed), ("running", failed), ("failed", failed))
    assert run.event(tests=tests) == RUN_AGAIN
    assert run.requests == 4


def test_failed_node_without_retries_fails_its_task_while_dbt_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FakeRun(monkeypatch, ("running", outcome("error"))).event(retries=0) == FAILURE


def test_retry_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("mwaa_pipelines.node_trigger.asyncio.sleep", sleep)
    caplog.set_level("INFO")
    run = FakeRun(monkeypatch, ("failed", outcome("error")))
    trigger = NodeTrigger(MODEL, PRODUCER, [], retries=3, retry_delay=90, attempt=3)
    trigger.task_instance = run.task_instance()

    async def first() -> TriggerEvent:
        return await anext(trigger.run())

    assert asyncio.run(first()).payload == {"attempt": 3}
    assert slept[0] == 90
    assert caplog.messages == ["Retry 2 of 3 in 90 seconds"]


@pytest.mark.parametrize("state", ["failed", "skipped"])
@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ([None, "deferred", "running", "success"], RUN_NODE),
        (["deferred", "failed"], FAILURE),
        (["upstream_failed"], FAILURE),
        (["skipped"], SKIP),
    ],
)
def test_node_that_dbt_skipped_follows_its_upstream_tasks(
    monkeypatch: pytest.MonkeyPatch, state: str, upstream: list[str | None], expected: tuple[type, Any]
) -> None:
    looks = [({PRODUCER: state, ABOVE: above}, []) for above in upstream]
    assert FakeRun(monkeypatch, ("running", []), *looks).event([ABOVE]) == expected


def test_task_of_a_failed_audit_group_names_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    states = {PRODUCER: "upstream_failed", "audit.a": "failed", ABOVE: "success"}
    assert FakeRun(monkeypatch, (None, []), (states, [])).event(["audit.a", ABOVE]) == FAILURE
    assert caplog.messages[-1] == "Not run, because audit.a failed"


def test_failure_reaches_all_layers_before_airflow_stores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {PRODUCER: "failed", "layer_0": "failed", **{f"layer_{number}": "deferred" for number in range(1, 5)}}
    run = FakeRun(monkeypatch, ("running", []), (failed, []))

    async def layer(number: int) -> TriggerEvent:
        trigger = NodeTrigger(MODEL, PRODUCER, [f"layer_{number - 1}"], retries=1, retry_delay=0)
        trigger.task_instance = run.task_instance(task_id=f"layer_{number}")
        return await anext(trigger.run())

    async def layers() -> list[TriggerEvent]:
        return await asyncio.gather(*[layer(number) for number in (4, 3, 2, 1)])

    events = asyncio.run(asyncio.wait_for(layers(), 5))
    assert [type(event) for event in events] == [TaskFailedEvent] * 4


def test_decision_about_an_earlier_try_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_twice() -> None:
        run = FakeRun(monkeypatch, ({ABOVE: "failed"}, []), ({ABOVE: None}, []))
        progress = RunProgress.of(run.task_instance(), PRODUCER)
        progress.decide(ABOVE, "failed")
        assert progress.end_of(ABOVE) == "failed"
        await progress.look()
        assert progress.end_of(ABOVE) == "failed"
        await progress.look()
        assert progress.end_of(ABOVE) is None

    asyncio.run(look_twice())


def test_triggers_of_a_run_share_their_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch, ("running", []), ("running", outcome("success")))
    monkeypatch.setattr("mwaa_pipelines.run_progress._SECONDS", 0.05)

    async def first() -> TriggerEvent:
        trigger = NodeTrigger(MODEL, PRODUCER, [], retries=1, retry_delay=0)
        trigger.task_instance = run.task_instance()
        return await anext(trigger.run())

    async def many() -> list[TriggerEvent]:
        return await asyncio.gather(*[first() for _ in range(50)])

    assert {type(event) for event in asyncio.run(many())} == {TaskSuccessEvent}
    assert run.requests == 2
    gc.collect()
    assert not RunProgress._runs


# --- cleared tasks ---------------------------------------------------------------------------------------------------


def test_task_cleared_while_dbt_runs_uses_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch, ("running", []), ("running", outcome("success")), ("success", outcome("success")))
    assert run.event(try_number=2) == SUCCESS
    assert run.requests == 3


@pytest.mark.parametrize("retries", [0, 1])
def test_failed_node_cleared_while_dbt_runs_is_run(monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    run = FakeRun(monkeypatch, ("running", outcome("error")), ("failed", outcome("error")))
    assert run.event(try_number=2, retries=retries) == RUN_NODE


@pytest.mark.parametrize("status", ["success", "error"])
def test_cleared_node_runs_again(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    looks = [({PRODUCER: "success", ABOVE: state}, outcome(status)) for state in ("running", "success")]
    assert FakeRun(monkeypatch, *looks).event([ABOVE], try_number=2) == RUN_NODE


def test_cleared_run_waits_for_dbt_and_ignores_its_earlier_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    old = outcome("success")
    looks = [(None, old), ("queued", old), ("running", old), ("running", []), ("skipped", [])]
    assert FakeRun(monkeypatch, *looks).event(try_number=2) == RUN_NODE


# --- logs and errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tests", "look", "line"),
    [
        (False, ("running", outcome("success")), "dbt reported success for model.flights.departures."),
        (
            True,
            ("failed", outcome("fail", of_tests=True)),
            "dbt reported fail for tests of model.flights.departures.",
        ),
        (False, ("failed", []), "dbt ended without a report about model.flights.departures."),
    ],
)
def test_sensor_logs_one_line_about_its_node(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tests: bool, look: Any, line: str
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"{PAGES}/")
    FakeRun(monkeypatch, ("running", []), look).event(tests=tests, retries=0)
    url = f"{PAGES}/dags/flights_pipeline/runs/manual__2026-01-01T00%3A00/tasks/{PRODUCER}"
    assert caplog.messages == [f"{line} The output of dbt is in the log of {PRODUCER}: {url}"]


@pytest.mark.parametrize(
    ("tests", "status", "lines"),
    [
        (False, "success", ["model.flights.departures: success, SELECT 16, 0.45 s"]),
        (True, "fail", ["test.flights.one: pass, 0.05 s", "test.flights.two: fail, 3 rows, 0.06 s"]),
    ],
)
def test_sensor_logs_status_rows_and_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tests: bool, status: str, lines: list[str]
) -> None:
    caplog.set_level("INFO")
    FakeRun(monkeypatch, ("running", outcome(status, *lines, of_tests=tests))).event(tests=tests, retries=0)
    assert caplog.messages[:-1] == ["\n".join(lines)]


def test_errors_of_airflows_database_are_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = FakeRun(monkeypatch, *[FAILS] * 100, ("running", []), *[FAILS] * 3, ("running", outcome("success")))
    assert run.event() == SUCCESS
    assert "503" in caplog.messages[0]


def test_trigger_keeps_no_reference_to_other_tasks(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restored_dag = DagSerialization.from_dict(serialized(dag))
    task, other = (
        restored_dag.get_task("transform_data.departures.run"),
        weakref.ref(restored_dag.get_task("dbt_check")),
    )
    assert FakeRun(monkeypatch, ("running", outcome("success"))).event(task=task) == SUCCESS
    gc.collect()
    assert task.dag is restored_dag
    assert other() is None


def test_slow_answers_are_asked_for_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun(monkeypatch, ("running", []))
    monkeypatch.setattr("mwaa_pipelines.run_progress._PAUSE_PER_SECOND", 5.0)
    clock = iter([0.0, 0.0, 2.0, 11.9, 12.0, 12.0, 12.1])
    monkeypatch.setattr("mwaa_pipelines.run_progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    progress = RunProgress.of(fake.task_instance(), PRODUCER)
    for requests in (1, 1, 2):
        asyncio.run(progress.look())
        assert fake.requests == requests
