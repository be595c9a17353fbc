"""`apply`, `plan` and `rollback` create and update workflows of MWAA Serverless, by boto3's own requests."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.exceptions import ParamValidationError

from mwaa_local.settings import ACCOUNT_ID, REGION
from mwaa_local.testing.artifacts import MANIFEST
from mwaa_pipelines.config_file import ENVIRONMENT
from mwaa_release import cli_environment
from mwaa_release.apply import apply, rollback
from mwaa_release.bucket import Bucket, aws_client
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.plan import make_plan
from mwaa_release.progress import no_progress
from mwaa_release.release import Artifact
from mwaa_release.serverless.run import failure, run_workflow
from mwaa_release.serverless.workflows import KEPT_VERSIONS, Workflows, find_targets

DEFINITION = """
{name}:
  schedule: null
  start_date: '2026-01-01'
  tasks:
    transform_data:
      operator: airflow.providers.standard.operators.python.PythonOperator
      python_callable: {function}
"""
CODE = "workflows/code/0123456789abcdef0123456789abcdef.zip"
TRUST = {"Effect": "Allow", "Principal": {"Service": "airflow-serverless.amazonaws.com"}, "Action": "sts:AssumeRole"}
# Any call with it raises AttributeError.
NO_CLIENTS = Workflows(None, None, "")
READ = {"Effect": "Allow", "Action": ["s3:GetObject", "kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"}
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT_ID}:key/one"


class Account:
    """A bucket, a workflow's role and parameter, and clients of an administrator."""

    def __init__(self, aws: Any, bucket: Bucket, make_artifact: Callable[..., Artifact]) -> None:
        self.aws, self.bucket, self._make_artifact = aws, bucket, make_artifact
        self.name = f"shop-{secrets.token_hex(4)}"
        self.serverless, self.ssm, self.iam = (aws.client(name) for name in ("mwaa-serverless", "ssm", "iam"))
        self.role = self.make_role(self.name)
        self.workflows = Workflows(self.serverless, self.ssm, bucket.name)
        self.set_stack()

    def make_role(self, name: str, trust: Any = TRUST) -> str:
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        arn = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        policy = json.dumps({"Version": "2012-10-17", "Statement": [READ]})
        self.iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=policy)
        return str(arn)

    def set_stack(self, **changes: str) -> None:
        value = {"role_arn": self.role, "log_group": "/workflows/shop", "key_arn": KEY, **changes}
        self.ssm.put_parameter(Name=f"/workflows/{self.name}", Value=json.dumps(value), Type="String", Overwrite=True)

    def artifact(self, second: int, function: str = "pipeline_tasks.run_dbt", file: str = "") -> Artifact:
        definition = DEFINITION.format(name=self.name, function=function)
        project = {
            "manifest.json": MANIFEST,
            f"workflows/{file or self.name}.yaml": definition,
            f"workflows/{file or self.name}.json": "{}",
            "workflows/CODE": f"{CODE}\n",
        }
        return self._make_artifact(second, project, {"dags/pipelines.py": "1", CODE: "zip"})

    def apply(self, artifact: Artifact) -> Any:
        return apply(artifact, self.bucket, workflows=self.workflows)

    def describe(self) -> dict[str, Any]:
        return self.serverless.get_workflow(WorkflowArn=self.workflows.arns()[self.name])

    def versions(self) -> int:
        arn = self.workflows.arns()[self.name]
        pages = self.serverless.get_paginator("list_workflow_versions").paginate(WorkflowArn=arn)
        return sum(len(page["WorkflowVersions"]) for page in pages)


@pytest.fixture
def account(aws, bucket, make_artifact) -> Account:
    return Account(aws, bucket, make_artifact)


def test_apply_creates_the_workflow_of_a_release(account: Account) -> None:
    artifact = account.artifact(1)
    (change,) = make_plan(artifact, account.bucket, account.workflows).workflows
    assert (change.name, change.before, change.is_needed) == (account.name, None, True)
    applied = account.apply(artifact)
    assert applied.changed
    workflow, release = account.describe(), artifact.releases[0]
    folder = f"dags/dbt/flights/{release.release_id}/workflows"
    bucket = account.bucket.name
    assert workflow["DefinitionS3Location"] == {"Bucket": bucket, "ObjectKey": f"{folder}/{account.name}.yaml"}
    assert workflow["Code"]["S3Location"] == {"Bucket": bucket, "ObjectKey": CODE, "VersionId": "1"}
    assert workflow["EncryptionConfiguration"] == {"Type": "CUSTOMER_MANAGED_KEY", "KmsKeyId": KEY}
    assert workflow["RoleArn"] == account.role
    assert workflow["LoggingConfiguration"] == {"LogGroupName": "/workflows/shop"}
    assert workflow["Environment"]["Variables"] == {
        "DBT_WORKFLOW": f"flights/{account.name}",
        "DBT_RELEASE": release.release_id,
        "DBT_PROJECTS": f"s3://{bucket}/dags/dbt",
        "DBT_KEPT_RESULTS": f"s3://{bucket}/kept_results",
    }
    assert account.bucket.read(CODE) == b"zip"


def test_unchanged_release_makes_no_new_version(account: Account) -> None:
    account.apply(account.artifact(1))
    again = account.artifact(2)
    plan = make_plan(again, account.bucket, account.workflows)
    assert (plan.is_empty, [change.is_needed for change in plan.workflows]) == (True, [False])
    assert not account.apply(again).changed
    assert account.versions() == 1


def test_changed_release_and_changed_stack_update_the_workflow(account: Account) -> None:
    account.apply(account.artifact(1))
    changed = account.artifact(2, "pipeline_tasks.check_dbt")
    (change,) = make_plan(changed, account.bucket, account.workflows).workflows
    assert (change.before, change.after) == ("20260101T000001Z-abcdef1", "20260101T000002Z-abcdef1")
    account.apply(changed)
    account.set_stack(subnets="subnet-a,subnet-b", security_group="sg-a")
    account.apply(changed)
    network = {"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]}
    assert account.describe()["NetworkConfiguration"] == network
    assert account.versions() == 3


def test_rollback_makes_the_workflow_run_the_earlier_release(account: Account) -> None:
    account.apply(account.artifact(1))
    account.apply(account.artifact(2, "pipeline_tasks.check_dbt"))
    before, now = rollback(account.bucket, "flights", workflows=account.workflows)
    assert (before, now) == ("20260101T000002Z-abcdef1", "20260101T000001Z-abcdef1")
    workflow = account.describe()
    assert workflow["Environment"]["Variables"]["DBT_RELEASE"] == now
    assert now in workflow["DefinitionS3Location"]["ObjectKey"]


def test_rollback_of_a_release_without_workflows_needs_no_rights_to_them(account: Account, make_artifact) -> None:
    for second in (1, 2):
        apply(make_artifact(second, {"manifest.json": MANIFEST, "a.sql": str(second)}, {}), account.bucket)
    rollback(account.bucket, "flights", workflows=NO_CLIENTS)
    make_plan(make_artifact(3, {"manifest.json": MANIFEST}, {}), account.bucket, NO_CLIENTS)


def test_folder_of_a_project_with_the_name_of_workflows_has_none(account: Account, make_artifact) -> None:
    files = {"manifest.json": MANIFEST, "workflows/flights.yaml": "own: 1"}
    for second in (1, 2):
        apply(make_artifact(second, {**files, "a.sql": str(second)}, {}), account.bucket, workflows=NO_CLIENTS)
    rollback(account.bucket, "flights", workflows=NO_CLIENTS)


def test_failed_rollback_can_be_repeated(account: Account) -> None:
    for second, function in ((1, "run_dbt"), (2, "check_dbt"), (3, "run_dbt")):
        account.apply(account.artifact(second, f"pipeline_tasks.{function}"))
    account.set_stack(role_arn=account.make_role(f"{account.name}-other", {**TRUST, "Principal": {"Service": "x"}}))
    for _ in range(2):
        with pytest.raises(DeployError, match="cannot assume the role"):
            rollback(account.bucket, "flights", workflows=account.workflows)
    account.set_stack()
    before, now = rollback(account.bucket, "flights", workflows=account.workflows)
    assert (before, now) == ("20260101T000003Z-abcdef1", "20260101T000002Z-abcdef1")


def test_workflow_that_a_rollback_cannot_update_is_reported(account: Account, make_artifact, deploy) -> None:
    apply(make_artifact(1, {"manifest.json": MANIFEST}, {}), account.bucket)
    account.apply(account.artifact(2))
    code, text = deploy("rollback", "--bucket", account.bucket.name, "--project", "flights")
    assert code == 0, text
    assert f"! workflow {account.name} still runs release 20260101T000002Z-abcdef1" in text


def test_rollback_from_a_damaged_release_succeeds(account: Account, deploy) -> None:
    account.apply(account.artifact(1))
    account.apply(account.artifact(2, "pipeline_tasks.check_dbt"))
    account.bucket.delete(["dags/dbt/flights/20260101T000002Z-abcdef1/workflows/CODE"])
    code, text = deploy("rollback", "--bucket", account.bucket.name, "--project", "flights")
    assert code == 0, text
    assert account.describe()["Environment"]["Variables"]["DBT_RELEASE"] == "20260101T000001Z-abcdef1"


def test_workflow_of_a_removed_pipeline_is_reported(account: Account, make_artifact) -> None:
    account.apply(account.artifact(1))
    without = make_artifact(2, {"manifest.json": MANIFEST}, {})
    assert make_plan(without, account.bucket, account.workflows).left_over == [account.name]
    # Also after it was applied, as long as the bucket has the workflow's release.
    account.apply(without)
    assert make_plan(without, account.bucket, account.workflows).left_over == [account.name]


def test_workflows_of_others_are_not_read(account: Account, make_artifact) -> None:
    account.apply(account.artifact(1))
    elsewhere = Workflows(account.serverless, account.ssm, "another")
    assert elsewhere.left_over([], ["flights"]) == []
    assert account.workflows.left_over([], ["flight"]) == []


def test_missing_stack_is_named_before_anything_is_uploaded(account: Account, contents) -> None:
    account.ssm.delete_parameter(Name=f"/workflows/{account.name}")
    with pytest.raises(
        SetupError, match=rf"/workflows/{account.name} is missing. Create or update the stack infra/wor"
    ):
        account.apply(account.artifact(1))
    assert not [key for key in contents(account.bucket) if key.startswith("dags/")]


def test_definition_that_the_service_refuses_is_reported(account: Account) -> None:
    with pytest.raises(DeployError, match=rf"creating the workflow {account.name}: ValidationException: .*run_id"):
        account.apply(account.artifact(1, "'{{ run_id }}'"))


def test_role_that_does_not_trust_the_service_is_reported(account: Account) -> None:
    other = {**TRUST, "Principal": {"Service": "lambda.amazonaws.com"}}
    account.set_stack(role_arn=account.make_role(f"{account.name}-other", other))
    with pytest.raises(DeployError, match="cannot assume the role"):
        account.apply(account.artifact(1))


def test_role_that_cannot_read_the_code_is_reported(account: Account) -> None:
    account.iam.delete_role_policy(RoleName=account.name, PolicyName="read")
    with pytest.raises(DeployError, match=r"Failed to read s3://.*not authorized to perform: s3:GetObject"):
        account.apply(account.artifact(1))


def test_settings_of_the_environment_are_chosen(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = account.artifact(1, file=f"{account.name}@prod")
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(SetupError, match=f"set {ENVIRONMENT} to one of prod"):
        account.apply(artifact)
    monkeypatch.setenv(ENVIRONMENT, "dev")
    assert account.apply(artifact).workflows == []
    monkeypatch.setenv(ENVIRONMENT, "prod")
    account.apply(artifact)
    assert account.describe()["Environment"]["Variables"]["DBT_WORKFLOW"] == f"flights/{account.name}@prod"


def test_old_versions_are_deleted(account: Account) -> None:
    account.apply(account.artifact(1))
    artifact = account.artifact(1)
    targets = find_targets(artifact.releases[0], artifact.read_bytes)
    for number in range(KEPT_VERSIONS + 1):
        account.set_stack(log_group=f"/workflows/{number}")
        account.workflows.deploy(targets, no_progress)
    assert account.versions() == KEPT_VERSIONS
    assert account.describe()["LoggingConfiguration"] == {"LogGroupName": f"/workflows/{KEPT_VERSIONS}"}


def test_run_that_fails_is_explained(account: Account) -> None:
    account.apply(account.artifact(1))
    # The code package of these tests is no zip.
    run = run_workflow(account.serverless, account.workflows, account.name, poll_seconds=0.1)
    assert (run.succeeded, run.airflow_run_id, run.failed_tasks) == (False, "", [])
    assert failure(account.name, run).startswith(f"workflow {account.name}: run {run.run_id} is FAILED (BadZipFile")
    with pytest.raises(SetupError, match="there is no workflow other; apply a release with it first"):
        run_workflow(account.serverless, account.workflows, "other")


def test_smoke_test_of_a_workflow_needs_its_release(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply(account.artifact(1))
    for name, value in account.aws.environment().items():
        monkeypatch.setenv(name, value)
    # It keeps the credentials of earlier tests.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(DeployError, match="runs release 20260101T000001Z-abcdef1, not 20260101T000002Z-abcdef1"):
        cli_environment._smoke_workflow(account.name, "20260101T000002Z-abcdef1")


def test_boto3_validates_each_request(account: Account) -> None:
    """The parameters of these tests pass botocore's validation; a wrong one does not."""
    with pytest.raises(ParamValidationError):
        account.serverless.create_workflow(Name="shop", RoleArn=account.role)
    with pytest.raises(ParamValidationError):
        account.serverless.update_workflow(WorkflowArn="x", DefinitionS3Location={"Bucket": "b"}, RoleArn=account.role)


@contextmanager
def _service(answers: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A service that gives these answers in turn, and the last one from then on. Yields its address and the calls."""
    received: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.headers["X-Amz-Target"].rpartition(".")[2], parameters.get("ClientToken", "")))
            status, content = answers.pop(0) if len(answers) > 1 else answers[0]
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


THROTTLED = (400, {"__type__": "ThrottlingException", "__type": "ThrottlingException", "message": "Rate exceeded"})


def test_throttled_creation_is_repeated_as_one_request(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = account.artifact(1)
    targets = find_targets(artifact.releases[0], artifact.read_bytes)
    created = (200, {"WorkflowArn": f"arn:aws:airflow-serverless:{REGION}:{ACCOUNT_ID}:workflow/shop-0123456789"})
    with _service([(200, {"Workflows": []}), THROTTLED, THROTTLED, created]) as (address, received):
        _point_to(address, monkeypatch)
        Workflows(aws_client("mwaa-serverless"), account.ssm, "bucket").deploy(targets, no_progress)
    names, tokens = zip(*received, strict=True)
    assert names == ("ListWorkflows", *3 * ("CreateWorkflow",))
    # The service creates one workflow, also if only its answer was lost.
    assert len(set(tokens[1:])) == 1
    assert tokens[1]


def test_service_that_throttles_all_calls_is_reported(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    with _service([THROTTLED]) as (address, received):
        _point_to(address, monkeypatch)
        with pytest.raises(DeployError, match="listing workflows: ThrottlingException: Rate exceeded"):
            Workflows(aws_client("mwaa-serverless"), account.ssm, "b").arns()
    # The call, and five repetitions.
    assert len(received) == 6


def _point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": REGION}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
