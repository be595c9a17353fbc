"""HTTP requests are recognized as AWS API operations with their parameters."""

import json
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from mwaa_local.aws.calls import Call, UnknownCallError, read


def call(service: str, method: str, path: str, **more: Any) -> Call:
    return read(Request(EnvironBuilder(path, method=method, **more).get_environ()), service, "us-east-1")


COPY = {"headers": {"x-amz-copy-source": "b/old"}}


@pytest.mark.parametrize(
    ("method", "path", "more", "operation", "parameters"),
    [
        ("GET", "/", {}, "ListBuckets", {}),
        ("GET", "/b", {}, "ListObjects", {"Bucket": "b"}),
        ("GET", "/b/?list-type=2&prefix=a%2Fb", {}, "ListObjectsV2", {"Bucket": "b", "Prefix": "a/b"}),
        ("GET", "/b?versions", {}, "ListObjectVersions", {"Bucket": "b"}),
        ("GET", "/b?policy", {}, "GetBucketPolicy", {"Bucket": "b"}),
        ("HEAD", "/b", {}, "HeadBucket", {"Bucket": "b"}),
        ("HEAD", "/b/k", {}, "HeadObject", {"Bucket": "b", "Key": "k"}),
        ("GET", "/b/a/b%20c/", {}, "GetObject", {"Bucket": "b", "Key": "a/b c/"}),
        ("GET", "/b/k?versionId=1", {}, "GetObject", {"Bucket": "b", "Key": "k", "VersionId": "1"}),
        ("GET", "/b/k?tagging", {}, "GetObjectTagging", {"Bucket": "b", "Key": "k"}),
        ("PUT", "/b/k", {"data": b"x"}, "PutObject", {"Bucket": "b", "Key": "k"}),
        ("PUT", "/b/k", COPY, "CopyObject", {"Bucket": "b", "Key": "k", "CopySource": "b/old"}),
        ("POST", "/b/k?uploads", {}, "CreateMultipartUpload", {"Bucket": "b", "Key": "k"}),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {}, "UploadPart", {"Key": "k", "PartNumber": "1", "UploadId": "u"}),
        ("PUT", "/b/k?partNumber=1&uploadId=u", COPY, "UploadPartCopy", {"Key": "k", "CopySource": "b/old"}),
        ("DELETE", "/b/k", {}, "DeleteObject", {"Bucket": "b", "Key": "k"}),
        ("DELETE", "/b/k?uploadId=u", {}, "AbortMultipartUpload", {"Key": "k", "UploadId": "u"}),
        ("DELETE", "/b", {}, "DeleteBucket", {"Bucket": "b"}),
    ],
)
def test_s3_request_is_read_as_operation_and_parameters(
    method: str, path: str, more: dict[str, Any], operation: str, parameters: dict[str, str]
) -> None:
    parsed = call("s3", method, path, **more)
    assert parsed.operation == operation
    assert parsed.parameters.items() >= parameters.items()


def test_batch_deletion_names_its_objects() -> None:
    body = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object></Delete>"
    parsed = call("s3", "POST", "/b?delete", data=body)
    assert parsed.operation == "DeleteObjects"
    assert parsed.parameters["Delete"]["Object"] == [{"Key": "a"}, {"Key": "b", "VersionId": "1"}]


@pytest.mark.parametrize(
    ("service", "method", "path", "more", "operation", "parameters"),
    [
        ("lambda", "POST", "/2015-03-31/functions/f/invocations?Qualifier=1", {}, "Invoke", {"FunctionName": "f"}),
        ("lambda", "PUT", "/2015-03-31/functions/f/code", {}, "UpdateFunctionCode", {"FunctionName": "f"}),
        ("airflow", "PATCH", "/environments/e", {"json": {"DagS3Path": "d"}}, "UpdateEnvironment", {"DagS3Path": "d"}),
        ("airflow", "POST", "/restapi/e", {"json": {"Method": "GET"}}, "InvokeRestApi", {"Name": "e", "Method": "GET"}),
        (
            *("sts", "POST", "/"),
            {"data": {"Action": "AssumeRole", "RoleArn": "r", "ExternalId": ""}},
            *("AssumeRole", {"RoleArn": "r", "ExternalId": ""}),
        ),
        (
            *("secretsmanager", "POST", "/"),
            {"headers": {"X-Amz-Target": "secretsmanager.GetSecretValue"}, "data": json.dumps({"SecretId": "s"})},
            *("GetSecretValue", {"SecretId": "s"}),
        ),
    ],
)
def test_request_is_read_as_operation_and_parameters(
    service: str, method: str, path: str, more: dict[str, Any], operation: str, parameters: dict[str, str]
) -> None:
    parsed = call(service, method, path, **more)
    assert parsed.operation == operation
    assert parsed.parameters.items() >= parameters.items()


@pytest.mark.parametrize(
    ("service", "method", "path", "more"),
    [
        ("no-such-service", "GET", "/", {}),
        ("lambda", "GET", "/nowhere", {}),
        ("sts", "POST", "/", {"data": {"Action": "BecomeRoot"}}),
        ("sts", "POST", "/", {}),
        ("secretsmanager", "POST", "/", {"headers": {"X-Amz-Target": "secretsmanager.Reveal"}}),
        ("ec2", "POST", "/", {"data": {"Action": "DescribeVpcs"}}),
    ],
)
def test_unknown_operation_is_an_error(service: str, method: str, path: str, more: dict[str, Any]) -> None:
    with pytest.raises(UnknownCallError, match=service):
        call(service, method, path, **more)
