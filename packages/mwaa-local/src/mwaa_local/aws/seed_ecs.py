"""Creates what the stack infra/ecs.yml creates, with the stack's own properties, and an image for its tasks."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

import mwaa_release.ecs
from mwaa_local.aws import roles, seed
from mwaa_local.aws.container import images_folder
from mwaa_local.settings import ACCOUNT_ID, ENVIRONMENT, REGION, Settings
from mwaa_local.templates import Template
from mwaa_release.build import PIPELINES_PACKAGE, pipelines_package

STACK = "ecs.yml"
CLUSTER = f"{ENVIRONMENT}-dbt"
RUNS_BUCKET = f"{CLUSTER}-runs-{ACCOUNT_ID}-{REGION}"
LOG_GROUP = f"/ecs/{CLUSTER}"
AGENT_ROLE, TASK_ROLE = f"{CLUSTER}-agent", f"{CLUSTER}-task"
EXECUTION_ROLE = "environment-ExecutionRole"
TAG = "local"


def seed_ecs(settings: Settings, secret_name: str | None = None) -> None:
    """Create or update everything. Call `seed.seed` before.

    Args:
        settings: of the stand-in.
        secret_name: the parameter SecretName of the stack; default: the secrets of the repository's pipelines.

    Raises:
        botocore.exceptions.ClientError: the stand-in refused a call.
    """
    values = _values(settings, secret_name or seed.secret_pattern())
    template = Template(STACK, values)
    resources = template.content["Resources"]
    s3, logs, ssm = (seed.client(settings, service) for service in ("s3", "logs", "ssm"))
    ecs, iam = seed.client(settings, "ecs"), seed.client(settings, "iam")
    seed.make_bucket(s3, RUNS_BUCKET, values["KeyArn"])
    if not logs.describe_log_groups(logGroupNamePrefix=LOG_GROUP)["logGroups"]:
        logs.create_log_group(logGroupName=LOG_GROUP)
    roles.make(iam, STACK, **values)
    roles.add_policies(iam, STACK, **values)
    ecs.create_cluster(clusterName=template.evaluate(resources["Cluster"]["Properties"])["ClusterName"])
    ecs.register_task_definition(**_camel(template.evaluate(resources["TaskDefinition"]["Properties"])))
    parameter = template.evaluate(resources["Settings"]["Properties"])
    ssm.put_parameter(Name=parameter["Name"], Value=parameter["Value"], Type=parameter["Type"], Overwrite=True)
    make_image(settings)


def make_image(settings: Settings, tag: str = TAG) -> None:
    """Make an image as the Dockerfile does, but of the dbt that startup.sh installs, and the package with the runner.

    Args:
        settings: with the state folder.
        tag: of the image.
    """
    folder = images_folder(settings.state) / CLUSTER / tag
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(pipelines_package(), folder / "packages" / PIPELINES_PACKAGE, ignore=ignored)
    dockerfile = (Path(mwaa_release.ecs.__file__).parent / "Dockerfile").read_text()
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", dockerfile, re.MULTILINE))))
    entrypoint = re.search(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    assert entrypoint  # noqa: S101 - for mypy
    image = {
        "path": [str(settings.state / "mwaa" / "dbt_venv" / "bin")],
        "environment": {**variables, "PYTHONPATH": str(folder / "packages")},
        "entrypoint": json.loads(entrypoint[1]),
    }
    (folder / "image.json").write_text(json.dumps(image))


def stopped_tasks(settings: Settings) -> list[dict[str, Any]]:
    """Return the tasks that have stopped within the last hour, at most 100."""
    ecs = seed.client(settings, "ecs")
    arns = ecs.list_tasks(cluster=CLUSTER, desiredStatus="STOPPED")["taskArns"]
    return list(ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"]) if arns else []


def task_logs(settings: Settings, task_arn: str) -> list[str]:
    """Return the lines in the log stream of a task; none without a stream."""
    return [event["message"] for event in task_events(settings, task_arn)]


def task_events(settings: Settings, task_arn: str) -> list[dict[str, Any]]:
    """Return the `message` and the `timestamp` in milliseconds of each line of `task_logs`."""
    try:
        events = seed.client(settings, "logs").get_log_events(
            logGroupName=LOG_GROUP, logStreamName=f"dbt/dbt/{task_arn.rpartition('/')[2]}", startFromHead=True
        )
    except ClientError:
        return []
    return list(events["events"])


def _values(settings: Settings, secret_name: str) -> dict[str, Any]:
    arn = f"arn:aws:iam::{ACCOUNT_ID}:role"
    return {
        "SubnetIds": ["subnet-a", "subnet-b"],
        "KeyArn": seed.key_arn(settings),
        "DagsBucketName": seed.DAGS_BUCKET,
        "ExecutionRoleName": EXECUTION_ROLE,
        "SecretName": secret_name,
        "ImageTag": TAG,
        "AWS::URLSuffix": "amazonaws.com",
        "SecurityGroup.GroupId": "sg-dbt",
        "Repository": CLUSTER,
        "Repository.Arn": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{CLUSTER}",
        "Logs": LOG_GROUP,
        "Logs.Arn": f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{LOG_GROUP}:*",
        "RunsBucket": RUNS_BUCKET,
        "RunsBucket.Arn": f"arn:aws:s3:::{RUNS_BUCKET}",
        "Cluster.Arn": f"arn:aws:ecs:{REGION}:{ACCOUNT_ID}:cluster/{CLUSTER}",
        "AgentRole.Arn": f"{arn}/{AGENT_ROLE}",
        "TaskRole.Arn": f"{arn}/{TASK_ROLE}",
    }


def _camel(part: Any) -> Any:
    """Return properties of CloudFormation as parameters of ECS's API: `cpu` instead of `Cpu`."""
    if isinstance(part, list):
        return [_camel(item) for item in part]
    if isinstance(part, dict):
        return {name[:1].lower() + name[1:]: _camel(value) for name, value in part.items()}
    return part
