"""Sensors of tests: they use dbt's results, and wait for their models if dbt has not run the tests."""

from typing import Any

import pytest
from sensor_run import MODEL, PRODUCER, TESTS_FAILED, Run, deferral

from mwaa_pipelines.compatibility import AirflowException, AirflowFailException, AirflowSkipException
from mwaa_pipelines.selection import exact_selector

# Name prefix of the relationships tests, which read departures and another model.
RELATIONSHIP = "relationships_departures_"


def test_failed_tests_are_named_after_the_producer_ended(run: Run, dag: Any) -> None:
    sensor = run.task("transform_data.departures.test")
    sensor.node_retries = 0
    first_test, second_test = dag.get_task(PRODUCER).tests_per_model[MODEL][:2]
    run.producer("running")
    waiting = deferral(lambda: sensor.execute(run.context))
    # If dbt skipped the tests, they also need their model.
    assert "transform_data.departures.run" in waiting.trigger.serialize()[1]["upstream"]
    # dbt skipped other tests of the model, so nothing was reported for all of them together.
    run.producer("failed", {first_test: "fail", second_test: "pass"})
    with pytest.raises(AirflowException, match=rf"^{first_test}: broken$"):
        sensor.execute(run.context)
    assert run.commands() == []


@pytest.mark.parametrize("try_number", [1, 2])
def test_skipped_tests_run_after_their_models_are_built(run: Run, dag: Any, try_number: int) -> None:
    tests = dag.get_task(PRODUCER).tests_per_model
    run.producer("failed", {"model.flights.stg_flights": "error"})
    built = {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    unfinished_models = ("transform_data.airports.run", "transform_data.daily_performance.run")
    run.ti.states |= built | dict.fromkeys(unfinished_models, "deferred")
    run.task("transform_data.departures.test", try_number).resume_on_worker(run.context, {"attempt": 1})
    run.ti.states |= built
    run.task("transform_data.departures.test", try_number).execute(run.context)
    selectors = {test.unique_id: exact_selector(test) for test in dag.get_task("transform_data.departures.test").nodes}
    first_command, second_command = ([*command[:2], set(command[2:])] for command in run.commands())
    assert second_command == ["test", "--select", {selectors[test] for test in tests[MODEL]}]
    blocked_tests = {*tests["model.flights.airports"], *tests["model.flights.daily_performance"]} & {*tests[MODEL]}
    assert len([test for test in blocked_tests if RELATIONSHIP in test]) == 2
    assert first_command == ["test", "--select", second_command[2] - {selectors[test] for test in blocked_tests}]


@pytest.mark.parametrize("try_number", [1, 2])
@pytest.mark.parametrize("state", [None, "deferred", "up_for_retry", "running"])
def test_tests_that_dbt_has_not_run_wait_for_their_model(
    run: Run, dag: Any, try_number: int, state: str | None
) -> None:
    sensor = run.task("transform_data.departures.test", try_number)
    built = {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    run.producer("failed", {MODEL: "error"})
    run.ti.states |= built | ({"transform_data.departures.run": state} if state else {})
    if not state:
        del run.ti.states["transform_data.departures.run"]
    deferral(lambda: sensor.execute(run.context))
    assert run.commands() == []
    run.ti.states |= built
    sensor.execute(run.context)
    assert [name for name, *_ in run.commands()] == ["test"]


@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_tests_of_a_failed_model_fail_without_a_retry(run: Run, state: str, caplog: pytest.LogCaptureFixture) -> None:
    sensor = run.task("transform_data.departures.test")
    run.producer("failed", {MODEL: "error"})
    run.ti.states["transform_data.departures.run"] = state
    with pytest.raises(AirflowFailException):
        sensor.execute(run.context)
    assert caplog.messages[-1] == "Not run, because transform_data.departures.run failed"
    assert run.commands() == []


def test_tests_of_a_skipped_model_are_skipped(run: Run) -> None:
    sensor = run.task("transform_data.departures.test", try_number=2)
    run.producer("success", {})
    run.ti.states["transform_data.departures.run"] = "skipped"
    with pytest.raises(AirflowSkipException):
        sensor.execute(run.context)
    assert run.commands() == []


def test_retry_of_tests_omits_flags_that_dbt_test_rejects(run: Run, dag: Any) -> None:
    run.params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True}
    one = dag.get_task(PRODUCER).tests_per_model[MODEL][0]
    run.producer("failed", {one: "fail"}, **TESTS_FAILED)
    run.ti.states |= {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    run.task("transform_data.departures.test", try_number=2).execute(run.context)
    ((name, *rest),) = run.commands()
    assert name == "test"
    assert not [word for word in rest if word.startswith(("--full", "--event"))]
