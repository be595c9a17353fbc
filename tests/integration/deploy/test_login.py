"""The role that logs in to a warehouse of another account: taken by one execution role, and good for one login.

The stand-in enforces who may take a role. For calls to Redshift and Secrets Manager it does not know which resource is
meant, so there its evaluator of policies is asked.
"""

import ast
import json
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from moto.iam.access_control import IAMPolicy, PermissionResult

from tests.fixtures.aws import Aws, running_aws
from tests.fixtures.stacks import Stacks, listed

HERE, THERE, REGION = "123456789012", "210987654321", "eu-west-1"
EXECUTION_ROLE = f"arn:aws:iam::{HERE}:role/flights-execution"
SECRET = f"arn:aws:secretsmanager:{REGION}:{THERE}:secret:flights/dbt_user-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:{THERE}:key/one"
WORKGROUP = f"arn:aws:redshift-serverless:{REGION}:{THERE}:workgroup/0f1e2d3c"
CLUSTER = f"arn:aws:redshift:{REGION}:{THERE}"


class OtherAccount:
    """The stand-in, seen from the warehouse's account and Region."""

    def __init__(self, aws: Aws) -> None:
        administrator = f"arn:aws:iam::{THERE}:role/administrator"
        given = aws.client("sts").assume_role(RoleArn=administrator, RoleSessionName="test")["Credentials"]
        self.url, self._keys = aws.url, keys(given)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **self._keys)


def keys(given: dict[str, str]) -> dict[str, str]:
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }


@pytest.fixture
def there(aws: Aws) -> OtherAccount:
    return OtherAccount(aws)


def login(account: OtherAccount, **parameters: str) -> tuple[str, list[dict[str, Any]]]:
    """Make the stack; returns the role's ARN and what it may do."""
    stacks = Stacks(account)
    role = stacks.make("login.yml", ExecutionRoleArn=EXECUTION_ROLE, **parameters)["RoleArn"]
    assert role == f"arn:aws:iam::{THERE}:role/{stacks.name}-warehouse-login"
    return role, stacks.policies(role)


def may(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    policy = IAMPolicy(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    return policy.is_action_permitted(action, resource) == PermissionResult.PERMITTED


def test_one_role_takes_it_and_says_the_external_id(there: OtherAccount) -> None:
    role, _ = login(there, SecretArn=SECRET, ExternalId="flights-dev")
    shown = there.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"]
    (statement,) = (ast.literal_eval(shown) if isinstance(shown, str) else shown)["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"AWS": EXECUTION_ROLE},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "flights-dev"}},
    }


@pytest.mark.parametrize(
    ("parameters", "granted"),
    [
        (
            {"ClusterIdentifier": "one"},
            {
                ("redshift:GetClusterCredentials", f"{CLUSTER}:{what}")
                for what in ("dbuser:one/dbt_user", "dbname:one/dev")
            },
        ),
        (
            {"ClusterIdentifier": "one", "DbUser": "", "Database": "sales"},
            {("redshift:GetClusterCredentialsWithIAM", f"{CLUSTER}:dbname:one/sales")},
        ),
        ({"WorkgroupArn": WORKGROUP}, {("redshift-serverless:GetCredentials", WORKGROUP)}),
        ({"SecretArn": SECRET}, {("secretsmanager:GetSecretValue", SECRET)}),
        (
            {"SecretArn": SECRET, "SecretKeyArn": KEY},
            {("secretsmanager:GetSecretValue", SECRET), ("kms:Decrypt", KEY)},
        ),
    ],
)
def test_it_may_do_what_its_login_takes_and_nothing_else(
    there: OtherAccount, parameters: dict[str, str], granted: set[tuple[str, str]]
) -> None:
    _, statements = login(there, **parameters)
    every = {(action, each) for s in statements for action in listed(s["Action"]) for each in listed(s["Resource"])}
    assert every == granted
    for action, resource in granted:
        assert may(statements, action, resource)
        assert not may(statements, action, resource + "-other")
    for action, resource in (
        ("redshift:GetClusterCredentials", f"{CLUSTER}:dbuser:one/awsuser"),
        ("redshift:CreateClusterUser", f"{CLUSTER}:dbuser:one/dbt_user"),
        ("redshift:JoinGroup", f"{CLUSTER}:dbgroup:one/admins"),
        ("redshift-serverless:GetCredentials", WORKGROUP.replace("0f1e", "aaaa")),
        ("secretsmanager:GetSecretValue", SECRET.replace("dbt_user", "awsuser")),
        ("secretsmanager:PutSecretValue", SECRET),
        ("sts:AssumeRole", EXECUTION_ROLE),
    ):
        assert not may(statements, action, resource), action


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """STS clients of two execution roles at a stand-in that enforces policies; one may take a role, the other none."""
    with running_aws(tmp_path_factory.mktemp("login")) as aws:
        role, _ = login(OtherAccount(aws), ClusterIdentifier="one")
        vpc = aws.client("ec2").create_vpc(CidrBlock="10.6.0.0/16")["Vpc"]["VpcId"]
        common = {
            "VpcId": vpc,
            "SubnetIds": "subnet-12345678,subnet-87654321",
            "DagsBucketName": "x",
            "KeyArn": f"arn:aws:kms:us-east-1:{HERE}:key/one",
        }
        clients = {"role": role}
        for name, parameters in (("may", {"WarehouseRoleArns": role}), ("may not", {})):
            stacks = Stacks(aws)
            made = stacks.make("environment.yml", **common, **parameters)
            # Whatever runs is this role; the stand-in cannot read the trust that CloudFormation writes there.
            document = json.dumps({"Version": "2012-10-17", "Statement": stacks.policies(made["ExecutionRoleArn"])})
            iam, copy = aws.client("iam"), f"{stacks.name}-copy"
            arn = iam.create_role(RoleName=copy, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
            iam.put_role_policy(RoleName=copy, PolicyName="all", PolicyDocument=document)
            given = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="task")["Credentials"]
            clients[name] = boto3.client("sts", endpoint_url=aws.url, region_name="us-east-1", **keys(given))
        httpx.post(f"{aws.url}/moto-api/reset-auth", content=b"0").raise_for_status()
        yield clients


def test_a_task_takes_the_role_that_its_environment_names_and_is_in_the_other_account(guarded: dict[str, Any]) -> None:
    given = guarded["may"].assume_role(RoleArn=guarded["role"], RoleSessionName="flights_redshift")
    assert given["AssumedRoleUser"]["Arn"].startswith(f"arn:aws:sts::{THERE}:assumed-role/")


@pytest.mark.parametrize(
    ("who", "role"),
    [
        ("may", f"arn:aws:iam::{THERE}:role/administrator"),
        ("may", EXECUTION_ROLE),
        ("may not", None),
    ],
)
def test_a_task_takes_no_other_role(guarded: dict[str, Any], who: str, role: str | None) -> None:
    with pytest.raises(ClientError) as refused:
        guarded[who].assume_role(RoleArn=role or guarded["role"], RoleSessionName="flights_redshift")
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
