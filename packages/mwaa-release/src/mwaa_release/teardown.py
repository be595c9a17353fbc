"""Takes an environment of `infra/` away: its stacks in reverse order, and what outlives them, such as its buckets.

Stacks are called `<name>-<file>`, such as flights-dev-storage. Each says what it made until it is deleted last, so a
teardown that was interrupted is finished by the next one.
"""

from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.progress import Progress, no_progress

# What is brought up first is taken down last.
STACKS = (
    *("network", "storage", "redshift", "notification", "credentials"),
    *("github", "environment", "warehouse-role", "landing", "rotation"),
)
# The shortest time that AWS keeps a key is 7 days; in 30, somebody who needs it will have noticed.
KEY_DAYS = 30
_BUCKET, _KEY, _LOGS = "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup"
# An account has one provider for all its repositories.
_SHARED = "AWS::IAM::OIDCProvider"


@dataclass
class Stack:
    """A stack that is there, and what it holds: `(type, physical id)`."""

    name: str
    resources: list[tuple[str, str]] = field(default_factory=list)

    def ids(self, kind: str) -> list[str]:
        """The physical ids of its resources of one type."""
        return [identifier for found, identifier in self.resources if found == kind]


def find_stacks(cloudformation: Any, name: str) -> list[Stack]:
    """The stacks of an environment, in the order in which they go.

    Args:
        cloudformation: boto3 client.
        name: what its stacks' names begin with.

    Raises:
        SetupError: there are none.
    """
    found = []
    for part in reversed(STACKS):
        stack = Stack(f"{name}-{part}")
        try:
            pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
            for page in pages:
                for each in page["StackResourceSummaries"]:
                    if each.get("PhysicalResourceId") and each["ResourceStatus"] != "DELETE_COMPLETE":
                        stack.resources.append((each["ResourceType"], each["PhysicalResourceId"]))
        except ClientError as error:
            # CloudFormation has no code of its own for a stack that is not there.
            if error.response["Error"]["Code"] == "ValidationError":
                continue
            raise from_aws(error, f"reading the stack {stack.name}") from error
        except BotoCoreError as error:
            raise from_aws(error, f"reading the stack {stack.name}") from error
        found.append(stack)
    if not found:
        raise SetupError(
            f"there is no stack {name}-{STACKS[0]}, … or {name}-{STACKS[-1]} in this account and Region; "
            "give the Name that the stacks were made with"
        )
    return found


def describe(stacks: list[Stack]) -> list[str]:
    """What `teardown` removes, in its order, a line each."""
    lines = []
    for stack in stacks:
        lines += [f"bucket {name}: every object and every version in it" for name in stack.ids(_BUCKET)]
        lines += [f"log group {name}" for name in stack.ids(_LOGS)]
        lines += [f"key {key}: scheduled, it goes in {KEY_DAYS} days" for key in stack.ids(_KEY)]
        kept = stack.ids(_SHARED)
        lines.append(f"stack {stack.name}: {len(stack.resources) - len(kept)} resources")
        lines += [f"  (stays, other repositories may use it: {arn})" for arn in kept]
    return lines


def teardown(client: Any, stacks: list[Stack], progress: Progress = no_progress) -> None:
    """Remove the stacks and what outlives them.

    Args:
        client: makes the boto3 client of a service.
        stacks: as `find_stacks` gave them.
        progress: told what is being removed.

    Raises:
        DeployError: AWS refused; what is left is removed by the next call.
    """
    for number, stack in enumerate(stacks):
        progress(f"removing {stack.name}", number, len(stacks))
        # What outlives a stack goes first: afterwards nothing would name it any more.
        for name in stack.ids(_BUCKET):
            _remove_bucket(Bucket(name, client("s3")), progress)
        for name in stack.ids(_LOGS):
            _ignoring(f"log group {name}", client("logs").delete_log_group, logGroupName=name)
        for key in stack.ids(_KEY):
            _ignoring(f"key {key}", client("kms").schedule_key_deletion, KeyId=key, PendingWindowInDays=KEY_DAYS)
        _delete_stack(client("cloudformation"), stack.name)


def _remove_bucket(bucket: Bucket, progress: Progress) -> None:
    removed = 0
    try:
        for page in bucket.s3.get_paginator("list_object_versions").paginate(Bucket=bucket.name):
            batch = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
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


def _ignoring(what: str, call: Any, **arguments: Any) -> None:
    """Call, and take "it is gone already" for an answer."""
    try:
        call(**arguments)
    except ClientError as error:
        # A key that is scheduled already is in an invalid state.
        if error.response["Error"]["Code"] not in (
            "ResourceNotFoundException",
            "NotFoundException",
            "KMSInvalidStateException",
        ):
            raise from_aws(error, f"removing {what}") from error
    except BotoCoreError as error:
        raise from_aws(error, f"removing {what}") from error


def _delete_stack(cloudformation: Any, name: str) -> None:
    try:
        cloudformation.delete_stack(StackName=name)
        # An MWAA environment takes half an hour to go.
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
    return "CloudFormation gives no reason; look at the stack's events in the console"
