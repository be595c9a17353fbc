"""A new file in the landing bucket starts its pipeline once, through the stack's rule, queue and function."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.config import Config

from mwaa_local.settings import HOST, REPOSITORY, Passwords
from mwaa_local.testing.artifacts import MANIFEST
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.stacks import Stacks, listed, properties
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket

TOPIC = "arn:aws:sns:us-east-1:123456789012:flights-alerts"
ENVIRONMENT = {
    "Name": "flights",
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/mwaa",
    "SourceBucketArn": "arn:aws:s3:::any-mwaa",
    "DagS3Path": "dags",
    "NetworkConfiguration": {"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
}


class Airflow(BaseHTTPRequestHandler):
    """A fake Airflow API server that accepts each run ID once. tests/e2e/test_two_environments.py uses a real one."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        runs = self.server.runs
        if self.path == "/auth/token":
            self.reply(201, {"access_token": "token"})
        elif self.path != "/api/v2/dags/flights_pipeline/dagRuns":
            self.reply(404, {"detail": "The Dag with ID: `nobody` was not found"})
        elif self.server.broken:
            self.reply(503, {"detail": "starting"})
        elif any(body["dag_run_id"] == run["dag_run_id"] for run in runs):
            self.reply(409, {"detail": "Unique constraint violation"})
        else:
            runs.append(body)
            self.reply(200, body)

    def reply(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def airflow() -> Iterator[Any]:
    server = ThreadingHTTPServer((HOST, 0), Airflow)
    server.runs, server.broken = [], False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stand_in(airflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    state = tmp_path_factory.mktemp("landing")
    Passwords.generate(state)
    with running_aws(state, airflow.server_port) as aws:
        aws.client("mwaa", config=Config(inject_host_prefix=False)).create_environment(**ENVIRONMENT)
        yield aws


class Landing:
    """The storage and landing stacks, and their queue and function."""

    def __init__(self, aws: Aws, airflow: Any, **parameters: str) -> None:
        self.aws, self.airflow, self.stacks = aws, airflow, Stacks(aws)
        airflow.runs.clear()
        storage = self.stacks.make("storage.yml")
        self.bucket, self.function = storage["LandingBucketName"], f"start-{self.stacks.name}"
        self.s3, self.sqs = aws.client("s3"), aws.client("sqs")
        # The stand-in's CloudFormation ignores both settings.
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        self.outputs = self.stacks.make(
            "landing.yml",
            LandingBucketName=self.bucket,
            KeyArn=storage["KeyArn"],
            TopicArn=TOPIC,
            FunctionName=self.function,
            **parameters,
        )

    def messages(self) -> list[dict[str, Any]]:
        """Receive the messages in the queue."""
        response = self.sqs.receive_message(QueueUrl=self.outputs["QueueUrl"], MaxNumberOfMessages=10)
        return response.get("Messages", [])

    def invoke(self, *bodies: str) -> tuple[bool, Any]:
        """Invoke the function with messages, as its event source mapping does. Return failure and result."""
        event = {"Records": [{"body": body, "eventSource": "aws:sqs"} for body in bodies]}
        response = self.aws.client("lambda").invoke(FunctionName=self.function, Payload=json.dumps(event))
        return "FunctionError" in response, json.loads(response["Payload"].read())


@pytest.fixture
def landing(stand_in: Aws, airflow: Any, make_artifact: Any) -> Landing:
    landing_stack = Landing(stand_in, airflow, Prefix="flights/", Suffix=".csv")
    artifact = make_artifact(1, {"manifest.json": MANIFEST}, {"dags/pipelines.py": "1"})
    shutil.make_archive(str(artifact.folder / "lambda"), "zip", REPOSITORY / "lambda")
    landing_stack.s3.create_bucket(Bucket=f"{landing_stack.stacks.name}-mwaa")
    functions = [landing_stack.function]
    applied = apply(
        artifact,
        Bucket(f"{landing_stack.stacks.name}-mwaa", landing_stack.s3),
        lambda_client=stand_in.client("lambda"),
        lambda_functions=functions,
    )
    assert applied.functions_updated == functions
    return landing_stack


def test_repeated_event_of_a_file_starts_one_run(landing: Landing) -> None:
    landing.s3.put_object(Bucket=landing.bucket, Key="planes/one.csv", Body=b"1")
    landing.s3.put_object(Bucket=landing.bucket, Key="flights/2013/Jänner 1.csv", Body=b"1")
    (message,) = landing.messages()
    results = [landing.invoke(message["Body"]) for _ in range(3)]
    assert [failed for failed, _ in results] == [False] * 3
    assert [result[0]["new"] for _, result in results] == [True, False, False]
    (run,) = landing.airflow.runs
    assert run["dag_run_id"].startswith("landing-flights-2013-J-nner-1-csv-")
    assert run["logical_date"] is None
    assert run["note"].startswith(f"s3://{landing.bucket}/flights/2013/Jänner 1.csv (version ")


def test_new_version_of_a_file_starts_another_run(landing: Landing) -> None:
    for body in (b"1", b"2"):
        landing.s3.put_object(Bucket=landing.bucket, Key="flights/one.csv", Body=body)
    for message in landing.messages():
        assert landing.invoke(message["Body"])[1][0]["new"]
    assert len({run["dag_run_id"] for run in landing.airflow.runs}) == 2


def test_folders_and_other_suffixes_start_no_run(landing: Landing) -> None:
    for key in ("flights/", "flights/readme.md"):
        landing.s3.put_object(Bucket=landing.bucket, Key=key, Body=b"")
    messages = landing.messages()
    assert len(messages) == 2
    for message in messages:
        failed, (result,) = landing.invoke(message["Body"])
        assert (failed, result["run_id"], result["new"]) == (False, None, False)
    assert landing.airflow.runs == []


def test_run_that_airflow_rejects_is_started_by_the_next_attempt(landing: Landing) -> None:
    landing.s3.put_object(Bucket=landing.bucket, Key="flights/late.csv", Body=b"1")
    (message,) = landing.messages()
    landing.airflow.broken = True
    try:
        failed, error_text = landing.invoke(message["Body"])
    finally:
        landing.airflow.broken = False
    assert failed
    assert error_text["errorType"] == "NotStartedError"
    assert (
        f"flights_pipeline of flights was not started for s3://{landing.bucket}/flights/late.csv"
        in error_text["errorMessage"]
    )
    assert "starting" in error_text["errorMessage"]
    assert landing.invoke(message["Body"])[1][0]["new"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("no JSON", "not an SQS batch"),
        ("[]", "not an S3 event from EventBridge"),
        ('{"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {}}}', "lacks 'key'"),
        (
            '{"detail-type": "Object Deleted", "detail": {"bucket": {"name": "b"}, "object": {"key": "k.csv", '
            '"sequencer": "1"}}}',
            "not 'Object Created'",
        ),
    ],
)
def test_unknown_message_is_an_error(landing: Landing, body: str, words: str) -> None:
    failed, error_text = landing.invoke(body)
    assert failed
    assert error_text["errorType"] == "InvalidEventError"
    assert words in error_text["errorMessage"]


def test_role_can_start_runs_of_one_environment_and_read_one_queue(landing: Landing) -> None:
    role = landing.aws.client("lambda").get_function_configuration(FunctionName=landing.function)["Role"]
    granted = {
        (action, resource)
        for entry in landing.stacks.policies(role)
        for action in listed(entry["Action"])
        for resource in listed(entry["Resource"])
    }
    queue = landing.sqs.get_queue_attributes(QueueUrl=landing.outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
    assert {resource for action, resource in granted if action.startswith("sqs:")} == {queue["QueueArn"]}
    account = "us-east-1:123456789012"
    assert ("airflow:InvokeRestApi", f"arn:aws:airflow:{account}:role/flights/User") in granted
    assert {action for action, _ in granted} == {
        *("airflow:InvokeRestApi", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
        *("logs:CreateLogStream", "logs:PutLogEvents", "kms:Decrypt"),
    }
    assert json.loads(queue["RedrivePolicy"]) == {
        "deadLetterTargetArn": landing.outputs["UnstartedQueueArn"],
        "maxReceiveCount": 30,
    }


def test_only_the_rule_can_send_messages_and_unstarted_files_alert() -> None:
    (statement,) = properties("landing.yml", "QueuePolicy")["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Rule", "Arn"]}}}
    alarm = properties("landing.yml", "UnstartedAlarm")
    assert alarm["Dimensions"][0]["Value"] == {"Fn::GetAtt": ["DeadLetters", "QueueName"]}
    assert alarm["AlarmActions"] == [{"Ref": "TopicArn"}]
    timeout, queue = (properties("landing.yml", name) for name in ("Function", "Queue"))
    # Lambda requires at least six times the function's timeout. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    assert queue["VisibilityTimeout"] >= 6 * timeout["Timeout"]
