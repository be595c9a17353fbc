"""The roles of the stack ecs.yml have the permissions that a task of ECS and Airflow need, and no others.

The test removes each permission once and makes the AWS calls of the runner, of ECS and of Airflow, which must fail.
"""

import json
import re
import uuid
from collections.abc import Iterator

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_local.aws import roles, seed, seed_ecs
from mwaa_local.settings import ACCOUNT_ID
from mwaa_local.testing.aws import running_aws
from mwaa_local.testing.ecs import EcsAccount
from mwaa_local.testing.permissions import denied, without_each_permission
from mwaa_pipelines.ecs_task import Cluster, cluster_of, find_task
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.stream import BatchReader, job_key, split_url
from mwaa_release.build import pipelines_package

RELEASE = "20260101T000000Z-1111111"
# Makes the AWS calls of the runner. Its output is its error, or the word done.
RUNNER = f"""
import os, sys
sys.path.insert(0, {str(pipelines_package().parent)!r})
from pathlib import Path
from types import SimpleNamespace
import boto3
from mwaa_pipelines.login import Login
from mwaa_pipelines.runner.connection import read_connection
from mwaa_pipelines.runner.release_files import fetch_release
from mwaa_pipelines.runner.stream import BatchWriter, job_key, split_url
from mwaa_pipelines.unwritten_rows import KEPT_RESULTS, store_results

s3, url, target = boto3.client("s3"), os.environ["DBT_JOB"], Path(os.environ["TMPDIR"], "project")
os.environ[KEPT_RESULTS] = "s3://{seed.DAGS_BUCKET}/kept_results"
projects = "s3://{seed.DAGS_BUCKET}/dags/dbt"

def missing_release():
    try:
        fetch_release(s3, projects, "flights", "gone", target)
    except Exception as error:
        if "is missing" not in str(error):
            raise

def log_in():
    connection = read_connection(boto3.client("secretsmanager"), "airflow/connections/flights_redshift", "x")
    Login("x", "flights/dbt_user", {{}}, lambda _: None, target).complete(connection)

try:
    bucket, prefix = split_url(url)
    s3.get_object(Bucket=bucket, Key=job_key(prefix))
    fetch_release(s3, projects, "flights", None, target)
    missing_release()
    log_in()
    store_results({{"invocation_id": "i"}}, [{{"unique_id": "model.p.a"}}], {{"ti": SimpleNamespace(dag_id="x")}})
    key = "parsed/" + prefix
    try:
        s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.NoSuchKey:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.get_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=bucket, Key=prefix + "/000000.json", Body=b"{{}}")
    print("done", flush=True)
except Exception as error:
    print(error, flush=True)
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcsAccount]:
    """The stack, a release, and an image that makes the runner's calls."""
    with running_aws(tmp_path_factory.mktemp("ecs")) as aws:
        account = EcsAccount(aws)
        s3, folder = aws.client("s3"), f"dags/dbt/flights/{RELEASE}"
        content = {"release_id": RELEASE, "dbt_version": "1.11.0", "files": []}
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key=f"{folder}/release.json", Body=json.dumps(content).encode())
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key="dags/dbt/flights/CURRENT", Body=RELEASE.encode())
        account.image("calls", RUNNER)
        yield account


def run(account: EcsAccount) -> str:
    """Do what Airflow does for a task, and return the error of Airflow, ECS or the runner; empty if there is none."""
    session = roles.worker_session(account.settings)
    s3, ecs, ssm = (roles.client_of(session, account.settings, service) for service in ("s3", "ecs", "ssm"))
    try:
        cluster = Cluster.read(ssm, seed_ecs.CLUSTER)
        url = f"s3://{cluster.bucket}/flights_pipeline/{uuid.uuid4()}"
        bucket, prefix = split_url(url)
        s3.put_object(Bucket=bucket, Key=job_key(prefix), Body=b"{}")
        settings = account.cluster_settings(f"{seed_ecs.CLUSTER}-calls")
        cluster.stop_earlier(ecs, ["x"])
        arn = cluster.run(ecs, settings, url, "x")
        list(BatchReader(s3, url).read())
        find_task(ecs, arn)
        ended = account.ended(arn, account.aws.client("ecs"))
        ecs.stop_task(cluster=cluster_of(arn), task=arn)
        s3.get_object(Bucket=bucket, Key=f"{prefix}/000000.json")
    except (PipelineError, ClientError, BotoCoreError) as error:
        return str(error)
    if ended["stopCode"] == "TaskFailedToStart":
        return str(ended["stoppedReason"])
    # The runner logs what it stores.
    *_, line = seed_ecs.task_logs(account.settings, arn)
    return "" if line == "done" else line


@pytest.mark.parametrize("role", [seed_ecs.TASK_ROLE, seed_ecs.AGENT_ROLE, seed_ecs.EXECUTION_ROLE])
def test_each_permission_is_needed(account: EcsAccount, role: str) -> None:
    assert run(account) == ""
    unused = []
    for permission in without_each_permission(account.aws, role):
        # Another test covers the permissions of environment.yml.
        is_of_stack = role != seed_ecs.EXECUTION_ROLE or permission.action.startswith(("ecs:", "ssm:", "iam:"))
        if not is_of_stack and seed_ecs.RUNS_BUCKET not in permission.resource:
            continue
        before = denied(account.aws)
        if run(account):
            assert re.search(permission.words, denied(account.aws).removeprefix(before)), permission
        else:
            unused.append((permission.action, permission.resource))
    assert unused == []


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        ("client('s3').put_object(Bucket='local-mwaa', Key='dags/pipelines.py', Body=b'x')", "s3:PutObject"),
        ("client('s3').get_object(Bucket='local-mwaa', Key='dags/pipelines.py')", "s3:GetObject"),
        ("client('s3').get_object(Bucket='local-landing', Key='x')", "s3:GetObject"),
        (f"client('s3').get_object(Bucket={seed_ecs.RUNS_BUCKET!r}, Key='x/000000.json')", "s3:GetObject"),
        ("client('secretsmanager').get_secret_value(SecretId='other/dbt_user')", "secretsmanager:GetSecretValue"),
        ("client('sns').publish(TopicArn='arn:aws:sns:us-east-1:123456789012:local-alerts', Message='x')", "sns:"),
        ("client('lambda').invoke(FunctionName='sns_notification')", "lambda:InvokeFunction"),
        (f"client('ssm').get_parameter(Name='/ecs/{seed_ecs.CLUSTER}')", "ssm:GetParameter"),
        (f"client('ecs').list_tasks(cluster={seed_ecs.CLUSTER!r})", "ecs:ListTasks"),
    ],
)
def test_task_has_no_other_permission(account: EcsAccount, call: str, needed: str) -> None:
    program = f"from boto3 import client\ntry: {call}\nexcept Exception as error: print(error)"
    arn = account.run(account.image(uuid.uuid4().hex, program))
    account.ended(arn)
    (line,) = seed_ecs.task_logs(account.settings, arn)
    assert f"assumed-role/{seed_ecs.TASK_ROLE}/" in line
    assert f"is not authorized to perform: {needed}" in line


def test_pipelines_with_roles_of_their_own_cannot_read_each_others_secret(account: EcsAccount) -> None:
    """A task definition can name a narrower role, and Airflow can pass only roles that it was given."""
    program = "from boto3 import client\ntry: client('secretsmanager').get_secret_value(SecretId='{}'); print('read')"
    program += "\nexcept Exception as error: print(error)"
    iam, secrets = account.aws.client("iam"), account.aws.client("secretsmanager")
    trust = iam.get_role(RoleName=seed_ecs.TASK_ROLE)["Role"]["AssumeRolePolicyDocument"]
    for name in ("sales", "costs"):
        arn = secrets.create_secret(Name=f"{name}/login", SecretString="x")["ARN"]
        iam.create_role(RoleName=f"{seed_ecs.CLUSTER}-{name}", AssumeRolePolicyDocument=json.dumps(trust))
        allow = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn}
        _put(iam, f"{seed_ecs.CLUSTER}-{name}", allow)
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/{seed_ecs.CLUSTER}-sales"
    for secret, words in (("sales/login", "^read$"), ("costs/login", "not authorized to perform: secretsmanager:Get")):
        tag = f"reads-{secret.partition('/')[0]}"
        account.image(tag, program.format(secret))
        definition = account.definition(tag, taskRoleArn=role)
        with pytest.raises(PipelineError, match="iam:PassRole"):
            account.run(definition)
        allow = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}
        _put(iam, seed_ecs.EXECUTION_ROLE, allow)
        try:
            arn = account.run(definition)
        finally:
            iam.delete_role_policy(RoleName=seed_ecs.EXECUTION_ROLE, PolicyName="added")
        account.ended(arn)
        (line,) = seed_ecs.task_logs(account.settings, arn)
        assert re.search(words, line), line


def _put(iam: object, role: str, statement: dict[str, str]) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role, PolicyName="added", PolicyDocument=document)
