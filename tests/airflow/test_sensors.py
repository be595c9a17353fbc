"""The sensors on every path of a failure: while dbt runs, after it, what dbt skipped, what another node held up."""

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.triggers.external_task import WorkflowTrigger
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from conftest import TaskDeferred, TaskInstance
from cosmos.operators._watcher.triggerer import WatcherTrigger
from dbt_pipeline.compatibility import AirflowException, AirflowFailException
from dbt_pipeline.results import RESULTS_KEY

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL = "model.flights.departures"
# Departures are in airports that are in the dimension: a test of both.
RELATIONSHIP = "relationships_departures_"

# OpenLineage, which Cosmos runs after every dbt, asks for it.
SCHEMA = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"}
STUB = """#!{python}
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--project-dir") + 1])
(folder / "target").mkdir(exist_ok=True)
(folder / "target" / "run_results.json").write_text(json.dumps({results}))
with open({calls}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit({code})
"""


class Run:
    """A DAG run in memory: one sensor's task instance, what the producer has reported, and dbt as a script."""

    def __init__(self, dag: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dag, self.calls, self._monkeypatch = dag, folder / "calls", monkeypatch
        self.ti = TaskInstance()
        self.params: dict[str, Any] = {}
        self._dbt = Path(os.environ["DBT_VENV_PATH"]) / "bin" / "dbt"
        self._dbt.parent.mkdir(parents=True)
        self.dbt(code=0)
        monkeypatch.setattr(
            RuntimeTaskInstance, "get_task_states", staticmethod(lambda **asked: self.ti.get_task_states(**asked))
        )

    def dbt(self, code: int, status: str = "success") -> None:
        results = {
            "metadata": {"invocation_id": "second", "generated_at": "2026-01-01T00:00:00Z", **SCHEMA},
            "results": [{"unique_id": MODEL, "status": status, "message": "", "execution_time": 1.0}],
        }
        script = STUB.format(python=sys.executable, results=results, calls=repr(str(self.calls)), code=code)
        self._dbt.write_text(script)
        self._dbt.chmod(0o755)

    def sensor(self, task_id: str, try_number: int = 1) -> Any:
        # A task is made anew in each process.
        task = copy.copy(self.dag.get_task(task_id))
        self._monkeypatch.setattr(task, "dbt_executable_path", str(self._dbt))
        self.ti.task_id, self.ti.try_number, self.ti.task = task_id, try_number, task
        return task

    def producer(self, state: str, failed: dict[str, str] | None = None, **reported: Any) -> None:
        """Set the producer's state, what Cosmos pushed while it ran (key: value), and results if it has ended."""
        self.ti.states[PRODUCER] = state
        for key, value in reported.items():
            self.ti.xcoms[PRODUCER, key] = value
        if failed is not None:
            results = [{"unique_id": node, "status": status, "message": "broken"} for node, status in failed.items()]
            self.ti.xcoms[PRODUCER, RESULTS_KEY] = {"results": results}

    @property
    def context(self) -> dict[str, Any]:
        dag_run = SimpleNamespace(run_id="run", dag_id=self.dag.dag_id, logical_date=None)
        both = {"ti": self.ti, "task_instance": self.ti}
        of_run = {"dag_run": dag_run, "run_id": "run", "params": {**self.dag.params.dump(), **self.params}}
        return {**both, **of_run, "dag": self.dag, "task": self.ti.task}

    def commands(self) -> list[list[str]]:
        """The dbt commands that ran, up to the folders that Cosmos adds."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [command[: command.index("--project-dir")] for command in map(json.loads, lines)]


@pytest.fixture
def run(dag: Any, venv: Path, redshift: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(dag, tmp_path, monkeypatch)


def model_status(status: str) -> dict[str, Any]:
    return {"model__flights__departures_status": {"status": status, "outlet_uris": []}}


TESTS_FAILED = {"model__flights__departures_tests_status": "fail"}
RUN_DEPARTURES = ["run", "--select", "fqn:flights.marts.departures"]


def deferral(call: Callable[[], None]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        call()
    return deferred.value


def test_a_first_try_watches(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run")
    run.producer("running")
    assert isinstance(deferral(lambda: sensor.execute(run.context)).trigger, WatcherTrigger)


def test_a_failure_is_seen_while_dbt_still_runs(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run")
    run.producer("running", **model_status("error"))
    with pytest.raises(AirflowException, match=r"departures.*failed"):
        sensor.execute_complete(run.context, {"status": "failed", "reason": "node_failed"})
    assert run.commands() == []


@pytest.mark.parametrize("state", ["running", "queued", "scheduled"])
def test_a_second_try_waits_until_dbt_is_over(run: Run, state: str) -> None:
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer(state, **model_status("error"))
    waiting = deferral(lambda: sensor.execute(run.context))
    assert isinstance(waiting.trigger, WorkflowTrigger)
    _, arguments = waiting.trigger.serialize()
    assert arguments["external_task_ids"] == [PRODUCER]
    assert arguments["run_ids"] == ["run"]
    assert set(arguments["allowed_states"]) == {"success", "failed", "skipped", "upstream_failed", "removed"}
    run.producer("failed", {MODEL: "error"})
    getattr(sensor, waiting.method_name)(run.context, {"status": "success"})
    assert run.commands() == [RUN_DEPARTURES]


def test_a_second_try_after_dbt_runs_the_model(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


def test_a_second_try_of_a_sensor_that_got_lost_builds_nothing_twice(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("success", {}, **model_status("success"))
    sensor.dbt_is_over(run.context, {"status": "success"})
    assert run.commands() == []


def test_what_dbt_skipped_runs_on_its_first_try(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run")
    run.producer("failed", {"model.flights.stg_flights": "error", MODEL: "skipped"}, **model_status("failed"))
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


def test_what_a_dead_dbt_never_reached_is_run(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("failed")
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


@pytest.mark.parametrize("try_number", [1, 2])
def test_what_a_guard_without_a_task_held_up_is_not_run(run: Run, try_number: int) -> None:
    sensor = run.sensor("transform_data.departures.run", try_number)
    run.producer("failed", {"test.flights.source_not_null": "fail", MODEL: "skipped"}, **model_status("failed"))
    with pytest.raises(AirflowFailException, match=r"not run again, because test.flights.source_not_null failed"):
        sensor.execute(run.context)
    assert run.commands() == []


def test_a_failed_hook_holds_nothing_up(run: Run) -> None:
    sensor = run.sensor("transform_data.departures.run")
    run.producer("failed", {"operation.flights.on-run-end-0": "error"}, **model_status("failed"))
    sensor.execute(run.context)
    assert run.commands() == [RUN_DEPARTURES]


def test_tests_of_a_model_fail_with_their_names_once_dbt_is_over(run: Run, dag: Any) -> None:
    sensor = run.sensor("transform_data.departures.test")
    one, two = dag.get_task(PRODUCER).tests_per_model[MODEL][:2]
    run.producer("running", **TESTS_FAILED)
    waiting = deferral(lambda: sensor.execute_complete(run.context, {"status": "failed", "reason": "node_failed"}))
    assert isinstance(waiting.trigger, WorkflowTrigger)
    run.producer("failed", {one: "fail", two: "pass"})
    with pytest.raises(AirflowException, match=rf"^{one}: broken$"):
        sensor.dbt_is_over(run.context, {"status": "success"})
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


def test_a_retry_keeps_what_its_dbt_reported_failed_or_not(run: Run) -> None:
    run.dbt(code=1, status="error")
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    with pytest.raises(AirflowException, match="non-zero exit code 1"):
        sensor.execute(run.context)
    kept = run.ti.xcoms["transform_data.departures.run", RESULTS_KEY]
    assert (kept["invocation_id"], kept["try_number"]) == ("second", 2)
    assert [(result["unique_id"], result["status"]) for result in kept["results"]] == [(MODEL, "error")]


def test_a_retry_without_dbt_says_what_startup_said(run: Run, venv: Path) -> None:
    venv.with_name("dbt_venv.error").write_text("startup.sh: FAILED, pip could not install dbt\n")
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    with pytest.raises(AirflowFailException, match="pip could not install dbt"):
        sensor.execute(run.context)
    assert run.commands() == []


# --- a run that was started with parameters --------------------------------------------------------------------------


def test_a_retry_follows_the_parameters_of_the_run(run: Run) -> None:
    run.params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True, "select": ["tag:mart", "x+"]}
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("failed", {MODEL: "error"}, **model_status("error"))
    sensor.execute(run.context)
    ((name, _, select, _, variables, *flags),) = run.commands()
    assert (name, select) == ("run", "fqn:flights.marts.departures,tag:mart fqn:flights.marts.departures,x+")
    assert variables == "backfill_end: '2013-02-01'\nbackfill_start: '2013-01-01'\n"
    assert flags == ["--full-refresh", "--event-time-start", "2013-01-01", "--event-time-end", "2013-02-01"]


def test_a_retry_of_tests_takes_no_flag_that_dbt_test_does_not_know(run: Run, dag: Any) -> None:
    run.params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True}
    one = dag.get_task(PRODUCER).tests_per_model[MODEL][0]
    run.producer("failed", {one: "fail"}, **TESTS_FAILED)
    run.ti.states |= {task.task_id: "success" for task in dag.tasks if getattr(task, "is_test_sensor", None) is False}
    run.sensor("transform_data.departures.test", try_number=2).execute(run.context)
    ((name, *rest),) = run.commands()
    assert name == "test"
    assert not [word for word in rest if word.startswith(("--full", "--event"))]


@pytest.mark.parametrize("try_number", [1, 2])
def test_what_the_run_left_out_is_not_built_when_dbt_failed(run: Run, try_number: int) -> None:
    run.params = {"select": ["weather_delays"]}
    sensor = run.sensor("transform_data.departures.run", try_number)
    run.producer("failed", {"model.flights.weather_delays": "error"})
    sensor.execute(run.context)
    sensor.execute_complete(run.context, {"status": "failed", "reason": "producer_failed"})
    assert run.commands() == []


def test_what_the_run_left_out_is_green_without_a_trigger_once_dbt_is_over(run: Run) -> None:
    run.params = {"select": ["weather_delays"]}
    for kind in ("run", "test"):
        sensor = run.sensor(f"transform_data.departures.{kind}")
        run.producer("success", {"model.flights.weather_delays": "success"})
        assert sensor.execute(run.context) is None
    assert run.commands() == []


def test_without_a_word_of_dbt_what_a_run_left_out_is_for_dbt_to_say(run: Run) -> None:
    run.params = {"select": ["weather_delays"]}
    sensor = run.sensor("transform_data.departures.run", try_number=2)
    run.producer("failed")
    sensor.execute(run.context)
    ((_, _, select),) = run.commands()
    assert select == "fqn:flights.marts.departures,weather_delays"
