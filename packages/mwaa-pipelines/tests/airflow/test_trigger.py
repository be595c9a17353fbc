"""The wait of a sensor in the triggerer: what ends the task there, and what is handed to a worker."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from conftest import DagSerialization, serialized
from cosmos.operators._watcher.triggerer import WatcherTrigger

from mwaa_pipelines import sensors
from mwaa_pipelines.node_trigger import NodeTrigger

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL = "model.flights.departures"


def test_every_sensor_starts_in_the_triggerer_where_airflow_can(dag: Any) -> None:
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


class Reported:
    """What the dbt process has reported at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: tuple[str | None, Any]) -> None:
        self.looks, self.keys = list(looks), []

        async def state(trigger: WatcherTrigger) -> str | None:
            assert (trigger.dag_id, trigger.run_id, trigger.producer_task_id) == ("flights_pipeline", "run", PRODUCER)
            return self.looks[0][0]

        async def value(_: WatcherTrigger, key: str) -> Any:
            self.keys.append(key)
            return None if key.endswith("_compiled_sql") else self.looks.pop(0)[1]

        monkeypatch.setattr(WatcherTrigger, "_get_producer_task_status", state)
        monkeypatch.setattr(WatcherTrigger, "get_xcom_val", value)
        monkeypatch.setattr("mwaa_pipelines.node_trigger._POKE_SECONDS", 0.0)


def ended(is_test_sensor: bool = False, **more: Any) -> TriggerEvent:
    async def first() -> TriggerEvent:
        trigger = NodeTrigger(MODEL, PRODUCER, is_test_sensor)
        trigger.task_instance = SimpleNamespace(
            dag_id="flights_pipeline", run_id="run", map_index=-1, task_id="transform_data.departures.run", **more
        )
        return await anext(trigger.run())

    return asyncio.run(asyncio.wait_for(first(), 5))


def model(status: str) -> dict[str, Any]:
    return {"status": status, "outlet_uris": []}


def test_a_node_that_ended_well_ends_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = Reported(monkeypatch, ("running", None), ("running", None), ("running", model("success")))
    assert isinstance(ended(), TaskSuccessEvent)
    assert reported.looks == []


def test_tests_that_passed_end_their_task(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = Reported(monkeypatch, ("running", None), ("success", "pass"))
    assert isinstance(ended(is_test_sensor=True), TaskSuccessEvent)
    assert set(reported.keys) == {"model__flights__departures_tests_status"}


@pytest.mark.parametrize("status", ["error", "failed", "skipped", "runtime error"])
def test_a_worker_goes_on_with_a_node_that_did_not(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    Reported(monkeypatch, ("running", None), ("running", model(status)))
    assert not isinstance(ended(), TaskSuccessEvent)


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "upstream_failed", "removed"])
def test_a_worker_goes_on_when_dbt_is_over_without_a_word_of_the_node(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    Reported(monkeypatch, (None, None), ("running", None), (state, None))
    assert not isinstance(ended(), TaskSuccessEvent)


def test_the_last_word_of_dbt_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    Reported(monkeypatch, ("success", model("success")))
    assert isinstance(ended(), TaskSuccessEvent)


def test_a_trigger_keeps_no_copy_of_the_dag(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restored_dag = DagSerialization.from_dict(serialized(dag))
    task, other = (
        restored_dag.get_task("transform_data.departures.run"),
        weakref.ref(restored_dag.get_task("dbt_check")),
    )
    Reported(monkeypatch, ("running", model("success")))
    assert isinstance(ended(task=task), TaskSuccessEvent)
    gc.collect()
    assert task.dag is restored_dag
    assert other() is None
