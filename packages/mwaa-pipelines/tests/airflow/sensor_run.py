"""Helpers of the sensor tests: an in-memory DAG run with a script in place of dbt."""

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.xcom import XCom
from conftest import TaskDeferred, TaskInstance

from mwaa_pipelines.node_outcomes import xcom_key
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.run_progress import RunProgress
from mwaa_pipelines.sensors import NodeSensor

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL = "model.flights.departures"

# OpenLineage requires the schema version. Cosmos runs OpenLineage after each dbt command.
SCHEMA = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"}
STUB = """#!{python}
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--project-dir") + 1])
(folder / "target").mkdir(exist_ok=True)
(folder / "target" / "run_results.json").write_text(json.dumps({results}))
(folder / "logs").mkdir(exist_ok=True)
(folder / "logs" / "dbt.log").write_text(json.dumps({selected}) + "\\n")
selected = {{}}
if "--state" in sys.argv:
    state = pathlib.Path(sys.argv[sys.argv.index("--state") + 1]) / "run_results.json"
    for result in json.loads(state.read_text())["results"]:
        selected.setdefault("result:" + result["status"], []).append(result["unique_id"])
with open({calls}, "a") as calls:
    calls.write(json.dumps([dict(os.environ), selected, *sys.argv[1:]]) + "\\n")
print({output})
time.sleep({seconds})
sys.exit({code})
"""


class Run:
    """An in-memory DAG run: a sensor's task instance, the producer's reports, and a script in place of dbt."""

    def __init__(self, dag: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dag, self.calls, self._monkeypatch = dag, folder / "calls", monkeypatch
        self.ti = TaskInstance()
        self.params: dict[str, Any] = {}
        # Called one after the other, before each look at the states of the run's tasks.
        self.changes: list[Callable[[], None]] = []
        self._dbt = Path(os.environ["DBT_VENV_PATH"]) / "bin" / "dbt"
        self._dbt.parent.mkdir(parents=True)
        self.dbt(code=0)
        RunProgress._runs.clear()
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(self._states))
        monkeypatch.setattr(XCom, "get_one", lambda task_id, key, **_: self.ti.xcoms.get((task_id, key)))
        monkeypatch.setattr("mwaa_pipelines.node_trigger._SECONDS", 0.0)
        for name in ("_SECONDS", "_SECONDS_BEFORE_DBT", "_PAUSE_PER_SECOND"):
            monkeypatch.setattr(f"mwaa_pipelines.run_progress.{name}", 0.0)

    def _states(self, **arguments: Any) -> dict[str, Any]:
        if self.changes:
            self.changes.pop(0)()
        return self.ti.get_task_states(**arguments)

    def dbt(self, code: int, status: str = "success", output: str = "", seconds: int = 0, **reported: Any) -> None:
        """Let dbt exit with this code after these seconds, and report this status of MODEL.

        `nodes` are the statuses of further nodes, `invocation` is the id of the process, and `selected` the number of
        nodes that it wanted to build.
        """
        process = {"invocation_id": reported.get("invocation", "second"), "generated_at": "2026-01-01T00:00:00Z"}
        statuses = {MODEL: status, **reported.get("nodes", {})}
        results = {
            "metadata": {**process, **SCHEMA},
            "results": [
                {"unique_id": node, "status": node_status, "message": "", "execution_time": 1.0}
                for node, node_status in statuses.items()
            ],
        }
        count = {"node_count": reported.get("selected", len(statuses))}
        texts = {"calls": repr(str(self.calls)), "output": repr(output)}
        texts["selected"] = repr({"info": {"name": "ConcurrencyLine"}, "data": count})
        script = STUB.format(python=sys.executable, results=results, code=code, seconds=seconds, **texts)
        self._dbt.write_text(script)
        self._dbt.chmod(0o755)

    def task(self, task_id: str, try_number: int = 1) -> Any:
        # In Airflow, too, each process has its own task object.
        task = copy.copy(self.dag.get_task(task_id))
        if isinstance(task, NodeSensor):
            task.dbt_arguments = {**task.dbt_arguments, "dbt_executable_path": str(self._dbt)}
            # A task starts when its upstream tasks succeeded. Tests start with their model.
            for upstream in {*task.upstream_task_ids, task.task_of_model} - {None}:
                self.ti.states.setdefault(upstream, "success")
        else:
            self._monkeypatch.setattr(task, "dbt_executable_path", str(self._dbt))
        self.ti.task_id, self.ti.try_number, self.ti.task = task_id, try_number, task
        return task

    def producer(
        self,
        state: str,
        failed: dict[str, str] | None = None,
        *,
        try_number: int = 1,
        is_complete: bool = True,
        **reported: Any,
    ) -> None:
        """Set the producer's state, the XComs that it pushed (key: value), and the results if dbt has ended."""
        self.ti.states[PRODUCER] = state
        for key, value in reported.items():
            self.ti.xcoms[PRODUCER, key] = value
        if failed is not None:
            results = [{"unique_id": node, "status": status, "message": "broken"} for node, status in failed.items()]
            process = {"results": results, "try_number": try_number, "is_complete": is_complete}
            self.ti.xcoms[PRODUCER, RESULTS_KEY] = process

    @property
    def context(self) -> dict[str, Any]:
        dag_run = SimpleNamespace(run_id="run", dag_id=self.dag.dag_id, logical_date=None)
        task_context = {"ti": self.ti, "task_instance": self.ti}
        run_context = {"dag_run": dag_run, "run_id": "run", "params": {**self.dag.params.dump(), **self.params}}
        return {**task_context, **run_context, "dag": self.dag, "task": self.ti.task}

    def commands(self) -> list[list[str]]:
        """The dbt commands that ran, without the folder of the state and those that Cosmos adds."""
        commands = [command[2 : command.index("--project-dir")] for command in self._calls()]
        for command in commands:
            if "--state" in command:
                start = command.index("--state")
                del command[start : start + 2]
        return commands

    def selected(self) -> list[dict[str, list[str]]]:
        """The ids of nodes that each dbt command read from its state, by the selector for them."""
        return [command[1] for command in self._calls()]

    def variable(self, name: str) -> list[str]:
        """An environment variable of each dbt command."""
        return [environment[name] for environment, *_ in self._calls()]

    def _calls(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []


def model_status(status: str) -> dict[str, Any]:
    return {xcom_key(0): {MODEL: {"status": status, "lines": []}}}


TESTS_FAILED = {xcom_key(0): {f"tests of {MODEL}": {"status": "fail", "lines": []}}}
DEPARTURES = "fqn:flights.marts.departures,package:flights,resource_type:model,file:departures.sql"
RUN_DEPARTURES = ["run", "--select", DEPARTURES]


def deferral(call: Callable[[], None]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        call()
    return deferred.value
