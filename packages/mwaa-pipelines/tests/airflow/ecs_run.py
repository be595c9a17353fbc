"""Helpers of the tests with execution_mode ecs: an ECS that answers as told."""

import json
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow import __version__
from botocore.exceptions import EndpointConnectionError

from mwaa_pipelines.ecs_task import started_by
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.stream import BatchWriter, job_key, split_url

IS_SUPPORTED = tuple(map(int, __version__.split(".")[:2])) >= (3, 3)
ECS = "execution_mode: ecs\n    ecs: {cluster: flights-dbt, cpu: 512, memory: 1024}"
ARN = "arn:aws:ecs:us-east-1:123456789012:task/flights-dbt/0123456789abcdef"
SETTINGS = {
    "subnets": "subnet-a,subnet-b",
    "security_group": "sg-dbt",
    "task_definition": "flights-dbt",
    "log_group": "/ecs/flights-dbt",
    "projects": "s3://flights-mwaa/dags/dbt",
}


def stack_bucket() -> Iterator[str]:
    """Create the bucket of the stack and the stack's settings, and delete them at the end."""
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
        # How often tasks were listed.
        self.listings = 0
        self.failures: list[dict[str, str]] = []
        # How often StopTask fails.
        self.stop_errors = 0
        # If set, the runner of each task ends with it at once.
        self.exit_code: int | None = None
        client = boto3.client
        monkeypatch.setattr(boto3, "client", lambda name: self if name == "ecs" else client(name))

    def run_task(self, **parameters: Any) -> dict[str, Any]:
        self.started.append(parameters)
        if self.exit_code is not None:
            writer = BatchWriter(boto3.client("s3"), _url(parameters))
            writer.push("dbt_results", {"results": [], "try_number": 1})
            writer.close(self.exit_code)
        return {"tasks": [] if self.failures else [{"taskArn": ARN}], "failures": self.failures}

    def jobs(self) -> list[Job]:
        """Return the jobs of the started tasks."""
        places = [split_url(_url(parameters)) for parameters in self.started]
        s3_client = boto3.client("s3")
        return [
            Job.from_json(s3_client.get_object(Bucket=bucket, Key=job_key(prefix))["Body"].read())
            for bucket, prefix in places
        ]

    def describe_tasks(self, cluster: str, tasks: list[str]) -> dict[str, Any]:
        assert cluster == "flights-dbt"
        known = {**self.earlier, ARN: self.task}
        return {"tasks": [known[arn] for arn in tasks if known[arn]]}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_tasks"
        return SimpleNamespace(paginate=self._pages)

    def _pages(self, cluster: str, desiredStatus: str) -> list[dict[str, list[str]]]:  # noqa: N803 - of the API
        assert cluster == "flights-dbt"
        self.listings += 1
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

    def wait_for_start(self) -> None:
        until = time.monotonic() + 5
        while not self.started and time.monotonic() < until:
            time.sleep(0.05)

    def url(self) -> str:
        """Return the address of the news of the last started task."""
        return _url(self.started[-1])

    def wait_for_stop(self) -> None:
        until = time.monotonic() + 5
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.05)

    def end_when_stopped(self, seconds: float = 0.0) -> None:
        """Wait for StopTask, and then end the task after some seconds, as one that needs them to handle SIGTERM."""
        self.wait_for_stop()
        time.sleep(seconds)
        self.task = {**(self.task or {}), "lastStatus": "STOPPED", "stopCode": "UserInitiated"}


def _url(parameters: dict[str, Any]) -> str:
    (container,) = parameters["overrides"]["containerOverrides"]
    return str(container["environment"][0]["value"])
