"""The policy evaluator decides the cases of AWS's documentation correctly."""

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
def test_matching_statement_allows_the_request(statement):
    assert why_denied(TASK, READ, [statement], None, ACCOUNT) == ""


@pytest.mark.parametrize(
    "statement",
    [
        allow("s3:GetObjectVersion"),
        allow("s3:GetObjec"),
        allow(resource="arn:aws:s3:::bucket"),
        allow(resource="arn:aws:s3:::BUCKET/*"),
        # Brackets are not a character class, unlike in a shell.
        allow(resource="arn:aws:s3:::[b]ucket/*"),
        {"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::bucket/*"},
        allow(Condition={"Bool": {"aws:SecureTransport": "false"}}),
        allow(Condition={"StringEquals": {"aws:Absent": "x"}}),
        allow(Condition={"Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"aws:Absent": "x"}}),
    ],
)
def test_statement_that_does_not_match_denies_the_request(statement):
    assert why_denied(TASK, READ, [statement], None, ACCOUNT) == NO_IDENTITY


def test_explicit_deny_overrides_every_allow():
    denied = deny(resource="arn:aws:s3:::bucket/dags/*")
    assert why_denied(TASK, READ, [allow(), denied], None, ACCOUNT).startswith("with an explicit deny in an identity")
    bucket_deny = deny(Principal="*")
    assert why_denied(TASK, READ, [allow()], [bucket_deny], ACCOUNT).startswith("with an explicit deny in a resource")


@pytest.mark.parametrize(
    ("principal", "owner", "identity", "allowed"),
    [
        # Within one account, a resource policy for the role is enough. For the account it is not.
        ({"AWS": ROLE}, ACCOUNT, False, True),
        ({"AWS": ACCOUNT}, ACCOUNT, False, False),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, ACCOUNT, True, True),
        ({"AWS": ROLE + "-other"}, ACCOUNT, False, False),
        # Across accounts, both policies must allow the request.
        ({"AWS": ROLE}, OTHER, False, False),
        ({"AWS": ROLE}, OTHER, True, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, OTHER, True, True),
        ({"AWS": f"arn:aws:iam::{OTHER}:root"}, OTHER, True, False),
    ],
)
def test_resource_policy_is_evaluated_by_account(principal, owner, identity, allowed):
    resource_policy = [allow(Principal=principal)]
    assert (why_denied(TASK, READ, [allow()] if identity else [], resource_policy, owner) == "") == allowed


def test_key_and_role_policies_also_restrict_administrators():
    everything = [allow("*", "*")]
    for right in (Right("kms:Decrypt", "arn:aws:kms:x:1:key/y"), Right("sts:AssumeRole", ROLE)):
        resource_policy = [{"Effect": "Allow", "Principal": {"AWS": ROLE + "-other"}, "Action": "*", "Resource": "*"}]
        assert why_denied(TASK, right, everything, resource_policy, ACCOUNT).startswith(
            "because no resource-based policy"
        )
        resource_policy[0]["Principal"] = {"AWS": ACCOUNT}
        assert why_denied(TASK, right, everything, resource_policy, ACCOUNT) == ""
        assert why_denied(TASK, right, [], resource_policy, ACCOUNT).startswith("because no identity-based policy")


def test_service_is_trusted_by_its_name_and_source_arn():
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
    ("statement", "message"),
    [
        (allow(Condition={"NumericLessThan": {"s3:max-keys": "10"}}), "the condition NumericLessThan"),
        (allow(Condition={"ForAnyValue:StringLike": {"aws:TagKeys": "x"}}), "the condition ForAnyValue:StringLike"),
    ],
)
def test_unsupported_policy_element_is_an_error(statement, message):
    with pytest.raises(UndecidedError, match=message):
        why_denied(TASK, READ, [statement], None, ACCOUNT)
    with pytest.raises(UndecidedError, match="NotPrincipal"):
        why_denied(TASK, READ, [], [deny(NotPrincipal={"AWS": ROLE})], ACCOUNT)


def test_statements_are_read_from_json_and_from_moto_literals():
    assert statements(None) == []
    assert statements('{"Statement": {"Effect": "Allow"}}') == [{"Effect": "Allow"}]
    assert statements("{'Statement': [{'Effect': 'Allow'}, None]}") == [{"Effect": "Allow"}]
