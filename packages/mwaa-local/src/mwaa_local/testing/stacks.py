"""Creates the stacks of `infra/` in the AWS stand-in."""

import ast
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from mwaa_local.templates import load
from mwaa_local.testing.aws import Aws

# Resource types that the stand-in's CloudFormation ignores.
NOT_MADE = {
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::IAM::OIDCProvider",
    "AWS::MWAA::Environment",
    "AWS::RedshiftServerless::Namespace",
    "AWS::RedshiftServerless::Workgroup",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SNS::Subscription",
    "AWS::SecretsManager::RotationSchedule",
    "AWS::SecretsManager::Secret",
}


def properties(file: str, resource: str) -> dict[str, Any]:
    return load(file)["Resources"][resource]["Properties"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Stacks:
    """Creates stacks with unique names for one test."""

    def __init__(self, aws) -> None:
        self.name = f"t{secrets.token_hex(4)}"
        self.aws = aws

    def make(self, file: str, **parameters: str) -> dict[str, str]:
        cloudformation = self.aws.client("cloudformation")
        content = load(file)
        # An output of an ignored resource would make the stack fail.
        unmade = {key for key, value in content["Resources"].items() if value["Type"] in NOT_MADE}
        content["Outputs"] = {
            key: output
            for key, output in content["Outputs"].items()
            if (output["Value"].get("Ref") or output["Value"].get("Fn::GetAtt", [""])[0]) not in unmade
        }
        if "Name" in content["Parameters"]:
            parameters = {"Name": self.name, **parameters}
        # It names the alarms, which the stand-in ignores.
        resources = content["Resources"].items()
        content["Resources"] = {key: value for key, value in resources if value["Type"] != "AWS::CloudWatch::Dashboard"}
        stack = f"{self.name}-{Path(file).stem}"
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=json.dumps(content),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        (description,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        assert description["StackStatus"] == "CREATE_COMPLETE"
        resources = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
        created = {resource.get("LogicalResourceId") for resource in resources}
        for name, resource in content["Resources"].items():
            optional = resource["Type"] in NOT_MADE or "Condition" in resource
            assert name in created or optional, f"{file}: {name} was not created"
        return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}

    def policies(self, role_arn: str) -> list[dict[str, Any]]:
        """Return all statements of a role's inline policies."""
        iam, role = self.aws.client("iam"), role_arn.rpartition("/")[2]
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        assert names
        documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
        # The stand-in stores a stack's role policy as a Python literal, and AWS::NoValue in a list as None.
        return [item for document in documents for item in ast.literal_eval(document)["Statement"] if item]


@pytest.fixture
def stacks(aws: Aws) -> Stacks:
    """Creates the stacks of `infra/`."""
    return Stacks(aws)
