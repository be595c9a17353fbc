"""Tasks of the ECS stand-in: a real process with the task's role, environment, memory limit and log stream.

They are started as Airflow starts them, with the role that infra/environment.yml and the stack ecs.yml give to it.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from mwaa_local.aws import seed, seed_ecs
from mwaa_local.settings import ACCOUNT_ID, REGION
from mwaa_local.testing.aws import running_aws
from mwaa_local.testing.ecs import SMALL, EcsAccount
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import Cluster, find_task, started_by, why_stopped
from mwaa_pipelines.errors import PipelineError

# Waits for SIGTERM, and ends as a program that has handled it.
STOPPABLE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopping", flush=True), sys.exit(5)))
print("ready", flush=True)
time.sleep(600)
"""
# Needs a second to handle SIGTERM.
SLOW_TO_STOP = STOPPABLE.replace("(print(", "(time.sleep(1), print(")
# The first process has a larger child, as the runner has dbt. Linux kills the child.
GREEDY = """
import subprocess, sys
child = subprocess.run([sys.executable, "-c", "import time; data = bytearray(600 * 1024**2); time.sleep(600)"])
print("child", child.returncode, flush=True)
sys.exit(128 - child.returncode)
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcsAccount]:
    with running_aws(tmp_path_factory.mktemp("ecs")) as aws:
        yield EcsAccount(aws)


def test_task_has_its_role_environment_and_log(account: EcsAccount) -> None:
    program = (
        "import os, boto3, botocore.exceptions as e\n"
        "print(os.environ['FROM_IMAGE'], os.environ['DBT_JOB'].count('s3://'), flush=True)\n"
        "print(boto3.client('sts').get_caller_identity()['Arn'], flush=True)\n"
        "try: boto3.client('secretsmanager').list_secrets()\n"
        "except e.ClientError as error: print(error, flush=True)\n"
        "raise SystemExit(7)"
    )
    arn = account.run(account.image("role", program))
    task = account.ended(arn)
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert (task["containers"][0]["exitCode"], task["memory"], task["cpu"]) == (7, "512", "256")
    first, identity, denied = seed_ecs.task_logs(account.settings, arn)
    assert first == "1 1"
    assert f"assumed-role/{seed_ecs.TASK_ROLE}/" in identity
    assert "not authorized to perform: secretsmanager:ListSecrets" in denied
    assert why_stopped(task, 512) == (
        "the task ended without a result, with exit code 7: Essential container in task exited"
    )


def test_task_beyond_its_memory_is_killed(account: EcsAccount) -> None:
    arn = account.run(account.image("greedy", GREEDY))
    task = account.ended(arn)
    assert task["containers"][0]["exitCode"] == 137
    assert task["containers"][0]["reason"] == "OutOfMemoryError: Container killed due to memory usage"
    assert seed_ecs.task_logs(account.settings, arn) == ["child -9"]
    assert "needs more than its memory, 512 MiB. Raise memory under ecs" in why_stopped(task, 512)
    # With enough of it, the same program goes on.
    larger = account.run(f"{seed_ecs.CLUSTER}-greedy", Ecs(cluster=seed_ecs.CLUSTER, cpu=256, memory=1024))
    account.wait(larger, lambda task: task["lastStatus"] == "RUNNING")
    time.sleep(2)
    assert find_task(account.ecs, larger)["lastStatus"] == "RUNNING"
    account.ecs.stop_task(cluster=seed_ecs.CLUSTER, task=larger)


def test_stopped_task_gets_sigterm_first(account: EcsAccount) -> None:
    arn = account.run(account.image("stoppable", STOPPABLE))
    account.wait(arn, lambda _: seed_ecs.task_logs(account.settings, arn))
    stopping = account.ecs.stop_task(cluster=seed_ecs.CLUSTER, task=arn, reason="Maintenance")["task"]
    assert stopping["desiredStatus"] == "STOPPED"
    task = account.ended(arn)
    assert (task["stopCode"], task["stoppedReason"], task["containers"][0]["exitCode"]) == (
        "UserInitiated",
        "Maintenance",
        5,
    )
    assert seed_ecs.task_logs(account.settings, arn) == ["ready", "stopping"]
    assert "somebody stopped the task: Maintenance" in why_stopped(task, 512)


def test_earlier_tries_have_ended_before_the_next_one_starts(
    account: EcsAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mwaa_pipelines.ecs_task._SECONDS_BETWEEN_LOOKS", 0.1)
    definition = account.image("slow-to-stop", SLOW_TO_STOP)
    own, other = (started_by("shop", "manual__2026-01-01T00:00:00+00:00", task_id) for task_id in ("one", "two"))
    arns = [account.run(definition, started_by=name) for name in (own, own, other)]
    for arn in arns:
        account.wait(arn, lambda _, arn=arn: seed_ecs.task_logs(account.settings, arn))
    # As when somebody has cleared the task in Airflow a moment ago.
    account.ecs.stop_task(cluster=seed_ecs.CLUSTER, task=arns[0], reason="Cleared")
    account.cluster.stop_earlier(account.ecs, [own])
    tasks = [find_task(account.ecs, arn) for arn in arns]
    assert [task["lastStatus"] for task in tasks] == ["STOPPED", "STOPPED", "RUNNING"]
    assert [task["stoppedReason"] for task in tasks[:2]] == ["Cleared", "Airflow tries again"]
    monkeypatch.setattr("mwaa_pipelines.ecs_task.STOP_SECONDS", 0.0)
    with pytest.raises(PipelineError, match=f"the task {arns[2]} of an earlier try has not ended within 0 seconds"):
        account.cluster.stop_earlier(account.ecs, [own, other])


def test_tasks_are_listed_by_one_filter_and_in_pages(account: EcsAccount) -> None:
    definition = account.image("listed", "import time; time.sleep(600)")
    arns = {account.run(definition, started_by="listed/a") for _ in range(3)}
    ecs = account.aws.client("ecs")
    pages = list(
        ecs.get_paginator("list_tasks").paginate(
            cluster=seed_ecs.CLUSTER, startedBy="listed/a", PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["taskArns"]) for page in pages] == [2, 1]
    assert {arn for page in pages for arn in page["taskArns"]} == arns
    with pytest.raises(ClientError, match="startedBy must be the only filter"):
        ecs.list_tasks(cluster=seed_ecs.CLUSTER, startedBy="listed/a", desiredStatus="STOPPED")


@pytest.mark.parametrize(
    ("tag", "changes", "words"),
    [
        (
            "no-image",
            {},
            "CannotPullContainerError: .*no-image: not found. Build the image with the workflow image.yml",
        ),
        (
            "weak-agent",
            {"executionRoleArn": f"arn:aws:iam::{ACCOUNT_ID}:role/{seed_ecs.TASK_ROLE}"},
            "ecr:GetAuthorizationToken.*Update the stack infra/ecs.yml, whose role AgentRole",
        ),
    ],
)
def test_task_that_cannot_start_says_why(account: EcsAccount, tag: str, changes: dict[str, Any], words: str) -> None:
    if tag != "no-image":
        account.image(tag, "print(1)")
    task = account.ended(account.run(account.definition(tag, **changes)))
    assert task["stopCode"] == "TaskFailedToStart"
    assert "exitCode" not in task["containers"][0]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(why_stopped(task, 512))


def test_missing_log_group_and_missing_settings_are_named(account: EcsAccount) -> None:
    logs, ssm = account.aws.client("logs"), account.aws.client("ssm")
    definition = account.image("no-logs", "print(1)")
    logs.delete_log_group(logGroupName=seed_ecs.LOG_GROUP)
    ssm.delete_parameter(Name=f"/ecs/{seed_ecs.CLUSTER}")
    try:
        words = "log group does not exist.*Create the log group: update the stack infra/ecs.yml"
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(why_stopped(account.ended(account.run(definition)), 512))
        with pytest.raises(PipelineError, match=r"the parameter /ecs/local-dbt is missing\. Create the stack"):
            Cluster.read(account.ssm, seed_ecs.CLUSTER)
    finally:
        seed_ecs.seed_ecs(account.settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cluster": "none"}, "'none' .setting ecs.cluster. cannot be read: .* in its parameter ExecutionRoleName"),
        ({"task_definition": "local-dbt-none"}, "TaskDefinition not found"),
        # Only task definitions whose names begin with the cluster's can be run.
        ({"task_definition": "other"}, "not authorized to perform: ecs:RunTask"),
    ],
)
def test_refused_task_says_why(account: EcsAccount, settings: dict[str, str], words: str) -> None:
    ecs = SMALL.model_copy(update=settings)
    with pytest.raises(PipelineError, match=words):
        Cluster.read(account.ssm, ecs.cluster).run(account.ecs, ecs, "s3://bucket/x/1", "x")


def test_role_that_does_not_trust_ecs_is_refused(account: EcsAccount) -> None:
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/{seed.ROLE}"
    definition = account.definition("untrusted", taskRoleArn=role)
    # Airflow cannot pass it, and ECS could not assume it.
    with pytest.raises(PipelineError, match=f"not authorized to perform: iam:PassRole on resource: {role}"):
        account.run(definition)
    with pytest.raises(ClientError, match="ECS was unable to assume the role"):
        _run_as_administrator(account, taskDefinition=definition)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"cluster": "none"}, "Cluster not found"),
        ({"overrides": {"cpu": "256", "memory": "4096"}}, "No Fargate configuration exists for given values"),
        ({"overrides": {"containerOverrides": [{"name": "x" * 8192}]}}, "Overrides length must be at most 8192"),
        ({"startedBy": "x" * 129}, "startedBy must have at most 128"),
        ({"startedBy": "manual__2026-01-01T00:00:00+00:00"}, "startedBy must have at most 128 letters"),
        ({"clientToken": "x" * 65}, "clientToken must have at most 64"),
        ({"networkConfiguration": {}}, "Network Configuration must be provided"),
        ({"count": "two"}, "Invalid type for parameter count"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_requests_are_refused(account: EcsAccount, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        _run_as_administrator(account, **parameters)


def test_repeated_request_starts_one_task(account: EcsAccount) -> None:
    account.image("once", "print(1)")
    answers = [
        _run_as_administrator(account, taskDefinition=f"{seed_ecs.CLUSTER}-once", clientToken="same") for _ in range(2)
    ]
    arn = answers[0]["tasks"][0]["taskArn"]
    assert answers[1]["tasks"][0]["taskArn"] == arn
    with pytest.raises(ClientError, match="already in use with a different RunTask request") as raised:
        _run_as_administrator(account, taskDefinition=f"{seed_ecs.CLUSTER}-once", clientToken="same", startedBy="x")
    assert raised.value.response["resourceIds"] == [arn]


def _run_as_administrator(account: EcsAccount, **parameters: Any) -> dict[str, Any]:
    network = {"awsvpcConfiguration": {"subnets": ["subnet-a"]}}
    defaults = {"cluster": seed_ecs.CLUSTER, "taskDefinition": seed_ecs.CLUSTER, "launchType": "FARGATE"}
    # Without boto3's own check of the parameters.
    ecs = boto3.session.Session().client(
        "ecs",
        endpoint_url=account.aws.url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=boto3.session.Config(parameter_validation=False),
    )
    return dict(ecs.run_task(**{**defaults, "networkConfiguration": network, **parameters}))


def test_stand_in_ends_its_tasks(tmp_path: Path) -> None:
    import psutil

    with running_aws(tmp_path) as aws:
        account = EcsAccount(aws)
        arn = account.run(account.image("stoppable", STOPPABLE))
        account.wait(arn, lambda _: seed_ecs.task_logs(account.settings, arn))
        (process,) = psutil.Process(aws.process.pid).children()
    assert not process.is_running()
