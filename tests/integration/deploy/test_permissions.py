"""A release and a task under the policies of infra/, enforced: they have what they need, and are denied all else.

The stand-in enforces policies of S3 and IAM; it cannot check the signatures of calls to Lambda and Secrets Manager.
"""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from cfnlint import decode

from deploy.apply import apply, rollback
from deploy.bucket import Bucket
from deploy.errors import SetupError
from tests.fixtures.artefacts import MANIFEST
from tests.fixtures.aws import Aws, running_aws
from tests.fixtures.stacks import Stacks

TEMPLATE = Path(__file__).parents[3] / "infra" / "github.yml"
PROJECT = {"models/one.sql": "select 1", "manifest.json": MANIFEST}
FILES = {"dags/pipelines.py": "1", "dags/old.py": "1", "requirements.txt": "r", "startup.sh": "s"}
BUCKET = "guarded-mwaa"
ONE, TWO = "20260101T000001Z-abcdef1", "20260101T000002Z-abcdef1"
# What is taken away from the release's policy, by role.
DENIED = {
    "release": [],
    "without-current": ["dags/dbt/flights/CURRENT"],
    "without-lock": ["deploy.lock"],
    "without-projects": ["dags/dbt/*"],
}
PARAMETERS = {
    "Repository": "acme/data",
    "GitHubEnvironment": "dev",
    "ProviderArn": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
    "DagsBucketName": BUCKET,
    "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/one",
}

ClientOf = Callable[[str, str], Any]


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def policy_of_the_stack(aws: Aws) -> list[dict[str, Any]]:
    content, _ = decode.decode(TEMPLATE)
    aws.client("cloudformation").create_stack(
        StackName="github",
        TemplateBody=json.dumps(content),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    role = aws.client("iam").get_role_policy(RoleName="flights-release-dev", PolicyName="release")
    # The stand-in keeps the policy of a stack's role as Python writes it, and then cannot read it itself; what a
    # condition leaves out stands there as None.
    return [each for each in ast.literal_eval(role["PolicyDocument"])["Statement"] if each]


def policies_of_tasks(aws: Aws) -> list[dict[str, Any]]:
    """The statements of the environment's execution role."""
    stacks = Stacks(aws)
    vpc = aws.client("ec2").create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnets = "subnet-12345678,subnet-87654321"
    parameters = {"DagsBucketName": BUCKET, "KeyArn": PARAMETERS["KeyArn"]}
    made = stacks.make("environment.yml", VpcId=vpc, SubnetIds=subnets, **parameters)
    return stacks.policies(made["ExecutionRoleArn"])


@pytest.fixture(scope="module")
def client_of(tmp_path_factory) -> Iterator[ClientOf]:
    """Gives a boto3 client of a role and a service, at a stand-in that denies whatever no policy allows."""
    with running_aws(tmp_path_factory.mktemp("guarded")) as aws:
        s3, iam, sts = (aws.client(service) for service in ("s3", "iam", "sts"))
        for name in (BUCKET, "someone-elses"):
            s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        # For a batch of deletions the stand-in asks for the right on the bucket; AWS asks for it on each object.
        batch = {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{BUCKET}"}
        allowed = [*policy_of_the_stack(aws), batch]
        trust = document({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"})
        credentials = {}
        statements = dict.fromkeys(DENIED, allowed) | {"task": policies_of_tasks(aws)}
        for role, keys in {**DENIED, "task": []}.items():
            arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
            denied = [
                {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/{key}"} for key in keys
            ]
            iam.put_role_policy(
                RoleName=role, PolicyName="release", PolicyDocument=document(*statements[role], *denied)
            )
            credentials[role] = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        httpx.post(f"{aws.url}/moto-api/reset-auth", content=b"0").raise_for_status()

        def client(role: str, service: str) -> Any:
            return boto3.client(
                service,
                endpoint_url=aws.url,
                region_name="us-east-1",
                aws_access_key_id=credentials[role]["AccessKeyId"],
                aws_secret_access_key=credentials[role]["SecretAccessKey"],
                aws_session_token=credentials[role]["SessionToken"],
            )

        yield client


def test_the_role_can_release_again_and_roll_back(client_of, make_artefact, live_release):
    bucket = Bucket(BUCKET, client_of("release", "s3"))
    apply(make_artefact(1, PROJECT, FILES), bucket)
    changed = PROJECT | {"models/one.sql": "select 2"}
    second = apply(make_artefact(2, changed, {"dags/pipelines.py": "2"}), bucket)
    assert (second.copied, second.plan.deleted) == (1, ["dags/old.py"])
    assert live_release(bucket) == TWO
    assert rollback(bucket, "flights") == (TWO, ONE)
    assert bucket.read("deploy.lock") is None


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "plugins.zip", "Body": b"x"}),
        ("s3", "put_object", {"Bucket": "someone-elses", "Key": "dags/x.py", "Body": b"x"}),
        ("s3", "get_object", {"Bucket": "someone-elses", "Key": "dags/x.py"}),
        ("s3", "list_objects_v2", {"Bucket": "someone-elses"}),
        ("s3", "put_bucket_versioning", {"Bucket": BUCKET, "VersioningConfiguration": {"Status": "Suspended"}}),
        ("s3", "delete_bucket", {"Bucket": BUCKET}),
        ("iam", "list_roles", {}),
    ],
)
def test_the_role_can_do_nothing_else(client_of, service, call, arguments):
    with pytest.raises(ClientError) as refused:
        getattr(client_of("release", service), call)(**arguments)
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")


@pytest.mark.parametrize("role", ["without-current", "without-lock", "without-projects"])
def test_a_right_that_lacks_is_named_and_nothing_half_is_live(client_of, make_artefact, live_release, role):
    apply(make_artefact(1, PROJECT, FILES), Bucket(BUCKET, client_of("release", "s3")))
    bucket = Bucket(BUCKET, client_of(role, "s3"))
    before = live_release(bucket)
    key = DENIED[role][0].rstrip("*")
    with pytest.raises(SetupError, match=rf"s3://{BUCKET}/{key}.*access denied by AWS \((Put|Copy)Object\)"):
        apply(make_artefact(10 + len(role), PROJECT | {"models/one.sql": role}, FILES), bucket)
    assert live_release(bucket) == before


def test_a_task_reads_the_dags_and_keeps_results(client_of):
    s3 = client_of("task", "s3")
    s3.list_objects_v2(Bucket=BUCKET, Prefix="dags/")
    s3.put_object(Bucket=BUCKET, Key="kept_results/flights/x.json", Body=b"{}")
    s3.delete_object(Bucket=BUCKET, Key="kept_results/flights/x.json")


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "dags/pipelines.py", "Body": b"x"}),
        ("s3", "delete_object", {"Bucket": BUCKET, "Key": "dags/dbt/flights/CURRENT"}),
        ("s3", "get_object", {"Bucket": "someone-elses", "Key": "x"}),
        ("iam", "list_roles", {}),
    ],
)
def test_a_task_can_do_nothing_else(client_of, service, call, arguments):
    with pytest.raises(ClientError) as refused:
        getattr(client_of("task", service), call)(**arguments)
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")
