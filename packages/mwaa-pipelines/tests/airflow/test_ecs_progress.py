"""The trigger follows a task of ECS: it hands over the news of the runner, and stops a task that is lost or late."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from botocore.exceptions import ClientError, EndpointConnectionError
from ecs_run import ARN, IS_SUPPORTED, FakeEcs

from mwaa_pipelines.runner.stream import BatchWriter, batch_key
from mwaa_pipelines.task_ids import PRODUCER_TASK

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="needs Airflow 3.3")


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
        monkeypatch.setattr(ecs_progress, "NEW_SECONDS", 1.0)

    def _set(self, key: str, value: Any, **of: Any) -> None:
        assert of == {"dag_id": "one", "run_id": "run", "task_id": PRODUCER_TASK, "map_index": -1}
        self.xcoms[key] = value

    def event(self, meanwhile: Callable[[], None] = lambda: None) -> Any:
        async def first() -> Any:
            self.event_task = asyncio.ensure_future(anext(self.trigger.run()))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(meanwhile)
            return await asyncio.wait_for(self.event_task, 10)

        return asyncio.run(first())

    def failure(self, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Wait until Airflow continues the task on a worker, and return the event that it gets."""
        event = self.event(meanwhile)
        assert type(event) is TriggerEvent
        return event.payload


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

    assert waiting.failure(work) == {"exit_code": 1, "error": ""}
    assert waiting.xcoms == {"dbt_outcomes_0": {"model.p.a": {}, "model.p.b": {}}}
    assert {"ECS task: RUNNING", "1 of 2 OK"} <= set(caplog.messages)


def test_last_lines_of_dbt_are_one_message(
    waiting: Waiting, runs_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    prefix = waiting.url.removeprefix(f"s3://{runs_bucket}/")
    body = json.dumps({"lines": ["2 of 2 OK", "Completed successfully"], "xcoms": {}, "exit_code": 0, "error": ""})
    boto3.client("s3").put_object(Bucket=runs_bucket, Key=batch_key(prefix, 0), Body=body)
    assert waiting.event() == TaskSuccessEvent()
    assert "2 of 2 OK\nCompleted successfully" in caplog.messages


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
    event = waiting.failure()
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

    event = waiting.failure(stop)
    assert event["error"].startswith(words)
    assert event["error"].endswith(". dbt was stopped")


def test_error_of_the_runner_is_kept_if_ecs_does_not_answer(
    waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://ecs")

    def end() -> None:
        monkeypatch.setattr(ecs, "describe_tasks", fail)
        BatchWriter(boto3.client("s3"), waiting.url).close(3, "release.json is missing")

    # Only the look for an explanation fails.
    monkeypatch.setattr("mwaa_pipelines.ecs_progress.SECONDS_BETWEEN_LOOKS_AT_ECS", 60.0)
    assert waiting.failure(end) == {"exit_code": 3, "error": "release.json is missing"}


def test_task_that_ecs_has_forgotten_is_an_error(waiting: Waiting, ecs: FakeEcs) -> None:
    ecs.task = None
    assert "ECS does not know the task any more" in waiting.failure()["error"]


def test_task_that_ecs_does_not_show_yet_is_no_error(waiting: Waiting, ecs: FakeEcs) -> None:
    def appear() -> None:
        time.sleep(0.3)
        ecs.task = {"lastStatus": "RUNNING"}
        BatchWriter(boto3.client("s3"), waiting.url).close(0)

    ecs.task = None
    assert waiting.event(appear) == TaskSuccessEvent()


def test_aws_that_does_not_answer_is_not_a_lost_task(
    waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mwaa_pipelines import ecs_progress

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://ecs")

    monkeypatch.setattr(ecs_progress, "UNANSWERED_SECONDS", 2.0)
    monkeypatch.setattr(ecs, "describe_tasks", fail)
    started = time.monotonic()
    assert waiting.failure()["error"].startswith("AWS did not answer for 0 minutes: Could not connect")
    # Longer than a task may be silent.
    assert time.monotonic() - started > 2
    assert ecs.stopped == []


def test_silent_task_has_an_outcome_once_it_has_stopped(waiting: Waiting, ecs: FakeEcs) -> None:
    def stop() -> None:
        ecs.end_when_stopped(0.5)
        has_outcome.append(waiting.event_task.done())

    has_outcome: list[bool] = []
    assert "gave no sign of life for 1 seconds, and was stopped. Clear" in waiting.failure(stop)["error"]
    assert has_outcome == [False]
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": ARN, "reason": "No sign of life"}]


def test_task_that_does_not_stop_is_given_up(waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.ecs_progress.STOP_SECONDS", 1.0)
    started = time.monotonic()
    assert waiting.failure()["error"].endswith("run the rest. But ECS has not stopped it within 1 seconds")
    assert time.monotonic() - started > 2


def test_failed_call_to_stop_a_lost_task_is_repeated(waiting: Waiting, ecs: FakeEcs) -> None:
    ecs.stop_errors = 2
    assert "was stopped. Clear" in waiting.failure(ecs.end_when_stopped)["error"]
    assert (len(ecs.stopped), ecs.stop_errors) == (1, 0)


@pytest.mark.parametrize(("exit_code", "error"), [(1, "dbt was stopped"), (0, "")])
def test_lost_task_that_comes_back_reports_its_results(
    waiting: Waiting, ecs: FakeEcs, exit_code: int, error: str
) -> None:
    def come_back() -> None:
        ecs.wait_for_stop()
        writer = BatchWriter(boto3.client("s3"), waiting.url)
        writer.push("dbt_results", {"results": []})
        writer.close(exit_code, error)

    event = waiting.event(come_back)
    assert waiting.xcoms == {"dbt_results": {"results": []}}
    if error:
        assert re.search("gave no sign of life .*to run the rest. dbt was stopped$", event.payload["error"])
    else:
        assert event == TaskSuccessEvent()


def test_task_that_cannot_be_followed_is_stopped(
    waiting: Waiting, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")

    monkeypatch.setattr("mwaa_pipelines.runner.stream.BatchReader.read", deny)
    assert "Airflow cannot follow the task" in waiting.failure(ecs.end_when_stopped)["error"]
    assert len(ecs.stopped) == 1


def test_task_beyond_its_time_limit_is_stopped(runs_bucket: str, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        ecs.end_when_stopped(0.5)
        has_outcome.append(waiting.event_task.done())

    has_outcome: list[bool] = []
    waiting = Waiting(runs_bucket, monkeypatch, deadline=time.time() + 1)
    ecs.task = {"lastStatus": "PENDING"}
    assert "was stopped, because it took longer than task_timeout_minutes" in waiting.failure(stop)["error"]
    assert has_outcome == [False]
    assert ecs.stopped[0]["reason"] == "Time limit of the task in Airflow"


def test_task_that_is_still_starting_is_not_lost(waiting: Waiting, ecs: FakeEcs) -> None:
    ecs.task = {"lastStatus": "PROVISIONING"}

    def start_late() -> None:
        time.sleep(1.5)
        BatchWriter(boto3.client("s3"), waiting.url).close(0)

    assert waiting.event(start_late) == TaskSuccessEvent()
    assert ecs.stopped == []


def test_ending_the_airflow_task_stops_the_ecs_task(waiting: Waiting, ecs: FakeEcs) -> None:
    asyncio.run(waiting.trigger.on_kill())
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": ARN, "reason": "The task in Airflow was ended"}]
