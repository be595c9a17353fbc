"""Starts tasks of ECS, and says in plain words why one failed. The stack infra/ecs.yml creates what they need."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.outcome import KILLED, out_of_memory

# In the task definition of infra/ecs.yml.
CONTAINER = "dbt"
# The variable in which the runner finds its job.
JOB = "DBT_JOB"

# How long a task that was stopped may take to end. Its stopTimeout is at most 120 seconds on Fargate.
STOP_SECONDS = 150.0
_SECONDS_BETWEEN_LOOKS = 5.0
# The containers of these tasks have ended. Fargate may still detach the network interface, which takes it long.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
_ENDED = ("DEPROVISIONING", "STOPPED")

_ROUTE = (
    "The subnets of the stack infra/ecs.yml need a route to ECR, S3 and CloudWatch Logs: a NAT gateway, or the "
    "endpoints of network.yml and infra/ecs.yml"
)
# Beginning and part of a reason for which a task did not start, and what to do.
_ADVICE = (
    ("CannotPullContainerError", "not found", "Build the image with the workflow image.yml, and set ImageTag to it"),
    ("CannotPullContainerError", "not authorized", "Update the stack infra/ecs.yml, whose role AgentRole pulls images"),
    ("ResourceInitializationError", "log group does not exist", "Create the log group: update the stack infra/ecs.yml"),
    (
        "ResourceInitializationError",
        "not authorized",
        "Update the stack infra/ecs.yml, whose role AgentRole needs this",
    ),
    ("", "i/o timeout", _ROUTE),
    # Users report these words without a time-out, too, as for CloudWatch Logs.
    ("", "There is a connection issue", _ROUTE),
)
_BY_AWS = ("SpotInterruption", "TerminationNotice")
STOPPED_BY_OTHERS = ("UserInitiated", *_BY_AWS)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A cluster with the settings that its stack has stored.

    Args:
        name: of the cluster.
        subnets: in which tasks run.
        security_group: of the tasks.
        bucket: for jobs and news of tasks.
        task_definition: the stack's own.
        log_group: of the tasks.
        projects: `s3://bucket/prefix`, the parent of all dbt projects.
    """

    name: str
    subnets: tuple[str, ...]
    security_group: str
    bucket: str
    task_definition: str
    log_group: str
    projects: str

    @classmethod
    def read(cls, ssm_client: Any, name: str) -> "Cluster":
        """Read the settings of a cluster.

        Raises:
            PipelineError: there are none, or they cannot be read.
        """
        parameter = f"/ecs/{name}"
        try:
            values = json.loads(ssm_client.get_parameter(Name=parameter)["Parameter"]["Value"])
            return cls(name=name, subnets=tuple(values.pop("subnets").split(",")), **values)
        except ssm_client.exceptions.ParameterNotFound:
            raise PipelineError(
                f"the cluster {name!r} (setting ecs.cluster) has no settings: the parameter {parameter} is missing. "
                "Create the stack infra/ecs.yml, or correct the setting"
            ) from None
        except (BotoCoreError, ClientError) as error:
            raise PipelineError(
                f"the parameter {parameter} of the cluster {name!r} (setting ecs.cluster) cannot be read: {error}. "
                "The stack infra/ecs.yml gives the right to it, and to run tasks, to the role in its parameter "
                "ExecutionRoleName; infra/workflow.yml gives it to a workflow with the parameter ClusterName"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise PipelineError(
                f"the parameter {parameter} is not of infra/ecs.yml: {error!r}. Update its stack"
            ) from None

    def stop_earlier(self, ecs_client: Any, started_by: Collection[str]) -> None:
        """Stop what earlier tries have left behind, as when a worker was lost, and wait until it has ended.

        Otherwise two dbt processes would change the same tables.

        Args:
            ecs_client: boto3 client.
            started_by: of the tasks, see `started_by`.

        Raises:
            PipelineError: ECS refused, or a task has not ended within 150 seconds.
        """
        until = time.monotonic() + STOP_SECONDS
        try:
            while tasks := self._unfinished(ecs_client, started_by):
                for arn in (task["taskArn"] for task in tasks if task["desiredStatus"] != "STOPPED"):
                    log.warning("Stopping the ECS task %s, which an earlier try has started", arn)
                    ecs_client.stop_task(cluster=self.name, task=arn, reason="Airflow tries again")
                if time.monotonic() > until:
                    raise PipelineError(
                        f"the task {tasks[0]['taskArn']} of an earlier try has not ended within {STOP_SECONDS:.0f} "
                        "seconds. Wait until ECS shows it as stopped, then clear the failed tasks"
                    )
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        except (BotoCoreError, ClientError) as error:
            raise PipelineError(
                f"Airflow cannot see whether an earlier try still runs in the cluster {self.name!r}: {error}. The "
                "stack infra/ecs.yml gives the permission, and infra/workflow.yml to a workflow: update it"
            ) from None

    def _unfinished(self, ecs_client: Any, started_by: Collection[str]) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = []
        # ListTasks with startedBy would leave out tasks that are ending, and it allows no second filter.
        for status in ("RUNNING", "STOPPED"):
            for page in ecs_client.get_paginator("list_tasks").paginate(cluster=self.name, desiredStatus=status):
                if page["taskArns"]:
                    tasks += ecs_client.describe_tasks(cluster=self.name, tasks=page["taskArns"])["tasks"]
        return [task for task in tasks if task.get("startedBy") in started_by and task["lastStatus"] not in _ENDED]

    def run(self, ecs_client: Any, settings: Ecs, job_url: str, started_by: str) -> str:
        """Start a task for a job, and return the task's ARN.

        Args:
            ecs_client: boto3 client.
            settings: of the pipeline.
            job_url: `s3://bucket/prefix` of the job.
            started_by: see `started_by`.

        Raises:
            PipelineError: ECS refused; the message has its reason.
        """
        network = {"subnets": list(self.subnets), "securityGroups": [self.security_group], "assignPublicIp": "DISABLED"}
        environment = [{"name": JOB, "value": job_url}]
        try:
            answer = ecs_client.run_task(
                cluster=self.name,
                taskDefinition=settings.task_definition or self.task_definition,
                launchType="FARGATE",
                networkConfiguration={"awsvpcConfiguration": network},
                overrides={
                    "cpu": str(settings.cpu),
                    "memory": str(settings.memory),
                    "containerOverrides": [{"name": CONTAINER, "environment": environment}],
                },
                startedBy=started_by,
                # A request that boto3 repeats must not start a second task.
                clientToken=job_url.rpartition("/")[2],
            )
        except (BotoCoreError, ClientError) as error:
            raise PipelineError(f"no task could be started in the cluster {self.name!r}: {error}") from None
        if not answer["tasks"]:
            reasons = ", ".join(failure["reason"] for failure in answer["failures"])
            raise PipelineError(
                f"no task could be started in the cluster {self.name!r}: {reasons}. Clear it to try again"
            )
        return str(answer["tasks"][0]["taskArn"])


def started_by(dag_id: str, run_id: str, task_id: str) -> str:
    """Return `startedBy` of a task of Airflow: readable, the same for each of its tries, and of no other task."""
    names = (dag_id, run_id, task_id)
    # ECS allows 128 letters, digits, hyphens, slashes and underscores.
    text = re.sub(r"[^\w/-]", "_", "/".join(names), flags=re.ASCII)[:111]
    return f"{text}/{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]}"


def find_task(ecs_client: Any, task_arn: str) -> dict[str, Any] | None:
    """Return what ECS knows of a task; None if it does not know it, as an hour after its end.

    Raises:
        BotoCoreError, ClientError: ECS does not answer.
    """
    answer = ecs_client.describe_tasks(cluster=cluster_of(task_arn), tasks=[task_arn])
    return answer["tasks"][0] if answer["tasks"] else None


def cluster_of(task_arn: str) -> str:
    """Return the cluster's name in a task's ARN."""
    return task_arn.split("/")[-2]


def why_stopped(task: dict[str, Any] | None, memory: int) -> str:
    """Return why a task ended without a result.

    Args:
        task: a stopped one of DescribeTasks; None if ECS does not know it.
        memory: MiB that it could use.
    """
    if task is None:
        return "ECS does not know the task any more, and it has left no result"
    code, reason = task.get("stopCode", ""), task.get("stoppedReason", "")
    container = (task.get("containers") or [{}])[0]
    detail = container.get("reason", "")
    if "OutOfMemory" in f"{reason} {detail}":
        return out_of_memory(memory)
    if code == "TaskFailedToStart":
        text = f"{reason} {detail}".strip()
        advice = [tip for start, part, tip in _ADVICE if text.startswith(start) and part in text]
        return ". ".join([f"the task could not start: {text.rstrip('.')}", *advice[:1]])
    if code == "UserInitiated":
        return f"somebody stopped the task: {reason.rstrip('.')}. Clear the failed tasks of the run to run the rest"
    if code in _BY_AWS:
        return f"AWS stopped the task ({code}): {reason.rstrip('.')}. Clear the failed tasks of the run to run the rest"
    if container.get("exitCode") == KILLED:
        return out_of_memory(memory)
    return f"the task ended without a result, with exit code {container.get('exitCode')}: {reason} {detail}".strip()
