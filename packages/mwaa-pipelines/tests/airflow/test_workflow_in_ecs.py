"""Tasks of a workflow of MWAA Serverless that run dbt in ECS."""

import dataclasses
import logging
import os
import signal
import threading
import time
from typing import Any

import boto3
import pytest
from ecs_run import ARN, FakeEcs

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import started_by
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.outcome import Outcome
from mwaa_pipelines.runner.stream import BatchWriter
from mwaa_pipelines.serverless.ecs_run import run_job_in_ecs

LARGE = Ecs(cluster="flights-dbt", cpu=2048, memory=8192)
JOB = Job(
    dag_id="flights_pipeline",
    run_id="manual__1",
    task_id="transform_data",
    try_number=2,
    projects="s3://flights-mwaa/dags/dbt",
    project_name="flights",
    release_id="20260101T000000Z-1111111",
    command=["build"],
    conn_id="flights_redshift",
    connection_secret="airflow/connections/flights_redshift",
    secret_name="flights/dbt_user",
    profile_args={"schema": "analytics"},
    watched_together=None,
    kept_results="s3://flights-mwaa/kept_results",
    memory=3072,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.serverless.ecs_run._SECONDS", 0.05)
    monkeypatch.setattr("mwaa_pipelines.ecs_progress._SECONDS", 0.05)
    monkeypatch.setattr("mwaa_pipelines.ecs_progress.SECONDS_BETWEEN_LOOKS_AT_ECS", 0.05)
    monkeypatch.setattr("mwaa_pipelines.ecs_task._SECONDS_BETWEEN_LOOKS", 0.05)


def _run() -> tuple[Outcome, dict[str, Any]]:
    xcoms: dict[str, Any] = {}
    return run_job_in_ecs(LARGE, JOB, xcoms.__setitem__), xcoms


def test_task_of_ecs_gets_the_job_and_its_size(ecs: FakeEcs, runs_bucket: str) -> None:
    ecs.exit_code = 1
    assert _run() == (Outcome(1), {"dbt_results": {"results": [], "try_number": 1}})
    (request,) = ecs.started
    assert {name: request["overrides"][name] for name in ("cpu", "memory")} == {"cpu": "2048", "memory": "8192"}
    assert request["startedBy"] == started_by("flights_pipeline", "manual__1", "transform_data")
    parsed = f"s3://{runs_bucket}/parsed/flights_pipeline/20260101T000000Z-1111111.msgpack"
    assert ecs.jobs() == [dataclasses.replace(JOB, parsed=parsed, memory=8192)]


def test_retry_stops_the_task_of_the_earlier_try_first(ecs: FakeEcs, runs_bucket: str) -> None:
    lost = ecs.add_earlier("flights_pipeline", "manual__1", "transform_data")
    ecs.add_earlier("flights_pipeline", "manual__2", "transform_data")
    ecs.exit_code = 0
    assert _run()[0] == Outcome(0)
    assert [request["task"] for request in ecs.stopped] == [lost]


def test_killed_task_says_how_to_raise_its_memory(ecs: FakeEcs, runs_bucket: str) -> None:
    ecs.task = {"lastStatus": "STOPPED", "stoppedReason": "OutOfMemoryError: Container killed due to memory usage"}
    outcome, _ = _run()
    assert "needs more than its memory, 8192 MiB. Raise memory under ecs" in outcome.error


def test_sigterm_stops_the_task_and_hands_over_its_results(
    ecs: FakeEcs, runs_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def end() -> None:
        ecs.wait_for_start()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)
        ecs.wait_for_stop()
        # The runner handles its SIGTERM.
        writer = BatchWriter(boto3.client("s3"), ecs.url())
        writer.add_line("Cancelled")
        writer.push("dbt_results", {"results": []})
        writer.close(130, "dbt was stopped")

    thread, xcoms = threading.Thread(target=end), {}
    thread.start()
    with pytest.raises(AirflowFailException, match="the task was ended before dbt had built everything"):
        run_job_in_ecs(LARGE, JOB, xcoms.__setitem__)
    thread.join()
    assert ecs.stopped == [{"cluster": "flights-dbt", "task": ARN, "reason": "The task in Airflow was ended"}]
    assert xcoms == {"dbt_results": {"results": []}}
    assert "Cancelled" in caplog.messages
