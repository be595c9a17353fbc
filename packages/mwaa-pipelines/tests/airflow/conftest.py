"""Fixtures of the DAG tests. The DAGs folder holds the DAG files and a real release, as on MWAA."""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk._shared.secrets_masker import redact
    from airflow.sdk.exceptions import TaskDeferred
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:
    # Airflow 3.0
    from airflow.exceptions import TaskDeferred
    from airflow.models.dagbag import DagBag
    from airflow.sdk.execution_time.secrets_masker import redact
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

__all__ = ["DagBag", "DagSerialization", "TaskDeferred", "redact"]

DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
# As Airflow does.
sys.path.insert(0, str(DAGS))

ENTRY = """
  - dag_name: {dag_name}
    project_name: flights
    redshift_connection_id: redshift_{dag_name}
    target_database: dev
    target_schema: analytics
"""


class TaskInstance(SimpleNamespace):
    """An in-memory task instance with XComs and the states of other tasks."""

    def __init__(self, **attributes: Any) -> None:
        self.xcoms: dict[tuple[str, str], Any] = {}
        # Every value that was pushed, by earlier runs, too.
        self.pushed: dict[tuple[str, str], list[Any]] = {}
        self.states: dict[str, str] = {}
        # States of other runs, by run_id.
        self.runs: dict[str, str] = {}
        defaults = {
            "dag_id": "flights_pipeline",
            "task_id": "dbt_check",
            "run_id": "run",
            "try_number": 1,
            # Airflow raises it when a person clears the task.
            "max_tries": 0,
            "map_index": -1,
        }
        super().__init__(**{**defaults, "log_url": "http://airflow/log", **attributes})

    def xcom_push(self, key: str, value: Any) -> None:
        # Airflow stores XComs as JSON, so other values must fail here too.
        value = json.loads(json.dumps(value))
        self.xcoms[self.task_id, key] = value
        self.pushed.setdefault((self.task_id, key), []).append(value)

    def xcom_pull(
        self,
        task_ids: str | None = None,
        key: str = "return_value",
        include_prior_dates: bool = False,
        map_indexes: int | None = None,
    ) -> Any:
        if include_prior_dates:
            # Without map_indexes one value as it is, and several as a list, like RuntimeTaskInstance.
            values = self.pushed.get((task_ids or self.task_id, key), [None])
            return values[-1] if len(values) == 1 or map_indexes is not None else values
        return self.xcoms.get((task_ids or self.task_id, key))

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        return sum(state in states for state in self.runs.values())

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        return self.runs[run_id]

    def get_task_states(self, dag_id: str, run_ids: list[str], task_ids: list[str] | None = None) -> dict[str, Any]:
        expected = {task: state for task, state in self.states.items() if task_ids is None or task in task_ids}
        return {run_ids[0]: expected}


def entries(*names: str, **lines: str) -> str:
    """The text of a pipelines.yml with these pipelines, and an extra setting for some of them."""
    texts = [ENTRY.format(dag_name=name) + (f"    {lines[name]}\n" if name in lines else "") for name in names]
    return "pipelines:" + "".join(texts)


def new_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **selections: dict[str, Any]) -> None:
    """Let the DAG files see a copy of the release in which these files of selections/ are added or changed.

    Args:
        tmp_path: folder for the copy.
        monkeypatch: sets DBT_PROJECT_PATH.
        selections: by the file's name, dbt's arguments; `nodes`, the beginnings of node ids (default: all nodes); and
            `added`, entries of further nodes by id.
    """
    (release,) = (path for path in (DAGS / "dbt" / "flights").iterdir() if path.is_dir())
    copy = tmp_path / "dbt" / "flights" / release.name
    shutil.copytree(release, copy)
    for name, selection in selections.items():
        content = json.loads((copy / "selections" / "everything.json").read_text())
        prefixes = tuple(selection.pop("nodes", [""]))
        content["nodes"] = {node: entry for node, entry in content["nodes"].items() if node.startswith(prefixes)}
        content["nodes"] |= selection.pop("added", {})
        content["selection"] = {"select": [], "exclude": [], "selector": None, **selection}
        folder = copy / "selections" / ("." if name == "audit" else "pipelines")
        (folder / f"{name}.json").write_text(json.dumps(content))
    details = json.loads((copy / "release.json").read_text())
    # Some of their sizes have changed.
    details["files"] = [file for file in details["files"] if not file["path"].startswith("selections/")]
    (copy / "release.json").write_text(json.dumps(details))
    monkeypatch.setenv("DBT_PROJECT_PATH", str(tmp_path / "dbt"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipelines.yml"
    path.write_text(text)
    return path


def serialized(dag: Any) -> dict[str, Any]:
    """The DAG as Airflow stores it."""
    return DagSerialization.to_dict(dag)


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture(scope="session")
def manifest() -> dict[str, Any]:
    release_id = (DAGS / "dbt" / "flights" / "CURRENT").read_text().strip()
    return json.loads((DAGS / "dbt" / "flights" / release_id / "manifest.json").read_text())


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of startup.sh's virtual environment. Nothing is installed."""
    monkeypatch.setenv("DBT_VENV_PATH", str(tmp_path / "dbt_venv"))
    return tmp_path / "dbt_venv"


@pytest.fixture
def installed_dbt(venv: Path) -> Path:
    """A dbt executable in startup.sh's virtual environment. It does nothing."""
    program = venv / "bin" / "dbt"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    return program


@pytest.fixture
def redshift(monkeypatch: pytest.MonkeyPatch) -> str:
    """The sample pipeline's Airflow connection and its secret in the AWS stand-in. Returns the secret's name."""
    import boto3

    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", "redshift://cluster.example:5439/dev")
    client = boto3.client("secretsmanager")
    client.create_secret(Name="flights/dbt_user", SecretString='{"username": "dbt_user", "password": "Pa55-one"}')
    yield "flights/dbt_user"
    client.delete_secret(SecretId="flights/dbt_user", ForceDeleteWithoutRecovery=True)


@pytest.fixture
def run(dag: Any, venv: Path, redshift: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An in-memory DAG run for the sensor tests."""
    from sensor_run import Run

    return Run(dag, tmp_path, monkeypatch)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket of stored results, set as the Airflow option `dbt.kept_results`."""
    import boto3

    name = f"kept-{uuid.uuid4()}"
    resource = boto3.resource("s3").Bucket(name)
    resource.create()
    monkeypatch.setenv("AIRFLOW__DBT__KEPT_RESULTS", f"s3://{name}/kept_results")
    yield resource
    resource.objects.delete()
    resource.delete()


@pytest.fixture(scope="session")
def dag() -> Any:
    """The sample pipeline's DAG, parsed by Airflow."""
    bag = DagBag(str(DAGS))
    assert bag.import_errors == {}
    return bag.dags["flights_pipeline"]


@pytest.fixture
def runs_bucket() -> Iterator[str]:
    """The bucket of the stack infra/ecs.yml, with the stack's settings."""
    from ecs_run import stack_bucket

    yield from stack_bucket()


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An ECS that answers as told."""
    from ecs_run import FakeEcs

    return FakeEcs(monkeypatch)


@pytest.fixture
def producer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed_dbt: Path) -> Any:
    """The producer of a pipeline with execution_mode ecs that Airflow has parsed."""
    from ecs_run import ECS

    from mwaa_pipelines.task_ids import PRODUCER_TASK

    (tmp_path / "pipelines.py").write_text((DAGS / "pipelines.py").read_text())
    write(tmp_path, entries("one", one=f"{ECS}\n    task_timeout_minutes: 10"))
    bag = DagBag(str(tmp_path / "pipelines.py"))
    assert bag.import_errors == {}
    monkeypatch.setenv("AIRFLOW__DBT__KEPT_RESULTS", "s3://flights-mwaa/kept_results")
    return bag.dags["one"].get_task(PRODUCER_TASK)
