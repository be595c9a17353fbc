"""The release role of infra/github.yml has exactly the permissions that a release, rollback and smoke test need.

The tests assume the role as a GitHub job does. The permissions of tasks are tested in mwaa-local.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from mwaa_local.aws import roles, seed
from mwaa_local.settings import ENVIRONMENT
from mwaa_local.templates import Template
from mwaa_local.testing import monitoring
from mwaa_local.testing.artifacts import MANIFEST
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.permissions import denied, without_each_permission
from mwaa_local.testing.stacks import properties
from mwaa_release.apply import apply, rollback
from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError
from mwaa_release.freshness import warehouse_environment
from mwaa_release.lock import KEY as LOCK
from mwaa_release.release import LAMBDA_ZIP, Artifact
from mwaa_release.smoke import smoke

ROLE = seed.RELEASE_ROLE_ARN.rpartition("/")[2]
DAGS, ACCOUNT = f"arn:aws:s3:::{seed.DAGS_BUCKET}", "us-east-1:123456789012"
ADDED = {"FunctionName": seed.FUNCTION, "StatementId": "x", "Action": "lambda:InvokeFunction", "Principal": "*"}
MakeArtifact = Callable[..., Artifact]


@dataclass
class Account:
    """An AWS account with the resources of `make run`, without Airflow."""

    aws: Aws
    releases: int = 0

    def session(self, role: str = seed.RELEASE_ROLE_ARN, subject: str = roles.RELEASE_JOB) -> boto3.Session:
        return roles.job_session(self.aws.settings, role, subject)

    def client(self, service: str, **options: str) -> Any:
        return roles.client_of(self.session(**options), self.aws.settings, service)

    def release(self, make_artifact: MakeArtifact, role: str = seed.RELEASE_ROLE_ARN) -> str:
        """Make the AWS calls of the workflows with the role, and return the error or an empty string.

        These are two releases that change every part and take over the lock of a killed release, a rollback, and the
        first call of a smoke test, which fails without Airflow.
        """
        s3, functions, mwaa = (self.client(service, role=role) for service in ("s3", "lambda", "mwaa"))
        bucket = Bucket(seed.DAGS_BUCKET, s3)
        try:
            for number in range(2):
                self.releases += 1
                new = secrets.token_hex(4)
                project = {
                    "models/one.sql": f"select '{new}'",
                    "models/same.sql": "select 1",
                    "manifest.json": MANIFEST,
                }
                files = {"dags/pipelines.py": new, "dags/parts/x.py": new, "requirements.txt": new, "startup.sh": new}
                files[f"wheels/dbt/x-{new}-py3-none-any.whl"] = new
                artifact = make_artifact(
                    self.releases, project, files | ({f"dags/old_{new}.py": "1"} if number else {})
                )
                (artifact.folder / LAMBDA_ZIP).write_bytes(seed._zipped_handler() + new.encode())
                self.aws.client("s3").put_object(Bucket=bucket.name, Key=LOCK, Body=b"{}")
                names = [seed.FUNCTION, monitoring.FUNCTION]
                apply(artifact, bucket, _no_progress, functions, names, mwaa, ENVIRONMENT, lease_seconds=0.4)
                if Bucket(bucket.name, self.aws.client("s3")).read(LOCK) is not None:
                    return "the lock was left"
            rollback(bucket, "flights")
            smoke(mwaa, ENVIRONMENT, "flights_pipeline", "x")
        except DeployError as error:
            return "" if "InternalServerException" in str(error) else str(error)
        raise AssertionError("no Airflow, and a smoke test that passed")


def _no_progress(*_: Any, **__: Any) -> None: ...


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("guarded")
    with running_aws(folder) as aws:
        seed.seed(aws.settings, SimpleNamespace(dbt_user="Aa1"), "warehouse.example.com", 5439)
        monitoring.deploy_overdue_runs(aws.settings, folder)
        yield Account(aws)


def test_release_role_can_release_roll_back_and_smoke_test(account: Account, make_artifact) -> None:
    before = denied(account.aws)
    assert account.release(make_artifact) == ""
    assert denied(account.aws) == before
    log = (account.aws.settings.state / "aws.log").read_text()
    assert log.count(f"allowed: arn:aws:sts::123456789012:assumed-role/{ROLE}/release s3:ListBucket on {DAGS}\n") == 1


def test_deployer_can_release_but_cannot_access_other_environments(account: Account, make_artifact) -> None:
    iam = account.aws.client("iam")
    # The new role trusts the same jobs, so the test can assume it in the same way.
    trust = iam.get_role(RoleName=ROLE)["Role"]["AssumeRolePolicyDocument"]
    role = iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    policy = Template("deployer.yml", {}).evaluate(properties("deployer.yml", "Policy"))["PolicyDocument"]
    iam.put_role_policy(RoleName="deployer", PolicyName="deployer", PolicyDocument=json.dumps(policy))
    assert account.release(make_artifact, role) == ""
    for service, call, arguments in (
        ("s3", "get_object", {"Bucket": "prod", "Key": "dags/x"}),
        ("iam", "put_role_policy", {"RoleName": "admin", "PolicyName": "x", "PolicyDocument": "{}"}),
        ("mwaa", "get_environment", {"Name": "prod"}),
    ):
        with pytest.raises(ClientError, match="is not authorized to perform"):
            getattr(account.client(service, role=role), call)(**arguments)


@pytest.mark.parametrize(
    ("service", "call", "arguments", "needed"),
    [
        ("s3", "put_object", {"Key": "plugins.zip", "Body": b"x"}, f"s3:PutObject on resource: {DAGS}/plugins.zip"),
        ("s3", "put_object", {"Bucket": "prod", "Key": "dags/x"}, "s3:PutObject on resource: arn:aws:s3:::prod/dags/x"),
        ("s3", "get_object", {"Bucket": "prod", "Key": "dags/x"}, "s3:GetObject on resource: arn:aws:s3:::prod/dags/x"),
        ("s3", "list_objects_v2", {"Bucket": "prod"}, "s3:ListBucket on resource: arn:aws:s3:::prod"),
        ("s3", "get_object", {"Key": "kept_results/x"}, f"s3:GetObject on resource: {DAGS}/kept_results/x"),
        ("s3", "delete_object", {"Key": "startup.sh"}, f"s3:DeleteObject on resource: {DAGS}/startup.sh"),
        (
            "s3",
            "delete_object",
            {"Key": "dags/x", "VersionId": "1"},
            f"s3:DeleteObjectVersion on resource: {DAGS}/dags/x",
        ),
        ("s3", "delete_objects", {"Delete": {"Objects": [{"Key": "dags/x"}, {"Key": "y"}]}}, f"resource: {DAGS}/y"),
        ("s3", "copy_object", {"Key": "dags/x", "CopySource": "prod/secret"}, "resource: arn:aws:s3:::prod/secret"),
        ("s3", "create_multipart_upload", {"Key": "big"}, f"s3:PutObject on resource: {DAGS}/big"),
        ("s3", "delete_bucket", {}, f"s3:DeleteBucket on resource: {DAGS}"),
        ("s3", "put_bucket_policy", {"Policy": "{}"}, f"s3:PutBucketPolicy on resource: {DAGS}"),
        ("s3", "list_buckets", {}, "s3:ListAllMyBuckets"),
        ("secretsmanager", "get_secret_value", {"SecretId": seed.dbt_secret()}, "secret:flights/dbt_user-"),
        ("lambda", "invoke", {"FunctionName": seed.FUNCTION}, "lambda:InvokeFunction"),
        ("lambda", "update_function_code", {"FunctionName": "other", "ZipFile": b"x"}, f"{ACCOUNT}:function:other"),
        ("lambda", "add_permission", ADDED, "lambda:AddPermission"),
        ("sns", "publish", {"TopicArn": f"arn:aws:sns:{ACCOUNT}:{seed.TOPIC}", "Message": "x"}, "sns:Publish"),
        ("iam", "put_role_policy", {"RoleName": ROLE, "PolicyName": "x", "PolicyDocument": "{}"}, "iam:PutRolePolicy"),
        ("sts", "assume_role", {"RoleArn": seed.WAREHOUSE_ROLE_ARN, "RoleSessionName": "xx"}, "sts:AssumeRole"),
        (
            "mwaa",
            "get_environment",
            {"Name": "prod"},
            f"airflow:GetEnvironment on resource: arn:aws:airflow:{ACCOUNT}:",
        ),
        ("mwaa", "delete_environment", {"Name": ENVIRONMENT}, "airflow:DeleteEnvironment"),
        ("mwaa", "invoke_rest_api", {"Name": "prod", "Method": "GET", "Path": "/dags"}, "role/prod/User"),
        ("kms", "decrypt", {"CiphertextBlob": b"x", "KeyId": "alias/flights"}, "kms:Decrypt"),
        ("dynamodb", "list_tables", {}, "dynamodb:ListTables on resource: \\*"),
    ],
)
def test_release_role_has_no_other_permission(
    account: Account, service: str, call: str, arguments: dict[str, Any], needed: str
) -> None:
    if service == "s3" and call != "list_buckets":
        arguments = {"Bucket": seed.DAGS_BUCKET, **arguments}
    with pytest.raises(ClientError, match=f"User: arn:aws:sts::123456789012:assumed-role/{ROLE}/release .*{needed}"):
        getattr(account.client(service), call)(**arguments)


def test_missing_object_is_access_denied_without_list_permission(account: Account) -> None:
    missing = {"Bucket": seed.DAGS_BUCKET, "Key": "dags/missing"}
    with pytest.raises(ClientError, match="NoSuchKey"):
        account.client("s3").get_object(**missing)
    for permission in without_each_permission(account.aws, ROLE):
        if permission.action == "s3:ListBucket":
            with pytest.raises(ClientError, match=permission.words):
                account.client("s3").get_object(**missing)


@pytest.mark.parametrize(
    "subject",
    [
        "repo:acme/data:environment:prod",
        "repo:acme/data:environment:dev-warehouse",
        "repo:acme/data:ref:refs/heads/main",
        "repo:acme/data:pull_request",
        "repo:mallory/data:environment:dev",
        "repo:acme/data:environment:DEV",
    ],
)
def test_other_github_jobs_cannot_assume_the_release_role(account: Account, subject: str) -> None:
    with pytest.raises(ClientError, match="Not authorized to perform sts:AssumeRoleWithWebIdentity"):
        account.session(subject=subject)


def test_administrator_and_forged_credentials_cannot_use_the_release_role(account: Account) -> None:
    sts = account.aws.client("sts")
    with pytest.raises(ClientError, match=f"administrator is not authorized to perform: sts:AssumeRole .*{ROLE}"):
        sts.assume_role(RoleArn=seed.RELEASE_ROLE_ARN, RoleSessionName="person")
    credentials = account.session().get_credentials()
    for key, secret, token, code in (
        (credentials.access_key, "x", credentials.token, "SignatureDoesNotMatch"),
        (credentials.access_key, credentials.secret_key, "x", "InvalidAccessKeyId"),
        ("ASIAABCDEFGHIJKLMNOP", credentials.secret_key, credentials.token, "InvalidAccessKeyId"),
    ):
        forged = roles.client_of(boto3.Session(key, secret, token), account.aws.settings, "s3")
        with pytest.raises(ClientError, match=code):
            forged.list_objects_v2(Bucket=seed.DAGS_BUCKET)


def test_bucket_policy_is_evaluated_too(account: Account) -> None:
    s3 = account.aws.client("s3")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"{DAGS}/*"}
    policy = {"Version": "2012-10-17", "Statement": [deny]}
    s3.put_bucket_policy(Bucket=seed.DAGS_BUCKET, Policy=json.dumps(policy))
    try:
        with pytest.raises(ClientError, match="with an explicit deny in a resource-based policy"):
            account.client("s3").get_object(Bucket=seed.DAGS_BUCKET, Key="dags/pipelines.py")
        # Like the policy in infra/storage.yml. Requests count as TLS requests.
        deny["Condition"] = {"Bool": {"aws:SecureTransport": "false"}}
        s3.put_bucket_policy(Bucket=seed.DAGS_BUCKET, Policy=json.dumps(policy))
        account.client("s3").list_objects_v2(Bucket=seed.DAGS_BUCKET)
        # A condition that the evaluator does not support is denied.
        deny["Condition"] = {"NumericLessThan": {"s3:signatureAge": "1"}}
        s3.put_bucket_policy(Bucket=seed.DAGS_BUCKET, Policy=json.dumps(policy))
        with pytest.raises(ClientError, match="cannot evaluate a policy with the condition NumericLessThan"):
            account.client("s3").get_object(Bucket=seed.DAGS_BUCKET, Key="dags/pipelines.py")
    finally:
        s3.delete_bucket_policy(Bucket=seed.DAGS_BUCKET)


def test_freshness_role_can_read_only_its_two_secrets(account: Account) -> None:
    role = {"role": seed.WAREHOUSE_ROLE_ARN, "subject": "repo:acme/data:environment:dev-warehouse"}
    manager = account.client("secretsmanager", **role)
    actual = warehouse_environment(manager, "flights_pipeline")
    assert (actual["REDSHIFT_HOST"], actual["REDSHIFT_PASSWORD"]) == ("warehouse.example.com", "Aa1")
    account.aws.client("secretsmanager").create_secret(Name="airflow/connections/other", SecretString="x")
    for service, call, arguments in (
        ("secretsmanager", "get_secret_value", {"SecretId": "airflow/connections/other"}),
        ("secretsmanager", "put_secret_value", {"SecretId": seed.dbt_secret(), "SecretString": "x"}),
        ("s3", "get_object", {"Bucket": seed.DAGS_BUCKET, "Key": "dags/pipelines.py"}),
        ("mwaa", "get_environment", {"Name": ENVIRONMENT}),
    ):
        with pytest.raises(ClientError, match="local-warehouse-dev/release is not authorized to perform"):
            getattr(account.client(service, **role), call)(**arguments)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_release_role_has_no_unused_permission(account: Account, make_artifact) -> None:
    assert account.release(make_artifact) == ""
    unused = []
    for permission in without_each_permission(account.aws, ROLE):
        before = denied(account.aws)
        if account.release(make_artifact):
            assert re.search(f"{ROLE}/release {permission.words}", denied(account.aws).removeprefix(before))
        else:
            unused.append(permission)
    assert unused == []


def test_freshness_and_alert_roles_have_no_unused_permission(account: Account) -> None:
    role = {"role": seed.WAREHOUSE_ROLE_ARN, "subject": "repo:acme/data:environment:dev-warehouse"}
    for permission in without_each_permission(account.aws, "local-warehouse-dev"):
        with pytest.raises(DeployError, match=permission.words):
            warehouse_environment(account.client("secretsmanager", **role), "flights_pipeline")
    unused = []
    for permission in without_each_permission(account.aws, seed.ROLE):
        response = account.aws.client("lambda").invoke(FunctionName=seed.FUNCTION, Payload='{"dag_name": "x"}')
        messages = response["Payload"].read().decode()
        if "FunctionError" in response:
            assert re.search(f"{seed.ROLE}/{seed.FUNCTION} {permission.words}", messages)
        else:
            unused.append(permission.action)
    # Lambda itself uses these permissions for the log.
    assert unused == ["logs:CreateLogStream", "logs:PutLogEvents"]
