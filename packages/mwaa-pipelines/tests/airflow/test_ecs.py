"""execution_mode ecs: the producer starts a task of ECS and defers; other tasks wait for theirs on the worker."""

import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import DAGS, TaskDeferred, TaskInstance, entries, serialized, write
from ecs_run import ARN, ECS, IS_SUPPORTED, SETTINGS, FakeEcs
from test_pipelines import bag

from mwaa_pipelines import compatibility, config_file
from mwaa_pipelines.ecs_task import started_by
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.task_ids import PRODUCER_TASK

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="needs Airflow 3.3")


def start(producer: Any, ti: TaskInstance) -> TaskDeferred:
    params = {"start": None, "end": None, "full_refresh": True, "select": ["tag:mart"], "files": []}
    context: Any = {"ti": ti, "task_instance": ti, "task": producer, "params": params, "run_id": "manual__1+00:00"}
    context |= {"dag_run": SimpleNamespace(run_id="manual__1+00:00"), "dag": producer.dag}
    # Airflow calls it first.
    prepare(context)
    with pytest.raises(TaskDeferred) as deferred:
        producer.execute(context)
    return deferred.value


def test_producer_starts_a_task_and_defers(producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance) -> None:
    ti.dag_id, ti.task_id = "one", PRODUCER_TASK
    deferred = start(producer, ti)
    (job,) = ecs.jobs()
    (request,) = ecs.started
    (container,) = request["overrides"].pop("containerOverrides")
    url = container["environment"][0]["value"]
    path, arguments = deferred.trigger.serialize()
    assert path == "mwaa_pipelines.ecs_trigger.EcsTrigger"
    assert abs(arguments.pop("deadline") - time.time() - 600) < 60
    assert arguments == {"task_arn": ARN, "url": url, "memory": 1024}
    assert callable(getattr(producer, deferred.method_name))
    assert request.pop("clientToken") == url.rpartition("/")[2]
    network = {"subnets": ["subnet-a", "subnet-b"], "securityGroups": ["sg-dbt"], "assignPublicIp": "DISABLED"}
    assert request == {
        "cluster": "flights-dbt",
        "taskDefinition": "flights-dbt",
        "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": network},
        "overrides": {"cpu": "512", "memory": "1024"},
        "startedBy": started_by("one", "manual__1+00:00", PRODUCER_TASK),
    }
    assert job.command[:2] == ["build", "--select"]
    assert {"--full-refresh", "--exclude", "json"} <= set(job.command)
    assert "tag:mart" in job.command[2]
    release_id = (DAGS / "dbt" / "flights" / "CURRENT").read_text().strip()
    assert (job.project_name, job.release_id, job.projects) == ("flights", release_id, SETTINGS["projects"])
    assert (job.conn_id, job.connection_secret) == ("redshift_one", "airflow/connections/redshift_one")
    assert (job.kept_results, job.memory) == ("s3://flights-mwaa/kept_results", 1024)
    assert job.watched_together == producer.watched_together
    assert job.environment["DBT_RELEASE_ID"] == release_id
    assert job.environment["AIRFLOW_CTX_DAG_ID"] == "one"
    # The worker's own environment can have secrets.
    assert "PATH" not in job.environment
    # There is no earlier try.
    assert ecs.listings == 0


def test_startedby_names_one_task_of_airflow_in_letters_that_ecs_allows() -> None:
    names = [
        started_by("shop", "manual__1+00:00", PRODUCER_TASK),
        started_by("shop", "manual__1-00:00", PRODUCER_TASK),
        started_by("shop" * 60, "manual__1", PRODUCER_TASK),
        started_by("shop" * 60, "manual__2", PRODUCER_TASK),
        started_by("läden", "r", PRODUCER_TASK),
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9/_-]{1,128}", name) for name in names)
    assert names[0].startswith("shop/manual__1_00_00/transform_data_dbt_producer_watcher/")


def test_task_of_an_earlier_try_is_stopped_first(
    producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mwaa_pipelines.ecs_task._SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr("mwaa_pipelines.ecs_task.STOP_SECONDS", 10.0)
    ti.dag_id, ti.task_id = "one", PRODUCER_TASK
    # The worker of the first try was lost between RunTask and deferring, and a person has cleared the run.
    ti.try_number, ti.max_tries = 2, 1
    lost = ecs.add_earlier("one", "manual__1+00:00", PRODUCER_TASK)
    # Its containers have ended.
    ended = ecs.add_earlier("one", "manual__1+00:00", PRODUCER_TASK)
    ecs.earlier[ended] |= {"lastStatus": "DEPROVISIONING", "desiredStatus": "STOPPED"}
    ecs.add_earlier("one", "manual__2+00:00", PRODUCER_TASK)
    ecs.add_earlier("two", "manual__1+00:00", PRODUCER_TASK)
    start(producer, ti)
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": lost, "reason": "Airflow tries again"}]
    assert len(ecs.started) == 1


def test_audit_task_runs_in_ecs_and_waits_on_the_worker(
    producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = producer.dag.get_task("audit_dbt_task.audit_table_model_build")
    ti.dag_id, ti.task_id = "one", task.task_id
    context: Any = {"ti": ti, "task_instance": ti, "task": task, "run_id": "run", "kept_results": []}
    context |= {"dag_run": SimpleNamespace(run_id="run"), "dag": producer.dag}

    ecs.exit_code = 0
    task.execute(context)
    assert ti.xcoms[task.task_id, "dbt_results"] == {"results": [], "try_number": 1}
    assert ti.xcoms[task.task_id, "audit_built"]["release"]
    ecs.exit_code, ti.try_number = 1, 2
    with pytest.raises(compatibility.AirflowException, match="returned a non-zero exit code 1"):
        task.execute(context)
    # Its task of ECS has ended.
    task.on_kill()
    assert ecs.stopped == []


def test_ending_a_task_on_a_worker_waits_until_ecs_has_stopped_it(
    producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = producer.dag.get_task("audit_dbt_task.audit_table_model_build")
    ti.dag_id, ti.task_id = "one", task.task_id
    context: Any = {"ti": ti, "task_instance": ti, "task": task, "run_id": "run", "kept_results": []}
    context |= {"dag_run": SimpleNamespace(run_id="run"), "dag": producer.dag}

    def time_out(_: float) -> None:
        raise compatibility.AirflowTaskTimeout

    monkeypatch.setattr("mwaa_pipelines.ecs_progress.SECONDS_BETWEEN_LOOKS_AT_ECS", 0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mwaa_pipelines.ecs_operator.time", SimpleNamespace(sleep=time_out, time=time.time))
        with pytest.raises(compatibility.AirflowTaskTimeout):
            task.execute(context)
    assert ecs.stopped == []
    thread = threading.Thread(target=ecs.end_when_stopped, args=(0.5,))
    thread.start()
    # Airflow calls it.
    task.on_kill()
    assert ecs.task["lastStatus"] == "STOPPED"
    assert ecs.stopped[0]["reason"] == "The task in Airflow was ended"
    thread.join()


@pytest.mark.parametrize("setting", ["measure", "require"])
def test_sources_are_measured_in_ecs(
    ecs: FakeEcs,
    runs_bucket: str,
    ti: TaskInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed_dbt: Path,
    setting: str,
) -> None:
    monkeypatch.setattr("mwaa_pipelines.ecs_operator._SECONDS", 0.05)
    dag = bag(tmp_path, entries("one", one=f"{ECS}\n    source_freshness: {setting}")).dags["one"]
    task = dag.get_task("transform_data.source_freshness")
    ti.dag_id, ti.task_id = "one", task.task_id
    params = {"start": None, "end": None, "full_refresh": False, "select": [], "files": []}
    context: Any = {"ti": ti, "task_instance": ti, "task": task, "params": params, "run_id": "run"}
    context |= {"dag_run": SimpleNamespace(run_id="run"), "dag": dag}
    # A source is stale.
    ecs.exit_code = 1
    if setting == "require":
        with pytest.raises(compatibility.AirflowException, match="returned a non-zero exit code 1"):
            task.execute(context)
    else:
        task.execute(context)
    (job,) = ecs.jobs()
    assert job.command[:3] == ["source", "freshness", "--select"]
    assert "source:flights.landing.flights" in job.command[3]
    assert job.freshness_is_required == (setting == "require")
    assert job.environment["DBT_SOURCE_SEVERITY"] == ("error" if setting == "require" else "warn")
    assert ti.xcoms[task.task_id, "dbt_results"] == {"results": [], "try_number": 1}


def test_task_that_ecs_refuses_fails_the_producer(
    producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance
) -> None:
    ecs.failures = [{"reason": "Capacity is unavailable at this time."}]
    with pytest.raises(
        compatibility.AirflowFailException, match="in the cluster 'flights-dbt': Capacity is unavailable"
    ):
        producer.run_command(
            ["dbt", "build"], {}, {"ti": ti, "run_id": "run", "dag_run": SimpleNamespace(run_id="run")}
        )


def test_producer_ends_as_dbt_has_ended(producer: Any) -> None:
    producer.finish({}, {"exit_code": 0, "error": ""})
    with pytest.raises(compatibility.AirflowException, match="returned a non-zero exit code 1"):
        producer.finish({}, {"exit_code": 1, "error": ""})
    with pytest.raises(compatibility.AirflowException, match="dbt was killed"):
        producer.finish({}, {"exit_code": 137, "error": "dbt was killed"})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("execution_mode: ecs", "execution_mode: ecs needs the setting ecs, such as ecs: {cluster: shop-dbt}"),
        ("ecs: {cluster: a, cpu: 300}", "cpu must be one of 256, 512, 1024, 2048, 4096, 8192, 16384, not 300"),
        ("ecs: {cluster: a, cpu: 256, memory: 4096}", "memory must be one of 512, 1024, 2048 for cpu: 256"),
        ("ecs: {cluster: a, memroy: 4096}", "ecs.memroy: unknown setting. Did you mean 'memory'?"),
        ("ecs: {cpu: 256}", "ecs.cluster: Field required"),
    ],
)
def test_invalid_ecs_settings_are_named(tmp_path: Path, lines: str, words: str) -> None:
    (problem,) = config_file.read_pipelines(write(tmp_path, entries("one", one=lines))).problems
    assert words in problem


def test_older_airflow_rejects_ecs(tmp_path: Path) -> None:
    file = config_file.read_pipelines(write(tmp_path, entries("one", one=ECS)), airflow_version="3.2.1")
    assert file.pipelines == []
    assert "execution_mode: ecs needs Airflow 3.3 or newer, but this is Airflow 3.2.1. Use watcher" in file.problems[0]


def test_stored_dag_has_the_sensors_of_watcher(producer: Any) -> None:
    tasks = serialized(producer.dag)["dag"]["tasks"]
    kinds = {task["__var"]["task_id"]: task["__var"]["task_type"] for task in tasks}
    assert kinds[PRODUCER_TASK] == "EcsDbtProducerWatcherOperator"
    assert kinds["transform_data.departures.run"] == "RunSensor"
