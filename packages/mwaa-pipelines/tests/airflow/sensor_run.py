"""Shared by the tests of the sensors: a DAG run in memory, with dbt as a script."""

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
from conftest import TaskDeferred, TaskInstance

from mwaa_pipelines.results import RESULTS_KEY

PRODUCER = "transform_data.dbt_producer_watcher"
MODEL = "model.flights.departures"

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
        # Each process creates the task again.
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


def model_status(status: str) -> dict[str, Any]:
    return {"model__flights__departures_status": {"status": status, "outlet_uris": []}}


TESTS_FAILED = {"model__flights__departures_tests_status": "fail"}
RUN_DEPARTURES = ["run", "--select", "fqn:flights.marts.departures"]


def deferral(call: Callable[[], None]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        call()
    return deferred.value
