"""Remove an environment of `infra/`: its stacks in reverse order, and the retained resources, such as buckets.

Stacks are called `<name>-<file>`, such as sales-dev-storage. Each stack is deleted after its retained resources, so
the next teardown can finish one that was interrupted.
"""

from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.progress import Progress, no_progress

# In the order of creation; teardown goes in reverse.
STACKS = (
    *("network", "storage", "redshift", "notification", "credentials"),
    *("github", "environment", "monitoring", "warehouse-role", "landing", "rotation", "ecs"),
)
# AWS's minimum is 7 days. 30 days leave time to notice that the key is still needed.
KEY_DAYS = 30
_BUCKET, _KEY, _LOGS = "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup"
_IMAGES = "AWS::ECR::Repository"
# An account has one provider for all its repositories.
_SHARED = "AWS::IAM::OIDCProvider"


@dataclass
class Stack:
    """An existing stack and its resources, as `(type, physical id)`."""

    name: str
    resources: list[tuple[str, str]] = field(default_factory=list)

    def ids(self, kind: str) -> list[str]:
        """Return the physical ids of the resources of one type."""
        return [physical_id for resource_type, physical_id in self.resources if resource_type == kind]


def find_stacks(cloudformation: Any, name: str) -> list[Stack]:
    """Return the stacks of an environment, in the order of their deletion.

    Args:
        cloudformation: boto3 client.
        name: the prefix of the stacks' names.

    Raises:
        SetupError: no stack has this prefix.
    """
    stacks = []
    for part in reversed(STACKS):
        stack = Stack(f"{name}-{part}")
        try:
            pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
            for page in pages:
                for summary in page["StackResourceSummaries"]:
                    if summary.get("PhysicalResourceId") and summary["ResourceStatus"] != "DELETE_COMPLETE":
                        stack.resources.append((summary["ResourceType"], summary["PhysicalResourceId"]))
        except ClientError as error:
            # CloudFormation has no separate error code for a missing stack.
            if error.response["Error"]["Code"] == "ValidationError":
                continue
            raise from_aws(error, f"reading the stack {stack.name}") from error
        except BotoCoreError as error:
            raise from_aws(error, f"reading the stack {stack.name}") from error
        stacks.append(stack)
    if not stacks:
        raise SetupError(
            f"there is no stack {name}-{STACKS[0]}, … or {name}-{STACKS[-1]} in this account and Region; "
            "use the Name with which the stacks were created"
        )
    return stacks


def describe(stacks: list[Stack]) -> list[str]:
    """Describe the resources that `teardown` removes, in its order, one per line."""
    lines = []
    for stack in stacks:
        lines += [f"bucket {name}: every object and every version in it" for name in stack.ids(_BUCKET)]
        lines += [f"image repository {name}: every image in it" for name in stack.ids(_IMAGES)]
        lines += [f"log group {name}" for name in stack.ids(_LOGS)]
        lines += [f"key {key}: deletion scheduled in {KEY_DAYS} days" for key in stack.ids(_KEY)]
        shared = stack.ids(_SHARED)
        lines.append(f"stack {stack.name}: {len(stack.resources) - len(shared)} resources")
        lines += [f"  (stays, because other repositories can use it: {arn})" for arn in shared]
    return lines


def teardown(client: Any, stacks: list[Stack], progress: Progress = no_progress) -> None:
    """Remove the stacks and their retained resources.

    Args:
        client: returns the boto3 client of a service.
        stacks: the stacks of `find_stacks`.
        progress: receives the name of the current stack.

    Raises:
        DeployError: AWS refused a request; the next call removes the rest.
    """
    for number, stack in enumerate(stacks):
        progress(f"removing {stack.name}", number, len(stacks))
        # Remove retained resources first, because only the stack knows their names.
        for name in stack.ids(_BUCKET):
            _remove_bucket(Bucket(name, client("s3")), progress)
        for name in stack.ids(_IMAGES):
            _ignoring(f"image repository {name}", client("ecr").delete_repository, repositoryName=name, force=True)
        _remove_log_groups(client("logs"), stack)
        for key in stack.ids(_KEY):
            _ignoring(f"key {key}", client("kms").schedule_key_deletion, KeyId=key, PendingWindowInDays=KEY_DAYS)
        _delete_stack(client("cloudformation"), stack.name)
        # Until its end, an environment writes logs, and creates a missing log group for them.
        _remove_log_groups(client("logs"), stack)


def _remove_bucket(bucket: Bucket, progress: Progress) -> None:
    removed = 0
    try:
        for page in bucket.s3.get_paginator("list_object_versions").paginate(Bucket=bucket.name):
            batch = [
                {"Key": version["Key"], "VersionId": version["VersionId"]}
                for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            ]
            if not batch:
                continue
            answer = bucket.s3.delete_objects(Bucket=bucket.name, Delete={"Objects": batch, "Quiet": True})
            for failed in answer.get("Errors", []):
                raise DeployError(f"deleting s3://{bucket.name}/{failed['Key']}: {failed['Code']}: {failed['Message']}")
            removed += len(batch)
            progress(f"emptying s3://{bucket.name}", removed, removed)
        bucket.s3.delete_bucket(Bucket=bucket.name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise from_aws(error, f"removing s3://{bucket.name}") from error
    except BotoCoreError as error:
        raise from_aws(error, f"removing s3://{bucket.name}") from error


def _remove_log_groups(logs: Any, stack: Stack) -> None:
    for name in stack.ids(_LOGS):
        _ignoring(f"log group {name}", logs.delete_log_group, logGroupName=name)


def _ignoring(what: str, call: Any, **arguments: Any) -> None:
    """Call and ignore the error of a resource that no longer exists."""
    try:
        call(**arguments)
    except ClientError as error:
        # A key with a scheduled deletion has an invalid state.
        if error.response["Error"]["Code"] not in (
            "ResourceNotFoundException",
            "NotFoundException",
            "RepositoryNotFoundException",
            "KMSInvalidStateException",
        ):
            raise from_aws(error, f"removing {what}") from error
    except BotoCoreError as error:
        raise from_aws(error, f"removing {what}") from error


def _delete_stack(cloudformation: Any, name: str) -> None:
    try:
        cloudformation.delete_stack(StackName=name)
        # Deleting an MWAA environment takes half an hour.
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=name, WaiterConfig={"Delay": 10, "MaxAttempts": 360}
        )
    except WaiterError as error:
        raise DeployError(f"stack {name} could not be deleted: {_reason(cloudformation, name)}") from error
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"deleting the stack {name}") from error


def _reason(cloudformation: Any, name: str) -> str:
    for event in cloudformation.describe_stack_events(StackName=name)["StackEvents"]:
        if event["ResourceStatus"] == "DELETE_FAILED" and event.get("ResourceStatusReason"):
            return f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
    return "CloudFormation gave no reason; check the stack's events in the console"
