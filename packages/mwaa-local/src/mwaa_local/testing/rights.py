"""The policies of a role at the AWS stand-in, one right at a time; and what was denied there."""

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
class Taken:
    """A permission that a role lacks for now."""

    action: str
    resource: str

    @property
    def words(self) -> str:
        """A pattern of the error message for the missing permission, up to the first wildcard."""
        action, resource = (text.split("*")[0].split("?")[0] for text in (self.action, self.resource))
        return rf"is not authorized to perform: {action}\S* on resource: {resource}"


def each_taken_away(aws: Aws, role: str) -> Iterator[Taken]:
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
            for taken in single:
                put(name, [statement for statement in single if statement is not taken])
                yield Taken(taken["Action"], taken["Resource"])
        finally:
            put(name, single)


def warehouse_session(aws: Aws, **values: str) -> boto3.Session:
    """A session of the role with which the freshness workflow asks the warehouse, made for one test.

    Args:
        aws: the account.
        values: of the parameters of infra/github.yml, where the sample's do not fit.
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
