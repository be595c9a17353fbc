"""Sensors of models after a failure: while dbt runs, after dbt has ended, and for nodes that dbt skipped."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.triggers.external_task import WorkflowTrigger
from airflow.triggers.base import TaskSuccessEvent
from sensor_run import DEPARTURES, MODEL, PRODUCER, RUN_DEPARTURES, Run, deferral, model_status

from mwaa_pipelines import sensors
from mwaa_pipelines.compatibility import AirflowException, AirflowFailException, AirflowTaskTimeout
from mwaa_pipelines.node_trigger import NodeTrigger
from mwaa_pipelines.results import RESULTS_KEY


def event(run: Run, trigger: NodeTrigger) -> Any:
    """What the triggerer gets from a trigger."""
    again = NodeTrigger(**trigger.serialize()[1])
    again.task_instance = run.ti
    return asyncio.run(asyncio.wait_for(again.event(), 5))


def test_first_try_defers_to_the_trigger(run: Run) -> None:
    sensor = run.task("transform_data.departures.run")
    run.producer("running")
    waiting = deferral(lambda: sensor.execute(run.context))
    assert isinstance(waiting.trigger, NodeTrigger)
    assert waiting.trigger.serialize()[1] == sensor.start_trigger_args.trigger_kwargs
    assert waiting.method_name == sensor.start_trigger_args.next_method
    assert waiting.timeout == sensor.execution_timeout


@pytest.mark.parametrize("state", ["running", "success", "failed"])
def test_built_model_ends_its_sensor_without_a_deferral(run: Run, state: str) -> None:
    sensor = run.task("transform_data.departures.run")
    run.producer(state, **model_status("success"))
    sensor.execute(run.context)
    assert run.commands() == []


def test_failed_model_without_retries_fails_its_sensor_while_dbt_still_runs(run: Run) -> None:
    sensor = run.task("transform_data.departures.run")
    sensor.node_retries = 0
    run.producer("running", **model_status("error"))
    with pytest.raises(AirflowFailException, match=r"departures failed"):
        sensor.execute(run.context)
    assert run.commands() == []


def test_triggerer_without_the_trigger_waits_for_tasks_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "HAS_TRIGGER", False)
    sensor = run.task("transform_data.departures.run")
    run.producer("running")
    waiting = deferral(lambda: sensor.execute(run.context))
    assert isinstance(waiting.trigger, WorkflowTrigger)
    _, arguments = waiting.trigger.serialize()
    assert arguments["external_task_ids"] == [PRODUCER, *sorted(sensor.upstream_task_ids)]
    assert arguments["run_ids"] == ["run"]
    assert set(arguments["allowed_states"]) == {"success", "failed", "skipped", "upstream_failed", "removed"}
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    run.dbt(code=1, status="error")
    sensor.node_retries, sensor.retry_delay = 2, timedelta(seconds=0.1)
    with pytest.raises(AirflowException, match="non-zero exit code 1"):
        getattr(sensor, waiting.method_name)(run.context, {"status": "success"}, **waiting.kwargs)
    assert run.commands() == [RUN_DEPARTURES] * 2
    assert run.variable("AIRFLOW_CTX_TRY_NUMBER") == ["2", "3"]


@pytest.mark.parametrize("state", ["running", "queued", "scheduled"])
def test_sensor_on_its_second_try_waits_for_the_producer(run: Run, state: str) -> None:
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer(state, **model_status("error"))
    waiting = deferral(lambda: sensor.execute(run.context))
    assert run.commands() == []
    run.producer("failed", {MODEL: "error"})
    getattr(sensor, waiting.method_name)(run.context, event(run, waiting.trigger).payload)
    assert run.commands() == [RUN_DEPARTURES]


def test_sensor_on_its_second_try_runs_the_model_after_the_producer(run: Run) -> None:
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


def test_sensor_on_its_second_try_does_not_rebuild_a_built_model(run: Run) -> None:
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("running", **model_status("success"))
    waiting = deferral(lambda: sensor.execute(run.context))
    run.changes = [lambda: None, lambda: run.producer("success", {}, **model_status("success"))]
    assert isinstance(event(run, waiting.trigger), TaskSuccessEvent)
    assert run.commands() == []


@pytest.mark.parametrize("status", ["success", "error"])
def test_trigger_lets_a_cleared_sensor_run_its_model(run: Run, status: str) -> None:
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("success", {MODEL: status}, **model_status(status))
    sensor.resume_on_worker(run.context, {"attempt": 1})
    assert run.commands() == [RUN_DEPARTURES]


@pytest.mark.parametrize(("retries", "attempt"), [(1, 1), (2, 2), (3, 1)])
def test_node_that_fails_on_a_worker_waits_for_its_next_attempt(run: Run, retries: int, attempt: int) -> None:
    run.dbt(code=1, status="error")
    sensor = run.task("transform_data.departures.run")
    sensor.node_retries = retries
    run.producer("failed", {})
    waiting = deferral(lambda: sensor.resume_on_worker(run.context, {"attempt": attempt}))
    assert len(run.commands()) == 1
    path, arguments = waiting.trigger.serialize()
    assert path == sensor.start_trigger_args.trigger_cls
    assert arguments == {**sensor.start_trigger_args.trigger_kwargs, "attempt": attempt + 1}
    assert waiting.method_name == sensor.start_trigger_args.next_method


@pytest.mark.parametrize(("retries", "attempt"), [(0, 1), (1, 2), (2, 3)])
def test_last_attempt_of_a_node_fails_its_task(run: Run, retries: int, attempt: int) -> None:
    run.dbt(code=1, status="error")
    sensor = run.task("transform_data.departures.run")
    sensor.node_retries = retries
    run.producer("failed", {})
    with pytest.raises(AirflowException, match="non-zero exit code 1"):
        sensor.resume_on_worker(run.context, {"attempt": attempt})


def test_node_that_need_not_run_again_has_no_next_attempt(run: Run) -> None:
    sensor = run.task("transform_data.departures.run")
    run.producer("failed", {"test.flights.source_not_null": "fail", MODEL: "skipped"})
    with pytest.raises(AirflowFailException, match=r"not run again, because test.flights.source_not_null failed"):
        sensor.resume_on_worker(run.context, {"attempt": 1})


@pytest.mark.parametrize(
    ("retries", "airflow_try", "attempt", "number"),
    [(1, 1, 1, 1), (1, 1, 2, 2), (1, 2, 1, 3), (3, 2, 3, 7), (0, 4, 1, 4)],
)
def test_results_and_audit_rows_have_the_try_of_the_node(
    run: Run, retries: int, airflow_try: int, attempt: int, number: int
) -> None:
    sensor = run.task("transform_data.departures.run", airflow_try)
    sensor.node_retries = retries
    run.producer("failed", {})
    sensor.resume_on_worker(run.context, {"attempt": attempt})
    assert run.ti.xcoms["transform_data.departures.run", RESULTS_KEY]["try_number"] == number
    assert run.variable("AIRFLOW_CTX_TRY_NUMBER") == [str(number)]
    assert run.variable("AIRFLOW_CTX_LOG_URL") == [run.ti.log_url]


def test_skipped_model_runs_on_the_sensors_first_try(run: Run) -> None:
    sensor = run.task("transform_data.departures.run")
    run.producer("failed", {"model.flights.stg_flights": "error", MODEL: "skipped"})
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


def test_model_that_a_dead_producer_never_reached_is_run(run: Run) -> None:
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("failed")
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


@pytest.mark.parametrize("try_number", [1, 2])
def test_model_skipped_because_of_a_failed_source_test_is_not_run(run: Run, try_number: int) -> None:
    sensor = run.task("transform_data.departures.run", try_number)
    run.producer("failed", {"test.flights.source_not_null": "fail", MODEL: "skipped"})
    with pytest.raises(AirflowFailException, match=r"not run again, because test.flights.source_not_null failed"):
        sensor.execute(run.context)
    assert run.commands() == []


def test_failed_hook_does_not_keep_a_skipped_model_from_running(run: Run) -> None:
    sensor = run.task("transform_data.departures.run")
    run.producer("failed", {"operation.flights.on-run-end-0": "error"})
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


def test_retry_pushes_dbts_results_even_if_dbt_failed(run: Run) -> None:
    run.dbt(code=1, status="error")
    sensor = run.task("transform_data.departures.run")
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    with pytest.raises(AirflowException, match="non-zero exit code 1"):
        sensor.resume_on_worker(run.context, {"attempt": 2})
    dbt_results = run.ti.xcoms["transform_data.departures.run", RESULTS_KEY]
    assert (dbt_results["invocation_id"], dbt_results["try_number"]) == ("second", 2)
    assert [(result["unique_id"], result["status"]) for result in dbt_results["results"]] == [(MODEL, "error")]


def test_retry_without_dbt_fails_with_the_error_of_startup(run: Run, venv: Path) -> None:
    venv.with_name("dbt_venv.error").write_text("startup.sh: FAILED, pip could not install dbt\n")
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    with pytest.raises(AirflowFailException, match="pip could not install dbt"):
        sensor.execute(run.context)
    assert run.commands() == []


def test_killed_sensor_ends_its_dbt(run: Run) -> None:
    run.dbt(code=0, seconds=60)
    sensor = run.task("transform_data.departures.run")
    # Airflow can also end a task before it runs dbt.
    sensor.on_kill()
    run.producer("failed", {})
    with ThreadPoolExecutor() as pool:
        running = pool.submit(sensor.resume_on_worker, run.context, {"attempt": 2})
        while not run.commands() and not running.done():
            time.sleep(0.01)
        sensor.on_kill()
        with pytest.raises(AirflowException, match="non-zero exit code"):
            running.result(30)


def test_dbt_that_takes_too_long_is_ended_before_the_next_attempt(run: Run) -> None:
    run.dbt(code=0, seconds=60)
    sensor = run.task("transform_data.departures.run")
    run.producer("failed", {})

    def expire(*_: Any) -> None:
        raise AirflowTaskTimeout

    def wait_for_dbt() -> None:
        while not run.commands():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, expire)
    try:
        with ThreadPoolExecutor() as pool:
            pool.submit(wait_for_dbt)
            waiting = deferral(lambda: sensor.resume_on_worker(run.context, {"attempt": 1}))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert waiting.trigger.serialize()[1]["attempt"] == 2
    assert sensor._running.subprocess_hook.sub_process.wait(10) != 0


# --- runs with parameters --------------------------------------------------------------------------------------------


def test_retry_uses_the_parameters_of_the_run(run: Run) -> None:
    run.params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True, "select": ["tag:mart", "x+"]}
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    sensor.execute(run.context)
    ((name, _, variables, *flags),) = run.commands()
    assert (name, variables) == ("run", "backfill_end: '2013-02-01'\nbackfill_start: '2013-01-01'\n")
    span = ["--event-time-start", "2013-01-01", "--event-time-end", "2013-02-01"]
    assert flags == ["--full-refresh", *span, "--select", f"{DEPARTURES},tag:mart", f"{DEPARTURES},x+"]


@pytest.mark.parametrize("try_number", [1, 2])
def test_deselected_model_is_not_built_after_dbt_failed(run: Run, try_number: int) -> None:
    run.params = {"select": ["weather_delays"]}
    sensor = run.task("transform_data.departures.run", try_number)
    run.producer("failed", {"model.flights.weather_delays": "error"})
    sensor.execute(run.context)
    assert run.commands() == []


def test_deselected_node_succeeds_without_deferral_after_dbt_ended(run: Run) -> None:
    run.params = {"select": ["weather_delays"]}
    for kind in ("run", "test"):
        sensor = run.task(f"transform_data.departures.{kind}")
        run.producer("success", {"model.flights.weather_delays": "success"})
        assert sensor.execute(run.context) is None
    assert run.commands() == []


def test_retry_passes_the_runs_selection_to_dbt_without_results(run: Run) -> None:
    run.params = {"select": ["weather_delays"]}
    sensor = run.task("transform_data.departures.run", try_number=2)
    run.producer("failed")
    sensor.execute(run.context)
    ((_, _, select),) = run.commands()
    assert select == f"{DEPARTURES},weather_delays"


def test_selected_model_that_an_interrupted_dbt_did_not_reach_is_built(run: Run) -> None:
    run.params = {"select": ["departures", "weather_delays"]}
    run.dbt(code=2, selected=2)
    with pytest.raises(AirflowException, match="non-zero exit code 2"):
        run.task(PRODUCER).execute(run.context)
    run.ti.states[PRODUCER] = "failed"
    run.dbt(code=0)
    run.task("transform_data.weather_delays.run").execute(run.context)
    _, command = run.commands()
    selectors = command[command.index("--select") + 1 :]
    own = "fqn:flights.marts.weather_delays,package:flights,resource_type:model,file:weather_delays.sql"
    # dbt decides whether the run's selection has it.
    assert selectors == [f"{own},departures", f"{own},weather_delays"]
