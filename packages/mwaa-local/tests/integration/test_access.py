"""The AWS stand-in checks IAM policies and signatures of requests as real clients send them."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from mwaa_local.aws import roles, seed
from mwaa_local.testing.aws import Aws


@pytest.fixture
def s3(aws: Aws) -> Iterator[Any]:
    """An S3 client with the release role."""
    seed.seed(aws.settings, SimpleNamespace(dbt_user="Aa1"), "warehouse.example.com", 5439)
    client = roles.client_of(roles.job_session(aws.settings, seed.RELEASE_ROLE_ARN), aws.settings, "s3")
    yield client
    for entry in client.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="dags/").get("Contents", []):
        client.delete_object(Bucket=seed.DAGS_BUCKET, Key=entry["Key"])


@pytest.mark.parametrize("name", ["a b", "a+b", "ü/ñ", "a//b", "a%20b", "a?b=c&d", "a~b*(c)'!", "..", "a:b,c=d;e@f$g"])
def test_object_keys_with_special_characters_pass_the_signature_check(s3: Any, name: str) -> None:
    where = {"Bucket": seed.DAGS_BUCKET, "Key": f"dags/{name}"}
    s3.put_object(**where, Body=b"x" * 100_000, Metadata={"note": " two  words "})
    assert s3.get_object(**where)["Metadata"]["note"].strip() == "two  words"
    (entry,) = s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix=f"dags/{name}")["Contents"]
    assert entry["Key"] == where["Key"]
    with pytest.raises(ClientError, match="s3:PutObject"):
        s3.put_object(**where | {"Key": name}, Body=b"x")


def test_multipart_upload_works_and_denied_upload_is_an_error(s3: Any, tmp_path: Any) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"x" * 12_000_000)
    parts = TransferConfig(multipart_threshold=5_000_000, multipart_chunksize=6_000_000)
    s3.upload_file(str(file), seed.DAGS_BUCKET, "dags/big", Config=parts)
    assert s3.head_object(Bucket=seed.DAGS_BUCKET, Key="dags/big")["ContentLength"] == 12_000_000
    # The server responds while the client is still sending.
    with pytest.raises(ClientError, match=r"s3:PutObject on resource: .*/elsewhere"):
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key="elsewhere", Body=file.read_bytes())


def test_unsigned_requests_are_denied(aws: Aws, s3: Any) -> None:
    response = httpx.get(f"{aws.url}/{seed.DAGS_BUCKET}")
    assert (response.status_code, "MissingAuthenticationToken" in response.text) == (403, True)
    credentials = httpx.get(f"{aws.url}/local/credentials/nowhere")
    assert (credentials.status_code, credentials.json()["message"]) == (404, "Environment nowhere not found")
    for token in ("", "x", "x.y.z", roles.web_identity("repo:acme/data:environment:prod")):
        form = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": seed.RELEASE_ROLE_ARN, "WebIdentityToken": token}
        assert httpx.post(aws.url, data=form).status_code == 403, token


def test_only_the_administrator_can_assume_a_missing_role(aws: Aws) -> None:
    iam, sts = aws.client("iam"), aws.client("sts")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    policy = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    role = iam.create_role(RoleName="short", AssumeRolePolicyDocument=json.dumps({"Statement": trust}))["Role"]["Arn"]
    document = json.dumps({"Version": "2012-10-17", "Statement": policy})
    iam.put_role_policy(RoleName="short", PolicyName="all", PolicyDocument=document)

    def assumed_client(by: Any, arn: str, service: str) -> Any:
        credentials = by.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        session = boto3.Session(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
        return roles.client_of(session, aws.settings, service)

    for account in ("123456789012", "210987654321"):
        absent = f"arn:aws:iam::{account}:role/absent"
        with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
            assumed_client(assumed_client(sts, role, "sts"), absent, "iam")
        assumed_client(sts, absent, "iam").list_roles()
    deleted_role_s3 = assumed_client(sts, role, "s3")
    deleted_role_s3.list_buckets()
    iam.delete_role_policy(RoleName="short", PolicyName="all")
    iam.delete_role(RoleName="short")
    with pytest.raises(ClientError, match="its role has been deleted"):
        deleted_role_s3.list_buckets()


def test_function_does_not_run_if_its_role_does_not_trust_lambda(aws: Aws, deploy: Any) -> None:
    name, iam = deploy("def run(event, context): return 1\n"), aws.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName="untrusting", AssumeRolePolicyDocument=json.dumps({"Statement": trust}))
    aws.client("lambda").update_function_configuration(FunctionName=name, Role=role["Role"]["Arn"])
    with pytest.raises(ClientError, match="The role defined for the function cannot be assumed by Lambda"):
        aws.client("lambda").invoke(FunctionName=name)
