"""execution_mode ecs: the retries of models and tests run in tasks of ECS, and leave no dbt behind."""

import json
import threading
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.sdk.execution_time.context import set_current_context
from botocore.exceptions import EndpointConnectionError
from conftest import TaskDeferred, TaskInstance, serialized
from ecs_run import ARN, IS_SUPPORTED, FakeEcs
from sensor_run import PRODUCER

from mwaa_pipelines import compatibility, folders
from mwaa_pipelines.lost_worker import end_lost_dbt
from mwaa_pipelines.node_ids import CHOSEN
from mwaa_pipelines.run_outcome import check_dbt
from mwaa_pipelines.runner.stream import job_key, split_url

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="needs Airflow 3.3")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.ecs_operator._SECONDS", 0.05)
    monkeypatch.setattr("mwaa_pipelines.ecs_task._SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr("mwaa_pipelines.ecs_progress.SECONDS_BETWEEN_LOOKS_AT_ECS", 0.05)


@pytest.fixture
def sensor(producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance) -> Any:
    """The task of a model. Its upstream tasks have succeeded, and the producer has failed."""
    task = producer.dag.get_task("transform_data.departures.run")
    ti.dag_id, ti.task_id = "one", task.task_id
    ti.states |= dict.fromkeys(task.upstream_task_ids, "success")
    ti.states[PRODUCER] = "failed"
    return task


def context_of(task: Any, ti: TaskInstance) -> Any:
    params = {"start": None, "end": None, "full_refresh": False, "select": [], "files": []}
    of_run = {"params": params, "run_id": "run", "dag_run": SimpleNamespace(run_id="run"), "dag": task.dag}
    return {"ti": ti, "task_instance": ti, "task": task, **of_run}


def test_retry_of_a_model_runs_in_ecs(sensor: Any, ecs: FakeEcs, ti: TaskInstance) -> None:
    ecs.exit_code = 0
    # The producer was lost, but its dbt goes on; another node runs again at the same time.
    leftovers = [ecs.add_earlier("one", "run", task_id) for task_id in (sensor.task_id, PRODUCER)]
    ecs.add_earlier("one", "run", "transform_data.delays.run")
    sensor.resume_on_worker(context_of(sensor, ti), {"attempt": 2})
    assert [request["task"] for request in ecs.stopped] == leftovers
    (job,) = ecs.jobs()
    assert job.command[:2] == ["run", "--select"]
    assert "departures" in job.command[2]
    assert (job.dag_id, job.task_id, job.try_number) == ("one", sensor.task_id, 2)
    # Only the task that builds all nodes reports them one by one.
    assert job.watched_together is None
    assert job.environment["AIRFLOW_CTX_TRY_NUMBER"] == "2"


def test_failed_attempt_is_followed_by_another_until_the_last(
    sensor: Any, ecs: FakeEcs, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(type(sensor), "_wait", lambda _self, _context, attempt: waits.append(attempt))
    monkeypatch.setattr(sensor, "node_retries", 2)
    ecs.exit_code = 1
    sensor.resume_on_worker(context_of(sensor, ti), {"attempt": 2})
    assert (waits, len(ecs.started)) == ([3], 1)
    with pytest.raises(compatibility.AirflowException, match="returned a non-zero exit code 1"):
        sensor.resume_on_worker(context_of(sensor, ti), {"attempt": 3})
    assert (waits, len(ecs.started)) == ([3], 2)
    assert [job.try_number for job in ecs.jobs()] == [2, 3]


def test_ending_a_retry_stops_its_task(
    sensor: Any, ecs: FakeEcs, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mwaa_pipelines.ecs_operator.time", SimpleNamespace(sleep=end))
        with pytest.raises(KeyboardInterrupt):
            sensor.resume_on_worker(context_of(sensor, ti), {"attempt": 2})
    thread = threading.Thread(target=ecs.end_when_stopped, args=(0.2,))
    thread.start()
    # Airflow calls it.
    sensor.on_kill()
    thread.join()
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": ARN, "reason": "The task in Airflow was ended"}]
    assert ecs.task["lastStatus"] == "STOPPED"


def test_retry_that_takes_too_long_has_stopped_before_the_next_one(
    sensor: Any, ecs: FakeEcs, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(_: float) -> None:
        raise compatibility.AirflowTaskTimeout

    states: list[str] = []
    monkeypatch.setattr(type(sensor), "_wait", lambda *_, **__: states.append(ecs.task["lastStatus"]))
    monkeypatch.setattr(sensor, "node_retries", 2)
    monkeypatch.setattr("mwaa_pipelines.ecs_operator.time", SimpleNamespace(sleep=time_out))
    thread = threading.Thread(target=ecs.end_when_stopped, args=(0.2,))
    thread.start()
    sensor.resume_on_worker(context_of(sensor, ti), {"attempt": 2})
    thread.join()
    assert states == ["STOPPED"]


def test_retry_of_the_tests_of_a_model_runs_in_ecs(
    sensor: Any, ecs: FakeEcs, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = sensor.dag.get_task("transform_data.departures.test")
    ti.task_id = tests.task_id
    # All models are built.
    ti.states |= {task.task_id: "success" for task in sensor.dag.tasks if task.task_id.endswith(".run")}
    ecs.exit_code = 0
    tests.resume_on_worker(context_of(tests, ti), {"attempt": 2})
    (job,) = ecs.jobs()
    assert job.command[:2] == ["test", "--select"]
    assert "departures" in " ".join(job.command[2:])
    assert (job.task_id, job.try_number, job.watched_together) == (tests.task_id, 2, None)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pipeline have a task for each folder."""
    monkeypatch.setattr(folders, "MOST_TASKS", 10)


@pytest.mark.usefixtures("runs_bucket")
def test_ids_of_the_nodes_of_a_folder_are_sent_to_ecs(
    large: None, producer: Any, ecs: FakeEcs, ti: TaskInstance
) -> None:
    marts = producer.dag.get_task("transform_data.models.marts")
    ti.dag_id, ti.task_id = "one", marts.task_id
    ecs.exit_code = 0
    marts.resume_on_worker(context_of(marts, ti), {"attempt": 2})
    (job,) = ecs.jobs()
    assert job.command == ["build", "--indirect-selection", "empty", "--select", CHOSEN]
    assert job.selected_ids == {CHOSEN: marts.node_ids}


def test_failed_run_leaves_no_dbt_in_ecs(sensor: Any, ecs: FakeEcs, ti: TaskInstance) -> None:
    check_task = sensor.dag.get_task("dbt_check")
    ti.task_id = check_task.task_id
    context = context_of(check_task, ti) | {"dag_run": SimpleNamespace(run_id="run", logical_date=None)}
    lost = [ecs.add_earlier("one", "run", task_id) for task_id in (PRODUCER, sensor.task_id)]
    ecs.add_earlier("one", "next", PRODUCER)
    ti.states = {task.task_id: "success" for task in sensor.dag.tasks}
    with set_current_context(context):
        check_dbt("20260101T000000Z-aaaaaaa", alerts=False, warnings="ignore")
    assert ecs.stopped == []
    ti.states[PRODUCER] = "failed"
    with set_current_context(context), pytest.raises(compatibility.AirflowFailException, match=PRODUCER):
        check_dbt("20260101T000000Z-aaaaaaa", alerts=False, warnings="ignore")
    assert {request["task"] for request in ecs.stopped} == set(lost)


def test_report_does_not_need_ecs(
    sensor: Any, ecs: FakeEcs, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> None:
        raise EndpointConnectionError(endpoint_url="http://ecs")

    monkeypatch.setattr(ecs, "get_paginator", fail)
    end_lost_dbt(context_of(sensor, ti), {PRODUCER: sensor.dag.get_task(PRODUCER)}, {PRODUCER: "failed"})
    assert "dbt may still run in ECS" in caplog.text


def test_no_secret_is_stored(
    sensor: Any, ecs: FakeEcs, ti: TaskInstance, redshift: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the stored DAG, nor in jobs, requests to ECS and the arguments of the trigger."""
    monkeypatch.setenv("AIRFLOW_CONN_REDSHIFT_ONE", "redshift://login-of-conn:Pa55-two@cluster.example:5439/dev")
    producer = sensor.dag.get_task(PRODUCER)
    stored = [json.dumps(serialized(sensor.dag), default=str)]
    ti.task_id = PRODUCER
    with pytest.raises(TaskDeferred) as deferred:
        producer.run_command(["dbt", "build"], {}, context_of(producer, ti))
    stored.append(json.dumps(deferred.value.trigger.serialize()))
    ecs.exit_code, ti.task_id = 0, sensor.task_id
    sensor.resume_on_worker(context_of(sensor, ti), {"attempt": 2})
    stored.append(json.dumps(ecs.started))
    assert len(ecs.started) == 2
    for request in ecs.started:
        (container,) = request["overrides"]["containerOverrides"]
        bucket, prefix = split_url(container["environment"][0]["value"])
        stored.append(boto3.client("s3").get_object(Bucket=bucket, Key=job_key(prefix))["Body"].read().decode())
    for text in stored:
        for secret in ("Pa55", "login-of-conn", "cluster.example"):
            assert secret not in text
