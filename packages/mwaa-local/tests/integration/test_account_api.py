"""Account APIs of the AWS stand-in: policy simulation, and SNS subscriptions that need confirmation."""

import json
import secrets
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mwaa_local.testing.aws import Aws

KEY = "arn:aws:kms:us-east-1:123456789012:key/one"


@pytest.fixture
def role(aws: Aws) -> str:
    """A role that can read one bucket and decrypt through S3, and cannot delete objects."""
    iam, name = aws.client("iam"), f"simulated-{secrets.token_hex(4)}"
    policy: dict[str, Any] = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::one/*"},
            {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "kms:Decrypt",
                "Resource": KEY,
                "Condition": {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
            },
        ],
    }
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="one", PolicyDocument=json.dumps(policy))
    return arn


def decisions(aws: Aws, role: str, *actions: str, **options: Any) -> dict[tuple[str, str], str]:
    pages = (
        aws.client("iam")
        .get_paginator("simulate_principal_policy")
        .paginate(PolicySourceArn=role, ActionNames=list(actions), **options)
    )
    results = [result for page in pages for result in page["EvaluationResults"]]
    return {(result["EvalActionName"], result["EvalResourceName"]): result["EvalDecision"] for result in results}


def test_each_action_is_simulated_on_each_resource(aws: Aws, role: str) -> None:
    one, two = "arn:aws:s3:::one/x", "arn:aws:s3:::two/x"
    assert decisions(aws, role, "s3:GetObject", "s3:DeleteObject", ResourceArns=[one, two]) == {
        ("s3:GetObject", one): "allowed",
        ("s3:GetObject", two): "implicitDeny",
        ("s3:DeleteObject", one): "explicitDeny",
        ("s3:DeleteObject", two): "explicitDeny",
    }
    assert decisions(aws, role, "s3:GetObject") == {("s3:GetObject", "*"): "implicitDeny"}


def test_context_keys_decide_conditions(aws: Aws, role: str) -> None:
    for service, decision in (("s3", "allowed"), ("sqs", "implicitDeny")):
        values = [f"{service}.us-east-1.amazonaws.com"]
        entry = {"ContextKeyName": "kms:ViaService", "ContextKeyValues": values, "ContextKeyType": "string"}
        response = decisions(aws, role, "kms:Decrypt", ResourceArns=[KEY], ContextEntries=[entry])
        assert response == {("kms:Decrypt", KEY): decision}


def test_wildcards_and_unknown_roles_are_rejected(aws: Aws, role: str) -> None:
    with pytest.raises(ClientError, match=r"InvalidInput.*Invalid Action Names: s3:\*"):
        decisions(aws, role, "s3:*")
    with pytest.raises(ClientError, match="NoSuchEntity"):
        decisions(aws, f"{role}x", "s3:GetObject")


def test_email_subscriptions_wait_for_confirmation(aws: Aws) -> None:
    sns, name = aws.client("sns"), secrets.token_hex(4)
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = f"arn:aws:sqs:us-east-1:123456789012:{name}"
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="you@example.com")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    subscriptions = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    arns = {item["Endpoint"]: item["SubscriptionArn"] for item in subscriptions}
    assert arns["you@example.com"] == "PendingConfirmation"
    assert arns[queue].startswith(f"{topic}:")
    with pytest.raises(sns.exceptions.NotFoundException):
        sns.list_subscriptions_by_topic(TopicArn=f"{topic}x")
