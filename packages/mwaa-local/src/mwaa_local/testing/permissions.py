"""Helpers for tests of IAM permissions: remove the permissions of a role one by one, and read denied calls."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3

from mwaa_local.aws import roles, seed
from mwaa_local.testing.aws import Aws
from mwaa_local.testing.stacks import listed


def denied(aws: Aws) -> str:
    """Return the log lines of all denied calls so far."""
    log = (aws.settings.state / "aws.log").read_text()
    return "\n".join(line for line in log.splitlines() if line.startswith("denied: "))


@dataclass(frozen=True)
class RemovedPermission:
    """A permission that is currently removed from a role."""

    action: str
    resource: str

    @property
    def words(self) -> str:
        """Return a pattern of the error message for this permission, up to the first wildcard."""
        action, resource = (text.split("*")[0].split("?")[0] for text in (self.action, self.resource))
        return rf"is not authorized to perform: {action}\S* on resource: {resource}"


def without_each_permission(aws: Aws, role: str) -> Iterator[RemovedPermission]:
    """Remove one permission at a time from the policies of a role, and restore all of them at the end."""
    iam = aws.client("iam")

    def put(name: str, statements: list[dict[str, Any]]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=document)

    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        statements = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
        single = [
            {**statement, "Action": action, "Resource": resource}
            for statement in statements
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        ]
        try:
            for removed in single:
                put(name, [statement for statement in single if statement is not removed])
                yield RemovedPermission(removed["Action"], removed["Resource"])
        finally:
            put(name, single)


def warehouse_session(aws: Aws, **values: str) -> boto3.Session:
    """Create the role of the freshness workflow for one test, and return a session with it.

    Args:
        aws: the AWS stand-in.
        values: parameters of infra/github.yml that override the sample's.
    """
    parameters = {
        "Name": f"t{secrets.token_hex(4)}",
        "Repository": roles.GITHUB_REPOSITORY,
        "GitHubEnvironment": "prod",
        "ProviderArn": roles.PROVIDER,
        "Freshness": "true",
        "DagsBucketName": seed.DAGS_BUCKET,
        "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/one",
        **values,
    }
    role = roles.make(aws.client("iam"), "github.yml", **parameters)["WarehouseRole"]
    return roles.job_session(aws.settings, role, f"repo:{roles.GITHUB_REPOSITORY}:environment:prod-warehouse")
