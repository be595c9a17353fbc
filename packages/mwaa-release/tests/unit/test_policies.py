"""Decisions of the policy evaluator, by the cases of AWS's documentation."""

from typing import Any

import pytest

from mwaa_release.policies import Principal, Right, UndecidedError, statements, why_denied

ACCOUNT, OTHER = "123456789012", "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/task"
TASK = Principal(f"arn:aws:sts::{ACCOUNT}:assumed-role/task/x", ACCOUNT, frozenset({("AWS", ROLE)}))
SERVICE = Principal("lambda.amazonaws.com", "", frozenset({("Service", "lambda.amazonaws.com")}))
READ = Right("s3:GetObject", "arn:aws:s3:::bucket/dags/x.py", {"aws:SecureTransport": "true"})
NO_IDENTITY = "because no identity-based policy allows the s3:GetObject action"


def allow(action: Any = "s3:GetObject", resource: Any = "arn:aws:s3:::bucket/*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(**more: Any) -> dict[str, Any]:
    return allow(**more) | {"Effect": "Deny"}


@pytest.mark.parametrize(
    "statement",
    [
        allow(),
        allow(["iam:ListRoles", "s3:Get*"]),
        allow("S3:getobject"),
        allow("*", "*"),
        allow(resource="arn:aws:s3:::bucket/dags/?.py"),
        {"Effect": "Allow", "NotAction": "s3:PutObject", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::other/*"},
        allow(Condition={"Bool": {"aws:SecureTransport": True}}),
        allow(Condition={"StringNotEquals": {"aws:Absent": "x"}}),
        allow(Condition={"StringEqualsIfExists": {"aws:Absent": "x"}}),
        allow(Condition={"Null": {"aws:Absent": "true"}}),
    ],
)
def test_allowed(statement):
    assert why_denied(TASK, READ, [statement], None, ACCOUNT) == ""


@pytest.mark.parametrize(
    "statement",
    [
        allow("s3:GetObjectVersion"),
        allow("s3:GetObjec"),
        allow(resource="arn:aws:s3:::bucket"),
        allow(resource="arn:aws:s3:::BUCKET/*"),
        # Not a class of characters, as it is in the shell.
        allow(resource="arn:aws:s3:::[b]ucket/*"),
        {"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::bucket/*"},
        allow(Condition={"Bool": {"aws:SecureTransport": "false"}}),
        allow(Condition={"StringEquals": {"aws:Absent": "x"}}),
        allow(Condition={"Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"aws:Absent": "x"}}),
    ],
)
def test_not_allowed(statement):
    assert why_denied(TASK, READ, [statement], None, ACCOUNT) == NO_IDENTITY


def test_a_deny_goes_before_whatever_allows():
    denied = deny(resource="arn:aws:s3:::bucket/dags/*")
    assert why_denied(TASK, READ, [allow(), denied], None, ACCOUNT).startswith("with an explicit deny in an identity")
    on_bucket = deny(Principal="*")
    assert why_denied(TASK, READ, [allow()], [on_bucket], ACCOUNT).startswith("with an explicit deny in a resource")


@pytest.mark.parametrize(
    ("principal", "owner", "identity", "allowed"),
    [
        # In one account a resource that names the role is enough, and one that names the account passes it on.
        ({"AWS": ROLE}, ACCOUNT, False, True),
        ({"AWS": ACCOUNT}, ACCOUNT, False, False),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, ACCOUNT, True, True),
        ({"AWS": ROLE + "-other"}, ACCOUNT, False, False),
        # Between accounts both must allow.
        ({"AWS": ROLE}, OTHER, False, False),
        ({"AWS": ROLE}, OTHER, True, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, OTHER, True, True),
        ({"AWS": f"arn:aws:iam::{OTHER}:root"}, OTHER, True, False),
    ],
)
def test_the_policy_of_the_resource(principal, owner, identity, allowed):
    own = [allow(Principal=principal)]
    assert (why_denied(TASK, READ, [allow()] if identity else [], own, owner) == "") == allowed


def test_the_policy_of_a_key_or_role_restricts_administrators_too():
    everything = [allow("*", "*")]
    for right in (Right("kms:Decrypt", "arn:aws:kms:x:1:key/y"), Right("sts:AssumeRole", ROLE)):
        own = [{"Effect": "Allow", "Principal": {"AWS": ROLE + "-other"}, "Action": "*", "Resource": "*"}]
        assert why_denied(TASK, right, everything, own, ACCOUNT).startswith("because no resource-based policy")
        own[0]["Principal"] = {"AWS": ACCOUNT}
        assert why_denied(TASK, right, everything, own, ACCOUNT) == ""
        assert why_denied(TASK, right, [], own, ACCOUNT).startswith("because no identity-based policy")


def test_a_service_is_trusted_by_its_name_and_the_source():
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": ["lambda.amazonaws.com", "events.amazonaws.com"]},
        "Action": "sts:AssumeRole",
        "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:lambda:*:123456789012:function:one"}},
    }
    source = "arn:aws:lambda:us-east-1:123456789012:function:"
    for name, service, allowed in (("one", SERVICE, True), ("two", SERVICE, False), ("one", TASK, False)):
        right = Right("sts:AssumeRole", ROLE, {"aws:SourceArn": source + name})
        assert (why_denied(service, right, [], [trust], ACCOUNT) == "") == allowed


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (allow(Condition={"NumericLessThan": {"s3:max-keys": "10"}}), "the condition NumericLessThan"),
        (allow(Condition={"ForAnyValue:StringLike": {"aws:TagKeys": "x"}}), "the condition ForAnyValue:StringLike"),
    ],
)
def test_what_it_does_not_know_is_never_passed_over(statement, named):
    with pytest.raises(UndecidedError, match=named):
        why_denied(TASK, READ, [statement], None, ACCOUNT)
    with pytest.raises(UndecidedError, match="NotPrincipal"):
        why_denied(TASK, READ, [], [deny(NotPrincipal={"AWS": ROLE})], ACCOUNT)


def test_statements_are_read_from_json_and_from_moto_literals():
    assert statements(None) == []
    assert statements('{"Statement": {"Effect": "Allow"}}') == [{"Effect": "Allow"}]
    assert statements("{'Statement': [{'Effect': 'Allow'}, None]}") == [{"Effect": "Allow"}]
