"""The role for a warehouse in another account: one execution role can assume it, and it allows one login."""

import ast
import secrets
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mwaa_local.aws.roles import client_of, worker_session
from mwaa_local.testing.aws import Aws
from mwaa_local.testing.stacks import Stacks, listed
from mwaa_release.policies import Right, applies

ACCOUNT, WAREHOUSE_ACCOUNT, REGION = "123456789012", "210987654321", "eu-west-1"
EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/flights-execution"
SECRET = f"arn:aws:secretsmanager:{REGION}:{WAREHOUSE_ACCOUNT}:secret:flights/dbt_user-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:{WAREHOUSE_ACCOUNT}:key/one"
WORKGROUP = f"arn:aws:redshift-serverless:{REGION}:{WAREHOUSE_ACCOUNT}:workgroup/0f1e2d3c"
CLUSTER = f"arn:aws:redshift:{REGION}:{WAREHOUSE_ACCOUNT}"


class OtherAccount:
    """The AWS stand-in as seen from the warehouse's account and Region."""

    def __init__(self, aws: Aws) -> None:
        administrator = f"arn:aws:iam::{WAREHOUSE_ACCOUNT}:role/administrator"
        credentials = aws.client("sts").assume_role(RoleArn=administrator, RoleSessionName="test")["Credentials"]
        self.url, self._keys = aws.url, keys(credentials)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **self._keys)


def keys(credentials: dict[str, str]) -> dict[str, str]:
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


@pytest.fixture
def warehouse_account(aws: Aws) -> OtherAccount:
    return OtherAccount(aws)


def login(account: OtherAccount, **parameters: str) -> tuple[str, list[dict[str, Any]]]:
    """Create the stack and return the role's ARN and policy statements."""
    stacks = Stacks(account)
    role = stacks.make("warehouse-role.yml", **{"ExecutionRoleArn": EXECUTION_ROLE, **parameters})["RoleArn"]
    assert role == f"arn:aws:iam::{WAREHOUSE_ACCOUNT}:role/{parameters.get('Name', stacks.name)}-warehouse-login"
    return role, stacks.policies(role)


def is_allowed(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    request = Right(action, resource, {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"})
    return any(applies(entry, request) for entry in statements if entry["Effect"] == "Allow")


def test_only_the_execution_role_with_the_external_id_is_trusted(warehouse_account: OtherAccount) -> None:
    role, _ = login(warehouse_account, SecretArn=SECRET, ExternalId="flights-dev")
    trust_policy = warehouse_account.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"][
        "AssumeRolePolicyDocument"
    ]
    (statement,) = (ast.literal_eval(trust_policy) if isinstance(trust_policy, str) else trust_policy)["Statement"]
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
def test_warehouse_role_has_only_the_permission_of_its_login(
    warehouse_account: OtherAccount, parameters: dict[str, str], granted: set[tuple[str, str]]
) -> None:
    _, statements = login(warehouse_account, **parameters)
    permissions = {
        (action, entry) for s in statements for action in listed(s["Action"]) for entry in listed(s["Resource"])
    }
    assert permissions == granted
    for action, resource in granted:
        assert is_allowed(statements, action, resource)
        assert not is_allowed(statements, action, resource + "-other")
    for action, resource in (
        ("redshift:GetClusterCredentials", f"{CLUSTER}:dbuser:one/awsuser"),
        ("redshift:CreateClusterUser", f"{CLUSTER}:dbuser:one/dbt_user"),
        ("redshift:JoinGroup", f"{CLUSTER}:dbgroup:one/admins"),
        ("redshift-serverless:GetCredentials", WORKGROUP.replace("0f1e", "aaaa")),
        ("secretsmanager:GetSecretValue", SECRET.replace("dbt_user", "awsuser")),
        ("secretsmanager:PutSecretValue", SECRET),
        ("sts:AssumeRole", EXECUTION_ROLE),
    ):
        assert not is_allowed(statements, action, resource), action


@pytest.fixture
def tasks(aws: Aws, warehouse_account: OtherAccount) -> dict[str, Any]:
    """The role, and STS clients for tasks of two environments, of which only one can assume the role."""
    vpc = aws.client("ec2").create_vpc(CidrBlock="10.6.0.0/16")["Vpc"]["VpcId"]
    login_name = f"t{secrets.token_hex(4)}"
    role = f"arn:aws:iam::{WAREHOUSE_ACCOUNT}:role/{login_name}-warehouse-login"
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/one"
    common = {"VpcId": vpc, "SubnetIds": "subnet-12345678,subnet-87654321", "DagsBucketName": "x", "KeyArn": key}
    actual: dict[str, Any] = {"role": role}
    for who, parameters in (("trusted", {"WarehouseRoleArns": role}), ("untrusted", {})):
        stacks = Stacks(aws)
        execution = stacks.make("environment.yml", **common, **parameters)["ExecutionRoleArn"]
        if who == "trusted":
            login(
                warehouse_account,
                Name=login_name,
                ClusterIdentifier="one",
                ExecutionRoleArn=execution,
                ExternalId="flights",
            )
        aws.client("mwaa", config=Config(inject_host_prefix=False)).create_environment(
            Name=stacks.name,
            DagS3Path="dags",
            ExecutionRoleArn=execution,
            SourceBucketArn="arn:aws:s3:::x",
            NetworkConfiguration={"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
        )
        actual[who] = client_of(worker_session(aws.settings, stacks.name), aws.settings, "sts")
    return actual


def test_task_can_assume_its_environments_warehouse_role(aws: Aws, tasks: dict[str, Any]) -> None:
    role_request = {"RoleArn": tasks["role"], "RoleSessionName": "flights_redshift"}
    with pytest.raises(ClientError, match="no resource-based policy allows the sts:AssumeRole action"):
        tasks["trusted"].assume_role(**role_request)
    credentials = tasks["trusted"].assume_role(**role_request, ExternalId="flights")
    assert credentials["AssumedRoleUser"]["Arn"].startswith(f"arn:aws:sts::{WAREHOUSE_ACCOUNT}:assumed-role/")
    redshift = boto3.client("redshift", endpoint_url=aws.url, region_name=REGION, **keys(credentials["Credentials"]))
    dbt_login = {"ClusterIdentifier": "one", "DbUser": "dbt_user", "DbName": "dev"}
    # The role allows the request, but the cluster does not exist.
    with pytest.raises(ClientError, match="ClusterNotFound"):
        redshift.get_cluster_credentials(**dbt_login)
    for more, what in (
        ({"DbUser": "awsuser"}, "redshift:GetClusterCredentials .*dbuser:one/awsuser"),
        ({"DbName": "other"}, "redshift:GetClusterCredentials .*dbname:one/other"),
        ({"AutoCreate": True}, "redshift:CreateClusterUser"),
    ):
        with pytest.raises(ClientError, match=f"AccessDenied.*{what}"):
            redshift.get_cluster_credentials(**dbt_login | more)


@pytest.mark.parametrize(
    ("who", "role"),
    [
        ("trusted", f"arn:aws:iam::{WAREHOUSE_ACCOUNT}:role/administrator"),
        ("trusted", EXECUTION_ROLE),
        ("untrusted", None),
    ],
)
def test_task_cannot_assume_another_role(tasks: dict[str, Any], who: str, role: str | None) -> None:
    role_request = role or tasks["role"]
    with pytest.raises(ClientError, match=f"not authorized to perform: sts:AssumeRole on resource: {role_request}"):
        tasks[who].assume_role(RoleArn=role_request, RoleSessionName="flights_redshift", ExternalId="flights")
