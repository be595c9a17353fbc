"""execution_mode ecs: the producer starts a task of ECS and defers; the trigger hands over the news of the runner."""

import asyncio
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow import __version__
from botocore.exceptions import ClientError, EndpointConnectionError
from conftest import DAGS, DagBag, TaskDeferred, TaskInstance, entries, serialized, write

from mwaa_pipelines import compatibility, config_file
from mwaa_pipelines.ecs_task import started_by
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.stream import BatchWriter, batch_key, job_key, split_url
from mwaa_pipelines.task_ids import PRODUCER_TASK

IS_SUPPORTED = tuple(map(int, __version__.split(".")[:2])) >= (3, 3)
pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="needs Airflow 3.3")
ECS = "execution_mode: ecs\n    ecs: {cluster: flights-dbt, cpu: 512, memory: 1024}"
ARN = "arn:aws:ecs:us-east-1:123456789012:task/flights-dbt/0123456789abcdef"
SETTINGS = {
    "subnets": "subnet-a,subnet-b",
    "security_group": "sg-dbt",
    "task_definition": "flights-dbt",
    "log_group": "/ecs/flights-dbt",
    "projects": "s3://flights-mwaa/dags/dbt",
}


@pytest.fixture
def runs_bucket() -> Iterator[str]:
    """The bucket of the stack, with the stack's settings."""
    name = f"runs-{uuid.uuid4()}"
    bucket = boto3.resource("s3").create_bucket(Bucket=name)
    value = json.dumps({**SETTINGS, "bucket": name})
    boto3.client("ssm").put_parameter(Name="/ecs/flights-dbt", Value=value, Type="String")
    yield name
    boto3.client("ssm").delete_parameter(Name="/ecs/flights-dbt")
    bucket.objects.delete()
    bucket.delete()


class FakeEcs:
    """Answers calls of ECS as told, and notes them. The stand-in for ECS has tests of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[dict[str, Any]] = []
        self.stopped: list[dict[str, Any]] = []
        self.task: dict[str, Any] | None = {"lastStatus": "RUNNING"}
        # Tasks that were started before, by their ARN.
        self.earlier: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, str]] = []
        # How often StopTask fails.
        self.stop_errors = 0
        self.exit_code = 0
        client = boto3.client
        monkeypatch.setattr(boto3, "client", lambda name: self if name == "ecs" else client(name))

    def run_task(self, **parameters: Any) -> dict[str, Any]:
        self.started.append(parameters)
        return {"tasks": [] if self.failures else [{"taskArn": ARN}], "failures": self.failures}

    def describe_tasks(self, cluster: str, tasks: list[str]) -> dict[str, Any]:
        assert cluster == "flights-dbt"
        known = {**self.earlier, ARN: self.task}
        return {"tasks": [known[arn] for arn in tasks if known[arn]]}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_tasks"
        return SimpleNamespace(paginate=self._pages)

    def _pages(self, cluster: str, desiredStatus: str) -> list[dict[str, list[str]]]:  # noqa: N803 - of the API
        assert cluster == "flights-dbt"
        return [{"taskArns": [arn for arn, task in self.earlier.items() if task["desiredStatus"] == desiredStatus]}]

    def add_earlier(self, *task_of_airflow: str) -> str:
        """Add a running task that an earlier try of a task has started, and return its ARN."""
        arn = f"{ARN}-{len(self.earlier)}"
        running = {"taskArn": arn, "lastStatus": "RUNNING", "desiredStatus": "RUNNING"}
        self.earlier[arn] = {**running, "startedBy": started_by(*task_of_airflow)}
        return arn

    def stop_task(self, **parameters: Any) -> None:
        if self.stop_errors:
            self.stop_errors -= 1
            raise EndpointConnectionError(endpoint_url="http://ecs")
        self.stopped.append(parameters)
        if earlier := self.earlier.get(parameters["task"]):
            earlier |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
            return
        self.task = {**(self.task or {}), "desiredStatus": "STOPPED"}

    def wait_for_stop(self) -> None:
        until = time.monotonic() + 5
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.05)

    def end_when_stopped(self, seconds: float = 0.0) -> None:
        """Wait for StopTask, and then end the task after some seconds, as one that needs them to handle SIGTERM."""
        self.wait_for_stop()
        time.sleep(seconds)
        self.task = {**(self.task or {}), "lastStatus": "STOPPED", "stopCode": "UserInitiated"}


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> FakeEcs:
    return FakeEcs(monkeypatch)


@pytest.fixture
def producer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed_dbt: Path) -> Any:
    """The producer of a pipeline that Airflow has parsed."""
    (tmp_path / "pipelines.py").write_text((DAGS / "pipelines.py").read_text())
    write(tmp_path, entries("one", one=f"{ECS}\n    task_timeout_minutes: 10"))
    bag = DagBag(str(tmp_path / "pipelines.py"))
    assert bag.import_errors == {}
    monkeypatch.setenv("AIRFLOW__DBT__KEPT_RESULTS", "s3://flights-mwaa/kept_results")
    return bag.dags["one"].get_task(PRODUCER_TASK)


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
    prefix = url.removeprefix(f"s3://{runs_bucket}/")
    content = boto3.client("s3").get_object(Bucket=runs_bucket, Key=job_key(prefix))["Body"].read()
    job = Job.from_json(content)
    assert job.command[:2] == ["build", "--select"]
    assert {"--full-refresh", "--exclude", "json"} <= set(job.command)
    assert "tag:mart" in job.command[2]
    release_id = (DAGS / "dbt" / "flights" / "CURRENT").read_text().strip()
    assert (job.project_name, job.release_id, job.projects) == ("flights", release_id, SETTINGS["projects"])
    assert (job.conn_id, job.connection_secret) == ("redshift_one", "airflow/connections/redshift_one")
    assert (job.kept_results, job.memory) == ("s3://flights-mwaa/kept_results", 1024)
    assert job.tests_per_model == producer.tests_per_model
    assert job.environment["DBT_RELEASE_ID"] == release_id
    assert job.environment["AIRFLOW_CTX_DAG_ID"] == "one"
    # The worker's own environment can have secrets.
    assert "PATH" not in job.environment


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
    ti.dag_id, ti.task_id = "one", PRODUCER_TASK
    # Its worker was lost between RunTask and deferring.
    lost = ecs.add_earlier("one", "manual__1+00:00", PRODUCER_TASK)
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

    def run_task(**parameters: Any) -> dict[str, Any]:
        url = parameters["overrides"]["containerOverrides"][0]["environment"][0]["value"]
        writer = BatchWriter(boto3.client("s3"), url)
        writer.push("dbt_results", {"results": []})
        writer.close(ecs.exit_code)
        return {"tasks": [{"taskArn": ARN}]}

    monkeypatch.setattr(ecs, "run_task", run_task)
    monkeypatch.setattr("mwaa_pipelines.ecs_operator._SECONDS", 0.05)
    ecs.exit_code = 0
    task.execute(context)
    assert ti.xcoms[task.task_id, "dbt_results"] == {"results": []}
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


def test_retry_of_a_node_runs_in_ecs(
    producer: Any, ecs: FakeEcs, runs_bucket: str, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = producer.dag.get_task("transform_data.departures.run")
    ti.dag_id, ti.task_id, sensor.try_number = "one", sensor.task_id, 2
    params = {"start": None, "end": None, "full_refresh": False, "select": [], "files": []}
    context: Any = {"ti": ti, "task_instance": ti, "task": sensor, "params": params, "run_id": "run"}
    context |= {"dag_run": SimpleNamespace(run_id="run"), "dag": producer.dag}
    jobs = []

    def run_task(**parameters: Any) -> dict[str, Any]:
        url = parameters["overrides"]["containerOverrides"][0]["environment"][0]["value"]
        bucket, prefix = split_url(url)
        jobs.append(Job.from_json(boto3.client("s3").get_object(Bucket=bucket, Key=job_key(prefix))["Body"].read()))
        BatchWriter(boto3.client("s3"), url).close(0)
        return {"tasks": [{"taskArn": ARN}]}

    monkeypatch.setattr("mwaa_pipelines.ecs_task._SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(ecs, "run_task", run_task)
    # The producer was lost, but its dbt goes on; another node runs again at the same time.
    leftovers = [ecs.add_earlier("one", "run", task_id) for task_id in (sensor.task_id, PRODUCER_TASK)]
    ecs.add_earlier("one", "run", "transform_data.delays.run")
    sensor.run_node(context, sensor.select)
    assert [request["task"] for request in ecs.stopped] == leftovers
    (job,) = jobs
    assert job.command[:2] == ["run", "--select"]
    assert "departures" in job.command[2]
    assert (job.dag_id, job.task_id, job.try_number) == ("one", sensor.task_id, 2)
    # Only the task that builds all nodes reports them one by one.
    assert job.tests_per_model is None
    assert job.environment["AIRFLOW_CTX_TRY_NUMBER"] == "2"


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


class Waiting:
    """A trigger that waits for a task, and the XComs that it has pushed."""

    def __init__(self, bucket: str, monkeypatch: pytest.MonkeyPatch, deadline: float | None = None) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        from mwaa_pipelines import ecs_progress, ecs_trigger

        self.url, self.xcoms = f"s3://{bucket}/one/{uuid.uuid4()}", {}
        self.trigger = ecs_trigger.EcsTrigger(task_arn=ARN, url=self.url, memory=1024, deadline=deadline)
        self.trigger.task_instance = SimpleNamespace(dag_id="one", run_id="run", task_id=PRODUCER_TASK, map_index=-1)
        monkeypatch.setattr(XCom, "set", self._set)
        monkeypatch.setattr(ecs_trigger, "_SECONDS", 0.05)
        monkeypatch.setattr(ecs_progress, "SECONDS_BETWEEN_LOOKS_AT_ECS", 0.05)
        monkeypatch.setattr(ecs_progress, "LOST_SECONDS", 1.0)

    def _set(self, key: str, value: Any, **of: Any) -> None:
        assert of == {"dag_id": "one", "run_id": "run", "task_id": PRODUCER_TASK, "map_index": -1}
        self.xcoms[key] = value

    def event(self, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
        async def first() -> Any:
            self.event_task = asyncio.ensure_future(anext(self.trigger.run()))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(meanwhile)
            return (await asyncio.wait_for(self.event_task, 10)).payload

        return asyncio.run(first())


@pytest.fixture
def waiting(runs_bucket: str, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    return Waiting(runs_bucket, monkeypatch)


def test_trigger_hands_over_xcoms_until_the_runner_ends(waiting: Waiting, caplog: pytest.LogCaptureFixture) -> None:
    writer = BatchWriter(boto3.client("s3"), waiting.url)
    caplog.set_level("INFO")

    def work() -> None:
        writer.push("dbt_outcomes_0", {"model.p.a": {"status": "success", "lines": []}})
        writer.add_line("1 of 2 OK")
        writer.push("dbt_outcomes_0", {"model.p.a": {}, "model.p.b": {}})
        writer.close(1, "")

    assert waiting.event(work) == {"exit_code": 1, "error": ""}
    assert waiting.xcoms == {"dbt_outcomes_0": {"model.p.a": {}, "model.p.b": {}}}
    assert {"ECS task: RUNNING", "1 of 2 OK"} <= set(caplog.messages)


def test_stopped_task_is_explained_after_its_last_news(waiting: Waiting, ecs: FakeEcs, runs_bucket: str) -> None:
    ecs.task = {
        "lastStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "x",
        "containers": [{"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"}],
    }
    prefix = waiting.url.removeprefix(f"s3://{runs_bucket}/")
    body = json.dumps({"lines": [], "xcoms": {"a": 1}, "exit_code": None, "error": ""})
    boto3.client("s3").put_object(Bucket=runs_bucket, Key=batch_key(prefix, 0), Body=body)
    event = waiting.event()
    assert event["exit_code"] == 1
    assert "needs more than its memory, 1024 MiB" in event["error"]
    assert waiting.xcoms == {"a": 1}


@pytest.mark.parametrize(
    ("code", "words"),
    [("UserInitiated", "somebody stopped the task: Patching. "), ("TerminationNotice", "AWS stopped the task (Termin")],
)
def test_stopped_runner_is_explained_by_ecs(waiting: Waiting, ecs: FakeEcs, code: str, words: str) -> None:
    def stop() -> None:
        ecs.task = {"lastStatus": "DEPROVISIONING", "stopCode": code, "stoppedReason": "Patching."}
        BatchWriter(boto3.client("s3"), waiting.url).close(1, "dbt was stopped")

    event = waiting.event(stop)
    assert event["error"].startswith(words)
    assert event["error"].endswith(". dbt was stopped")


def test_task_that_ecs_has_forgotten_is_an_error(waiting: Waiting, ecs: FakeEcs) -> None:
    ecs.task = None
    assert "ECS does not know the task any more" in waiting.event()["error"]


def test_aws_that_does_not_answer_is_not_a_lost_task(
    waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mwaa_pipelines import ecs_progress

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://ecs")

    monkeypatch.setattr(ecs_progress, "UNANSWERED_SECONDS", 2.0)
    monkeypatch.setattr(ecs, "describe_tasks", fail)
    started = time.monotonic()
    assert waiting.event()["error"].startswith("AWS did not answer for 0 minutes: Could not connect")
    # Longer than a task may be silent.
    assert time.monotonic() - started > 2
    assert ecs.stopped == []


def test_silent_task_has_an_outcome_once_it_has_stopped(waiting: Waiting, ecs: FakeEcs) -> None:
    def stop() -> None:
        ecs.end_when_stopped(0.5)
        has_outcome.append(waiting.event_task.done())

    has_outcome: list[bool] = []
    assert "gave no sign of life for 1 seconds, and was stopped. Clear" in waiting.event(stop)["error"]
    assert has_outcome == [False]
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": ARN, "reason": "No sign of life"}]


def test_task_that_does_not_stop_is_given_up(waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.ecs_progress.STOP_SECONDS", 1.0)
    started = time.monotonic()
    assert waiting.event()["error"].endswith("run the rest. But ECS has not stopped it within 1 seconds")
    assert time.monotonic() - started > 2


def test_failed_call_to_stop_a_lost_task_is_repeated(waiting: Waiting, ecs: FakeEcs) -> None:
    ecs.stop_errors = 2
    assert "was stopped. Clear" in waiting.event(ecs.end_when_stopped)["error"]
    assert (len(ecs.stopped), ecs.stop_errors) == (1, 0)


@pytest.mark.parametrize(
    ("exit_code", "error", "words"),
    [(1, "dbt was stopped", "gave no sign of life .*to run the rest. dbt was stopped$"), (0, "", "^$")],
)
def test_lost_task_that_comes_back_reports_its_results(
    waiting: Waiting, ecs: FakeEcs, exit_code: int, error: str, words: str
) -> None:
    def come_back() -> None:
        ecs.wait_for_stop()
        writer = BatchWriter(boto3.client("s3"), waiting.url)
        writer.push("dbt_results", {"results": []})
        writer.close(exit_code, error)

    event = waiting.event(come_back)
    assert event["exit_code"] == exit_code
    assert re.search(words, event["error"])
    assert waiting.xcoms == {"dbt_results": {"results": []}}


def test_task_that_cannot_be_followed_is_stopped(
    waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")

    monkeypatch.setattr("mwaa_pipelines.runner.stream.BatchReader.read", deny)
    assert "Airflow cannot follow the task" in waiting.event(ecs.end_when_stopped)["error"]
    assert len(ecs.stopped) == 1


def test_task_beyond_its_time_limit_is_stopped(runs_bucket: str, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        ecs.end_when_stopped(0.5)
        has_outcome.append(waiting.event_task.done())

    has_outcome: list[bool] = []
    waiting = Waiting(runs_bucket, monkeypatch, deadline=time.time() + 1)
    ecs.task = {"lastStatus": "PENDING"}
    assert "was stopped, because it took longer than task_timeout_minutes" in waiting.event(stop)["error"]
    assert has_outcome == [False]
    assert ecs.stopped[0]["reason"] == "Time limit of the task in Airflow"


def test_task_that_is_still_starting_is_not_lost(waiting: Waiting, ecs: FakeEcs) -> None:
    ecs.task = {"lastStatus": "PROVISIONING"}

    def start_late() -> None:
        time.sleep(1.5)
        BatchWriter(boto3.client("s3"), waiting.url).close(0)

    assert waiting.event(start_late) == {"exit_code": 0, "error": ""}
    assert ecs.stopped == []


def test_ending_the_airflow_task_stops_the_ecs_task(waiting: Waiting, ecs: FakeEcs) -> None:
    asyncio.run(waiting.trigger.on_kill())
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": ARN, "reason": "The task in Airflow was ended"}]


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
