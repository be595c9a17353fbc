"""Starts tasks of ECS, and says in plain words why one failed. The stack infra/ecs.yml creates what they need."""

import json
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
    (
        "",
        "i/o timeout",
        "The subnets of the stack infra/ecs.yml need a route to ECR, S3 and CloudWatch Logs: a NAT gateway, or the "
        "endpoints of network.yml",
    ),
)
_BY_AWS = ("SpotInterruption", "TerminationNotice", "InfrastructureHealth")
STOPPED_BY_OTHERS = ("UserInitiated", *_BY_AWS)


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
                "ExecutionRoleName"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise PipelineError(
                f"the parameter {parameter} is not of infra/ecs.yml: {error!r}. Update its stack"
            ) from None

    def run(self, ecs_client: Any, settings: Ecs, job_url: str, started_by: str) -> str:
        """Start a task for a job, and return the task's ARN.

        Args:
            ecs_client: boto3 client.
            settings: of the pipeline.
            job_url: `s3://bucket/prefix` of the job.
            started_by: shown by ECS; letters, digits, `-`, `/` and `_`, at most 128.

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
