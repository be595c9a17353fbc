"""Tasks need each permission of the execution role in infra/environment.yml, and have no other permission.

The test removes each permission once and makes the AWS calls of the DAGs' code, which must fail. `make run` proves
that the role has all permissions of a whole run, because its tasks have this role too.
"""

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from mwaa_local.aws import roles, seed
from mwaa_local.mwaa.sync import DagsSync
from mwaa_local.processes import base_environment
from mwaa_local.settings import ENVIRONMENT
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.permissions import denied, without_each_permission
from mwaa_release.build import pipelines_package

ROLE = "environment-ExecutionRole"
# Makes the AWS calls of a run for each line on stdin and prints the errors.
WORKER = """
import io, json, logging, sys
from types import SimpleNamespace
import boto3
from airflow.providers.amazon.aws.operators.lambda_function import LambdaInvokeFunctionOperator
from mwaa_pipelines.bucket_files import BucketFiles
from mwaa_pipelines.profile import RedshiftProfileMapping
from mwaa_pipelines.settings import LoadedTable
from mwaa_pipelines.unwritten_rows import delete_stored_results, inject_stored_results, store_results

def log_in():
    mapping = RedshiftProfileMapping("flights_redshift", "flights/dbt_user", {"schema": "analytics"})
    assert list(mapping.env_vars.values()) == ["Aa1"]

def recover():
    context = {"ti": SimpleNamespace(dag_id="flights_pipeline"), "task": SimpleNamespace(env={})}
    store_results({"invocation_id": "i"}, [{"unique_id": "model.p.a"}], context)
    inject_stored_results(context)
    assert context["kept_results"], "nothing was handed over"
    delete_stored_results(context)

def load():
    files = BucketFiles(boto3.client("s3"))
    table = LoadedTable(table="landing.flights", prefix="flights/", format="csv")
    (file,) = files.find(table, "local-landing")
    files.region("local-landing")
    assert files.checksum(file) and files.columns(table, file) == ["id"]

def alert():
    payload = json.dumps({"dag_name": "flights_pipeline"})
    LambdaInvokeFunctionOperator(task_id="a", function_name="sns_notification", payload=payload).execute({})

logging.disable(logging.WARNING)
for _ in sys.stdin:
    answer = io.StringIO()
    handler = logging.StreamHandler(answer)
    logging.getLogger("mwaa_pipelines.unwritten_rows").addHandler(handler)
    for work in (log_in, recover, load, alert):
        try:
            work()
        except Exception as error:
            print(f"{type(error).__name__}: {error}: {error.__cause__}", file=answer)
    logging.getLogger("mwaa_pipelines.unwritten_rows").removeHandler(handler)
    print("answer " + json.dumps(answer.getvalue()), flush=True)
"""
# The output of a worker without errors: its unwritten results were stored.
STORED_MESSAGE = "1 results are not in the audit table; the next run writes them from s3://local-mwaa/kept_results"
# Permissions that only MWAA itself uses, from its manual.
# https://docs.aws.amazon.com/mwaa/latest/userguide/mwaa-create-role.html
MWAA_PERMISSIONS = (
    *("airflow:", "logs:", "cloudwatch:", "sqs:"),
    *("s3:GetBucket", "s3:GetAccountPublicAccessBlock", "kms:DescribeKey", "kms:Encrypt"),
)


@dataclass
class Tasks:
    """A worker process that makes the AWS calls of tasks."""

    aws: Aws
    process: subprocess.Popen[str]

    def failure(self, folder: Path) -> str:
        """Copy the bucket as MWAA does, make all AWS calls of a task, and return the error or an empty string."""
        worker = roles.client_of(roles.worker_session(self.aws.settings), self.aws.settings, "s3")
        try:
            DagsSync(worker, seed.DAGS_BUCKET, folder).once()
        except ClientError as error:
            return str(error)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                response = json.loads(line.removeprefix("answer ")).strip()
                return "" if response == STORED_MESSAGE else response
        raise AssertionError("the worker ended")


@pytest.fixture(scope="module")
def tasks(airflow_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    home = tmp_path_factory.mktemp("worker")
    with running_aws(home) as aws:
        seed.seed(aws.settings, SimpleNamespace(dbt_user="Aa1"), "warehouse.example.com", 5439)
        for name in ("other/dbt_user", "flights/dbt_users"):
            aws.client("secretsmanager").create_secret(Name=name, SecretString="x")
        aws.client("s3").put_object(Bucket=seed.DAGS_BUCKET, Key="dags/x.py", Body=b"1")
        aws.client("s3").put_object(Bucket=seed.LANDING_BUCKET, Key="flights/1.csv", Body=b"id\n1\n")
        kwargs = {"connections_prefix": "airflow/connections", "connections_lookup_pattern": ".*_redshift$"}
        environment = {
            **base_environment(),
            **aws.settings.worker_environment(),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({**kwargs, "variables_lookup_pattern": "^$"}),
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "AIRFLOW__DBT__KEPT_RESULTS": f"s3://{seed.DAGS_BUCKET}/kept_results",
            "PYTHONPATH": str(pipelines_package().parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_PROXY": "127.0.0.1",
        }
        with (home / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [airflow_python, "-c", WORKER],
                env=environment,
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            yield Tasks(aws, process)
        finally:
            process.kill()
            process.communicate()


def test_tasks_need_each_permission_of_their_role(tasks: Tasks, tmp_path: Path) -> None:
    assert tasks.failure(tmp_path / "all") == ""
    assert len(seed.read_alerts(tasks.aws.settings)) == 1
    unused = []
    for permission in without_each_permission(tasks.aws, ROLE):
        if permission.action.startswith(MWAA_PERMISSIONS):
            continue
        before = denied(tasks.aws)
        if tasks.failure(tmp_path / secrets.token_hex(4)):
            assert re.search(f"{ROLE}/AmazonMWAA-airflow {permission.words}", denied(tasks.aws).removeprefix(before))
        else:
            unused.append((permission.action, permission.resource))
    # As in the manual, one statement covers both a bucket and its objects.
    bucket = f"arn:aws:s3:::{seed.DAGS_BUCKET}"
    assert unused == [("s3:GetObject*", bucket), ("s3:List*", f"{bucket}/*")]


@pytest.mark.parametrize(
    ("service", "call", "arguments", "needed"),
    [
        ("s3", "put_object", {"Key": "dags/pipelines.py", "Body": b"x"}, "s3:PutObject on .*/dags/pipelines.py"),
        ("s3", "delete_object", {"Key": "dags/dbt/flights/CURRENT"}, "s3:DeleteObject on .*/CURRENT"),
        ("s3", "put_object", {"Bucket": seed.LANDING_BUCKET, "Key": "x", "Body": b"x"}, "s3:PutObject on .*landing/x"),
        ("s3", "delete_object", {"Bucket": seed.LANDING_BUCKET, "Key": "x"}, "s3:DeleteObject on .*landing/x"),
        ("secretsmanager", "get_secret_value", {"SecretId": "other/dbt_user"}, ".*GetSecretValue on .*:other/dbt_user"),
        ("secretsmanager", "get_secret_value", {"SecretId": "flights/dbt_users"}, ".*GetSecretValue on .*/dbt_users-"),
        ("secretsmanager", "list_secrets", {}, "secretsmanager:ListSecrets"),
        ("lambda", "invoke", {"FunctionName": "other"}, "lambda:InvokeFunction on .*:function:other"),
        (
            "lambda",
            "update_function_code",
            {"FunctionName": seed.FUNCTION, "ZipFile": b"x"},
            "lambda:UpdateFunctionCode",
        ),
        ("sns", "publish", {"TopicArn": "arn:aws:sns:us-east-1:123456789012:local-alerts", "Message": "x"}, "sns:"),
        ("mwaa", "invoke_rest_api", {"Name": ENVIRONMENT, "Method": "GET", "Path": "/dags"}, "airflow:InvokeRestApi"),
        ("sts", "assume_role", {"RoleArn": seed.RELEASE_ROLE_ARN, "RoleSessionName": "xx"}, "sts:AssumeRole"),
        ("iam", "list_roles", {}, "iam:ListRoles"),
    ],
)
def test_tasks_have_no_other_permission(
    tasks: Tasks, service: str, call: str, arguments: dict[str, Any], needed: str
) -> None:
    if service == "s3":
        arguments = {"Bucket": seed.DAGS_BUCKET, **arguments}
    client = roles.client_of(roles.worker_session(tasks.aws.settings), tasks.aws.settings, service)
    user = f"User: arn:aws:sts::123456789012:assumed-role/{ROLE}/AmazonMWAA-airflow"
    with pytest.raises(ClientError, match=f"{user} is not authorized to perform: {needed}"):
        getattr(client, call)(**arguments)


def test_untrusted_environment_gets_no_credentials(tasks: Tasks) -> None:
    aws = tasks.aws
    role = aws.client("iam").get_role(RoleName=ROLE)["Role"]["Arn"]
    seed.client(aws.settings, "mwaa").create_environment(
        Name="other",
        DagS3Path="dags",
        ExecutionRoleArn=role,
        SourceBucketArn=f"arn:aws:s3:::{seed.DAGS_BUCKET}",
        NetworkConfiguration={"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
    )
    response = httpx.get(aws.settings.worker_environment("other")["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    assert response.status_code == 403
    assert (
        f"airflow-env.amazonaws.com is not authorized to perform: sts:AssumeRole on resource: {role}" in response.text
    )
