"""The sensors of tests: dbt's word for them, and what they wait for when dbt has not run them."""

from typing import Any

import pytest
from airflow.providers.standard.triggers.external_task import WorkflowTrigger
from sensor_run import MODEL, PRODUCER, TESTS_FAILED, Run, deferral

from mwaa_pipelines.compatibility import AirflowException, AirflowFailException, AirflowSkipException

# Departures are in airports that are in the dimension: a test of both.
RELATIONSHIP = "relationships_departures_"


def test_tests_of_a_model_fail_with_their_names_once_dbt_is_over(run: Run, dag: Any) -> None:
    sensor = run.sensor("transform_data.departures.test")
    one, two = dag.get_task(PRODUCER).tests_per_model[MODEL][:2]
    run.producer("running", **TESTS_FAILED)
    waiting = deferral(lambda: sensor.execute_complete(run.context, {"status": "failed", "reason": "node_failed"}))
    assert isinstance(waiting.trigger, WorkflowTrigger)
    # Should dbt have skipped them, they also need their model; a wait for each would be a process more.
    assert waiting.trigger.external_task_ids == [PRODUCER, "transform_data.departures.run"]
    run.producer("failed", {one: "fail", two: "pass"})
    with pytest.raises(AirflowException, match=rf"^{one}: broken$"):
        sensor.on_dbt_finished(run.context, {"status": "success"})
    assert run.commands() == []


@pytest.mark.parametrize("try_number", [1, 2])
def test_skipped_tests_run_when_their_models_are_built(run: Run, dag: Any, try_number: int) -> None:
    tests = dag.get_task(PRODUCER).tests_per_model
    run.producer("failed", {"model.flights.stg_flights": "error"}, **TESTS_FAILED)
    built = {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    late = ("transform_data.airports.run", "transform_data.daily_performance.run")
    run.ti.states |= built | dict.fromkeys(late, "deferred")
    run.sensor("transform_data.departures.test", try_number).execute(run.context)
    run.ti.states |= built
    run.sensor("transform_data.departures.test", try_number).execute(run.context)
    some, everything = ([*command[:2], set(command[2].split())] for command in run.commands())
    assert everything == ["test", "--select", {test.split(".")[2] for test in tests[MODEL]}]
    held_up = {*tests["model.flights.airports"], *tests["model.flights.daily_performance"]} & {*tests[MODEL]}
    assert len([test for test in held_up if RELATIONSHIP in test]) == 2
    assert some == ["test", "--select", everything[2] - {test.split(".")[2] for test in held_up}]


@pytest.mark.parametrize("try_number", [1, 2])
@pytest.mark.parametrize("state", [None, "deferred", "up_for_retry", "running"])
def test_tests_that_dbt_has_not_run_wait_for_their_model(
    run: Run, dag: Any, try_number: int, state: str | None
) -> None:
    sensor = run.sensor("transform_data.departures.test", try_number)
    built = {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    run.producer("failed", {MODEL: "error"})
    run.ti.states |= built | ({"transform_data.departures.run": state} if state else {})
    if not state:
        del run.ti.states["transform_data.departures.run"]
    waiting = deferral(lambda: sensor.execute(run.context))
    _, arguments = waiting.trigger.serialize()
    assert (arguments["external_task_ids"], arguments["run_ids"]) == (["transform_data.departures.run"], ["run"])
    assert set(arguments["allowed_states"]) == {"success", "failed", "skipped", "upstream_failed", "removed"}
    assert run.commands() == []
    run.ti.states |= built
    getattr(sensor, waiting.method_name)(run.context, {"status": "success"})
    assert [name for name, *_ in run.commands()] == ["test"]


@pytest.mark.parametrize("reported", [{}, TESTS_FAILED])
@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_tests_fail_with_their_model_without_a_further_try(run: Run, state: str, reported: dict[str, Any]) -> None:
    sensor = run.sensor("transform_data.departures.test")
    run.producer("failed", {MODEL: "error"}, **reported)
    run.ti.states["transform_data.departures.run"] = state
    with pytest.raises(AirflowFailException, match=r"^not run, because transform_data\.departures\.run failed$"):
        sensor.execute(run.context)
    assert run.commands() == []


def test_tests_are_skipped_with_their_model(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.test", try_number=2)
    run.producer("success", {})
    run.ti.states["transform_data.departures.run"] = "skipped"
    with pytest.raises(AirflowSkipException):
        sensor.execute(run.context)
    assert run.commands() == []


def test_a_retry_of_tests_takes_no_flag_that_dbt_test_does_not_know(run: Run, dag: Any) -> None:
    run.params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True}
    one = dag.get_task(PRODUCER).tests_per_model[MODEL][0]
    run.producer("failed", {one: "fail"}, **TESTS_FAILED)
    run.ti.states |= {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    run.sensor("transform_data.departures.test", try_number=2).execute(run.context)
    ((name, *rest),) = run.commands()
    assert name == "test"
    assert not [word for word in rest if word.startswith(("--full", "--event"))]
