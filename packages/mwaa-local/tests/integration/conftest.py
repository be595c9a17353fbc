"""Deploys Lambda functions to the AWS stand-in."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable

import pytest

from mwaa_local.settings import ACCOUNT_ID
from mwaa_local.testing.aws import Aws


@pytest.fixture(scope="session")
def deploy(aws: Aws) -> Callable[..., str]:
    """`deploy(source, **configuration)` deploys a function with the handler `task.run` and returns its name."""
    iam = aws.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="tests", AssumeRolePolicyDocument=json.dumps({"Statement": trust}))
    everything = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    iam.put_role_policy(RoleName="tests", PolicyName="everything", PolicyDocument=everything)

    def deployed(source: str, **configuration: object) -> str:
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("task.py", source)
        name = f"test-{uuid.uuid4().hex}"
        aws.client("lambda").create_function(
            FunctionName=name,
            Role=f"arn:aws:iam::{ACCOUNT_ID}:role/tests",
            Code={"ZipFile": code.getvalue()},
            **{"Runtime": "python3.12", "Handler": "task.run", **configuration},
        )
        return name

    return deployed
