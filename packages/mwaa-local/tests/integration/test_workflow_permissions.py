"""The roles of the stack workflow.yml have the permissions that a workflow and its release need, and no others.

The tests remove each permission once and make the AWS calls of the tasks, and of the release tool, which must fail.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from mwaa_local.aws import roles, seed, seed_ecs
from mwaa_local.aws.seed_serverless import seed_workflow
from mwaa_local.settings import ACCOUNT_ID, REGION
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.ecs import SMALL, EcsAccount
from mwaa_local.testing.permissions import denied, without_each_permission
from mwaa_pipelines.ecs_task import Cluster, find_task
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.connection import read_connection
from mwaa_pipelines.runner.stream import BatchReader, job_key, split_url
from mwaa_pipelines.serverless.workflow import read_workflow
from mwaa_pipelines.settings import Pipeline
from mwaa_release.errors import DeployError
from mwaa_release.progress import no_progress
from mwaa_release.release import Release, list_files
from mwaa_release.serverless.workflows import Workflows, find_targets

RELEASE = "20260101T000000Z-1111111"
PROJECTS = f"s3://{seed.DAGS_BUCKET}/dags/dbt"
CODE = "workflows/code/0.zip"
OTHER = "dags/dbt/flights/sales_pipeline.yaml"
DEFINITION = """
flights_pipeline:
  start_date: '2026-01-01'
  tasks:
    transform_data:
      operator: airflow.providers.standard.operators.python.PythonOperator
      python_callable: pipeline_tasks.run_dbt
"""
WORKFLOW = {
    "dag_name": "flights_pipeline",
    "project_name": "flights",
    "conn_id": "flights_redshift",
    "secret_name": "flights/dbt_user",
}
PIPELINE = Pipeline(
    dag_name="flights_pipeline",
    project_name="flights",
    redshift_connection_id="flights_redshift",
    secret_name="flights/dbt_user",
    target_database="dev",
    target_schema="analytics",
    sns_lambda_function_name=seed.FUNCTION,
    execution_mode="serverless",
    ecs=SMALL.model_copy(update={"task_definition": f"{seed_ecs.CLUSTER}-empty"}),
)
TASKS, RELEASER = "local-workflow-flights_pipeline", "workflow-releaser"


class Account:
    """The stack of the sample's pipeline, and a release in the bucket."""

    def __init__(self, aws: Aws, folder: Any) -> None:
        self.aws, self.settings, self.iam = aws, aws.settings, aws.client("iam")
        EcsAccount(aws).image("empty", "pass")
        # The role of the release has nothing but what the stack gives it.
        self.iam.create_role(RoleName=RELEASER, AssumeRolePolicyDocument=json.dumps({"Statement": [_trust()]}))
        # What infra/github.yml allows for the encrypted bucket.
        key = {"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": seed.key_arn(aws.settings)}
        key["Condition"] = {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [key]})
        arn = self.iam.create_policy(PolicyName="key", PolicyDocument=policy)["Policy"]["Arn"]
        self.iam.attach_role_policy(RoleName=RELEASER, PolicyArn=arn)
        seed_workflow(aws.settings, PIPELINE, RELEASER)
        trust = self.iam.get_role(RoleName=TASKS)["Role"]["AssumeRolePolicyDocument"]
        document = json.dumps({**trust, "Statement": [*trust["Statement"], _trust()]})
        self.iam.update_assume_role_policy(RoleName=TASKS, PolicyDocument=document)
        self.folder = folder
        release = folder / "dags/dbt/flights" / RELEASE
        (release / "workflows").mkdir(parents=True)
        (release / "workflows/flights_pipeline.yaml").write_text(DEFINITION)
        (release / "workflows/flights_pipeline.json").write_text(json.dumps(WORKFLOW))
        (release / "workflows/CODE").write_text(f"{CODE}\n")
        self.release = Release(RELEASE, "flights", "1", "2026", "1.11.0", list_files(release))
        s3 = aws.client("s3")
        for file in self.release.files:
            s3.upload_file(str(release / file.path), seed.DAGS_BUCKET, self.release.prefix + file.path)
        other = DEFINITION.replace("flights_pipeline", "sales_pipeline").encode()
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key=OTHER, Body=other)
        for key in (CODE, "dags/dbt/sales/secret.sql", "kept_results/sales_pipeline/x.json", "dags/pipelines.py"):
            s3.put_object(Bucket=seed.DAGS_BUCKET, Key=key, Body=b"x")
        aws.client("secretsmanager").create_secret(Name="sales/dbt_user", SecretString="x")

    def session(self, role: str) -> Callable[[str], Any]:
        """Return a function that makes clients with a role."""
        sts = self.aws.client("sts")
        answer = sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/{role}", RoleSessionName="test")
        values = [answer["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
        session = boto3.Session(*values)
        return lambda service: roles.client_of(session, self.settings, service)


def _trust() -> dict[str, Any]:
    """Let tests assume a role."""
    administrator = f"arn:aws:iam::{ACCOUNT_ID}:user/administrator"
    return {"Effect": "Allow", "Principal": {"AWS": administrator}, "Action": "sts:AssumeRole"}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with running_aws(tmp_path_factory.mktemp("workflow")) as aws:
        yield Account(aws, tmp_path_factory.mktemp("artifact"))


def _use_as_task(account: Account) -> str:
    """Make the calls of a workflow's tasks and of its service, and return the error; empty if there is none."""
    client = account.session(TASKS)
    s3, secrets = client("s3"), client("secretsmanager")
    prefix = "kept_results/flights_pipeline/"
    try:
        read_workflow(s3, PROJECTS, "flights", RELEASE, "flights_pipeline")
        s3.get_object(Bucket=seed.DAGS_BUCKET, Key=CODE)
        _log_in(secrets)
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key=f"{prefix}x.json", Body=b"x")
        s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix=prefix)
        s3.get_object(Bucket=seed.DAGS_BUCKET, Key=f"{prefix}x.json")
        s3.delete_object(Bucket=seed.DAGS_BUCKET, Key=f"{prefix}x.json")
        _use_key(client("kms"), seed.key_arn(account.settings))
        client("lambda").invoke(FunctionName=seed.FUNCTION, Payload=b'{"dag_name": "x"}')
        _run_in_ecs(client)
    except (ClientError, PipelineError) as error:
        return str(error)
    return ""


def _use_key(kms: Any, key: str) -> None:
    """Encrypt and decrypt as the service does with the data of a run."""
    arn = f"arn:aws:airflow-serverless:{REGION}:{ACCOUNT_ID}:workflow/flights_pipeline-0123456789"
    context = {"aws:airflow-serverless:workflow-arn": arn}
    encrypted = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)["CiphertextBlob"]
    kms.decrypt(KeyId=key, CiphertextBlob=encrypted, EncryptionContext=context)


def _log_in(secrets: Any) -> None:
    connection = read_connection(secrets, "airflow/connections/flights_redshift", "flights_redshift")
    assert isinstance(connection.host, str)
    secrets.get_secret_value(SecretId="flights/dbt_user")


def _run_in_ecs(client: Callable[[str], Any]) -> None:
    s3, ecs = client("s3"), client("ecs")
    cluster = Cluster.read(client("ssm"), seed_ecs.CLUSTER)
    cluster.stop_earlier(ecs, ["x"])
    url = f"s3://{cluster.bucket}/flights_pipeline/{uuid.uuid4()}"
    bucket, prefix = split_url(url)
    s3.put_object(Bucket=bucket, Key=job_key(prefix), Body=b"{}")
    arn = cluster.run(ecs, PIPELINE.ecs or SMALL, url, "x")
    assert list(BatchReader(s3, url).read()) == []
    assert find_task(ecs, arn)
    ecs.stop_task(cluster=seed_ecs.CLUSTER, task=arn)


def _use_as_release(account: Account) -> str:
    """Release a new workflow twice, and run it; return the error, empty if there is none."""
    client = account.session(RELEASER)
    serverless = client("mwaa-serverless")
    workflows = Workflows(serverless, client("ssm"), seed.DAGS_BUCKET)
    admin = account.aws.client("mwaa-serverless")
    for arn in Workflows(admin, None, "").arns().values():
        admin.delete_workflow(WorkflowArn=arn)
    # A workflow that the role cannot read.
    location = {"Bucket": seed.DAGS_BUCKET, "ObjectKey": OTHER}
    admin.create_workflow(
        Name="sales_pipeline", RoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/{TASKS}", DefinitionS3Location=location
    )
    targets = find_targets(account.release, lambda key: (account.folder / key).read_bytes())
    try:
        client("s3").put_object(Bucket=seed.DAGS_BUCKET, Key=CODE, Body=b"x")
        workflows.deploy(targets, no_progress)
        assert workflows.left_over(targets, ["flights"]) == []
        arn = workflows.arns()["flights_pipeline"]
        _change_stack(account)
        workflows.deploy(targets, no_progress)
        (oldest, _) = serverless.list_workflow_versions(WorkflowArn=arn)["WorkflowVersions"]
        serverless.delete_workflow(WorkflowArn=arn, WorkflowVersion=oldest["WorkflowVersion"])
        # Airflow is not installed here, so the run fails at once.
        run_id = serverless.start_workflow_run(WorkflowArn=arn)["RunId"]
        serverless.get_workflow_run(WorkflowArn=arn, RunId=run_id)
        serverless.list_task_instances(WorkflowArn=arn, RunId=run_id)
        with pytest.raises(serverless.exceptions.ResourceNotFoundException):
            serverless.get_task_instance(WorkflowArn=arn, RunId=run_id, TaskInstanceId="x")
    except (ClientError, DeployError) as error:
        return str(error)
    return ""


def _change_stack(account: Account) -> None:
    ssm = account.aws.client("ssm")
    name = "/workflows/flights_pipeline"
    value = json.loads(ssm.get_parameter(Name=name)["Parameter"]["Value"])
    value["log_group"] += "x"
    ssm.put_parameter(Name=name, Value=json.dumps(value), Type="String", Overwrite=True)


@pytest.mark.parametrize(("role", "use"), [(TASKS, _use_as_task), (RELEASER, _use_as_release)])
def test_each_permission_is_needed(account: Account, role: str, use: Callable[[Account], str]) -> None:
    assert use(account) == ""
    unused = []
    for permission in without_each_permission(account.aws, role):
        # The stand-in writes the log of a run itself.
        if permission.action.startswith("logs:"):
            continue
        before = denied(account.aws)
        if use(account):
            assert re.search(permission.words, denied(account.aws).removeprefix(before)), permission
        else:
            unused.append((permission.action, permission.resource))
    assert unused == []


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("secretsmanager", "get_secret_value", {"SecretId": "sales/dbt_user"}),
        ("s3", "get_object", {"Bucket": seed.DAGS_BUCKET, "Key": "dags/dbt/sales/secret.sql"}),
        ("s3", "get_object", {"Bucket": seed.DAGS_BUCKET, "Key": "kept_results/sales_pipeline/x.json"}),
        ("s3", "put_object", {"Bucket": seed.DAGS_BUCKET, "Key": "dags/pipelines.py", "Body": b"x"}),
        ("s3", "put_object", {"Bucket": seed.DAGS_BUCKET, "Key": CODE, "Body": b"x"}),
        ("mwaa-serverless", "list_workflows", {}),
        ("ecs", "run_task", {"cluster": seed_ecs.CLUSTER, "taskDefinition": seed_ecs.CLUSTER}),
        ("s3", "get_object", {"Bucket": seed_ecs.RUNS_BUCKET, "Key": "sales_pipeline/1/000000.json"}),
        ("ssm", "get_parameter", {"Name": "/workflows/flights_pipeline"}),
    ],
)
def test_tasks_have_no_other_permission(account: Account, service: str, operation: str, parameters: Any) -> None:
    with pytest.raises(ClientError, match="is not authorized to perform"):
        getattr(account.session(TASKS)(service), operation)(**parameters)


def test_first_workflow_of_an_account_needs_the_role_of_the_service(account: Account) -> None:
    (name,) = [role["RoleName"] for role in account.iam.list_roles()["Roles"] if "airflow-serverless" in role["Path"]]
    account.iam.delete_role(RoleName=name)
    assert "not authorized to perform: iam:CreateServiceLinkedRole on resource" in _use_as_release(account)
    seed_workflow(account.settings, PIPELINE, RELEASER)
    assert _use_as_release(account) == ""


def test_release_has_no_permission_for_a_workflow_whose_name_begins_alike(account: Account) -> None:
    arn = f"arn:aws:airflow-serverless:{REGION}:{ACCOUNT_ID}:workflow/flights_pipeline-hourly-0123456789"
    with pytest.raises(ClientError, match="is not authorized to perform: airflow-serverless:DeleteWorkflow"):
        account.session(RELEASER)("mwaa-serverless").delete_workflow(WorkflowArn=arn)
