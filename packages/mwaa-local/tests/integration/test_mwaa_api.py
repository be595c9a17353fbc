"""The MWAA API of the AWS stand-in, called with boto3."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mwaa_local.settings import HOST, Passwords
from mwaa_local.testing.aws import running_aws

BUCKET = "tests-mwaa"
REQUIRED = {
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/mwaa",
    "SourceBucketArn": f"arn:aws:s3:::{BUCKET}",
    "DagS3Path": "dags",
    "NetworkConfiguration": {"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
}


class Airflow(BaseHTTPRequestHandler):
    """A fake Airflow API server with a login, successful responses and errors."""

    def do_POST(self):
        if self.path == "/auth/token":
            login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_valid = login == {"username": "admin", "password": self.server.password}
            self.server.logins += 1
            self.reply(201 if is_valid else 401, {"access_token": self.server.token})
        else:
            self.do_GET()

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.reply(401, {"detail": "not logged in"})
        elif "/fails/" in self.path:
            self.reply(int(self.path.rpartition("/")[2]), {"detail": "because"})
        else:
            airflow_request = {"method": self.command, "path": self.path, "body": json.loads(body) if body else None}
            self.reply(200, airflow_request)

    do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815

    def reply(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def airflow():
    server = ThreadingHTTPServer((HOST, 0), Airflow)
    server.token, server.logins = "first", 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stand_in(airflow, tmp_path_factory):
    state = tmp_path_factory.mktemp("mwaa")
    airflow.password = Passwords.generate(state).airflow_admin
    with running_aws(state, airflow.server_port) as aws:
        s3 = aws.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield aws


@pytest.fixture(scope="module")
def mwaa(stand_in):
    return stand_in.client("mwaa", config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))


@pytest.fixture(scope="module")
def environment(mwaa):
    """The name of an environment with the status AVAILABLE."""
    arn = mwaa.create_environment(Name="flights", AirflowVersion="3.3.1", **REQUIRED)["Arn"]
    assert arn == "arn:aws:airflow:us-east-1:123456789012:environment/flights"
    assert wait_for_update(mwaa, "flights", "CREATING")["Status"] == "AVAILABLE"
    return "flights"


def wait_for_update(mwaa, name, pending_status):
    """Return the environment after its update has ended. Until then its status must be `pending_status`."""
    deadline = time.monotonic() + 30
    while (description := mwaa.get_environment(Name=name)["Environment"])["LastUpdate"]["Status"] == "PENDING":
        assert description["Status"] == pending_status
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return description


def error_response(call, **arguments):
    """Return the error response of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response


def test_update_is_visible_only_after_it_has_ended(stand_in, mwaa, environment):
    s3 = stand_in.client("s3")
    version = s3.put_object(Bucket=BUCKET, Key="requirements.txt", Body=b"one")["VersionId"]
    s3.put_object(Bucket=BUCKET, Key="requirements.txt", Body=b"two")
    update = {"RequirementsS3Path": "requirements.txt", "RequirementsS3ObjectVersion": version}
    mwaa.update_environment(Name=environment, WorkerReplacementStrategy="GRACEFUL", **update)
    description = mwaa.get_environment(Name=environment)["Environment"]
    assert description["Status"] == "UPDATING"
    assert "RequirementsS3Path" not in description, "applied before the update ended"
    error = error_response(mwaa.update_environment, Name=environment, **update)["Error"]
    assert error["Code"] == "ValidationException"
    assert "UPDATING" in error["Message"]
    description = wait_for_update(mwaa, environment, "UPDATING")
    assert description["Status"] == "AVAILABLE"
    assert description["LastUpdate"]["Status"] == "SUCCESS"
    assert description["LastUpdate"]["WorkerReplacementStrategy"] == "GRACEFUL"
    assert {key: description[key] for key in update} == update
    assert description["AirflowVersion"] == "3.3.1"
    assert abs(description["CreatedAt"].timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    "update",
    [
        {"StartupScriptS3Path": "absent.sh"},
        {"StartupScriptS3Path": "startup.sh", "StartupScriptS3ObjectVersion": "11111111-1111-1111-1111-111111111111"},
    ],
)
def test_update_to_a_missing_file_fails_and_changes_nothing(stand_in, mwaa, environment, update):
    stand_in.client("s3").put_object(Bucket=BUCKET, Key="startup.sh", Body=b"true")
    mwaa.update_environment(Name=environment, **update)
    description = wait_for_update(mwaa, environment, "UPDATING")
    assert description["Status"] == "UPDATE_FAILED"
    assert description["LastUpdate"]["Status"] == "FAILED"
    assert update["StartupScriptS3Path"] in description["LastUpdate"]["Error"]["ErrorMessage"]
    assert description.get("StartupScriptS3Path") != "absent.sh"
    assert "StartupScriptS3ObjectVersion" not in description
    mwaa.update_environment(Name=environment, StartupScriptS3Path="startup.sh")
    assert wait_for_update(mwaa, environment, "UPDATING")["Status"] == "AVAILABLE"


def test_environments_can_be_created_listed_and_deleted(mwaa, environment):
    mwaa.create_environment(Name="another", **REQUIRED)
    assert error_response(mwaa.create_environment, Name="another", **REQUIRED)["Error"]["Code"] == "ValidationException"
    assert mwaa.list_environments()["Environments"] == ["another", environment]
    mwaa.delete_environment(Name="another")
    assert mwaa.list_environments()["Environments"] == [environment]


def test_missing_environment_is_not_found(mwaa):
    rest = {"Path": "/dags", "Method": "GET"}
    for call in (mwaa.get_environment, mwaa.update_environment, mwaa.delete_environment, mwaa.invoke_rest_api):
        response = error_response(call, Name="absent", **(rest if call == mwaa.invoke_rest_api else {}))
        assert response["Error"]["Code"] == "ResourceNotFoundException"


def test_invalid_requests_that_boto3_cannot_send_are_rejected(stand_in):
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/airflow/aws4_request, Signature=0"}
    for method, path, body in (
        ("PUT", "/environments/partial", {"DagS3Path": "dags"}),
        ("PATCH", "/environments/partial", {"MaxWorkers": "many"}),
        ("PATCH", "/environments/partial", ["MaxWorkers"]),
    ):
        answer = httpx.request(method, stand_in.url + path, json=body, headers=signed)
        assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationException")
    answer = httpx.post(f"{stand_in.url}/clitoken/flights", headers=signed)
    assert answer.headers["x-amzn-ErrorType"] == "UnknownOperationException"


def test_boto3_uses_the_stand_in_through_environment_variables(stand_in, environment, monkeypatch):
    for name, value in {**stand_in.environment(), "AWS_DISABLE_HOST_PREFIX_INJECTION": "true"}.items():
        monkeypatch.setenv(name, value)
    assert boto3.session.Session().client("mwaa").list_environments()["Environments"] == [environment]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_rest_call_reaches_airflow_with_a_login(mwaa, environment, method):
    body = {"Body": {"conf": {"a": "ü"}}} if method in ("POST", "PATCH", "PUT") else {}
    query = {"limit": 5, "state": ["failed", "queued"]}
    answer = mwaa.invoke_rest_api(Name=environment, Path="/dags/flights", Method=method, QueryParameters=query, **body)
    assert answer["RestApiStatusCode"] == 200
    airflow_request = answer["RestApiResponse"]
    assert airflow_request["method"] == method
    assert airflow_request["path"] == "/api/v2/dags/flights?limit=5&state=failed&state=queued"
    assert airflow_request["body"] == body.get("Body")


def test_expired_airflow_token_is_renewed(mwaa, environment, airflow):
    call = {"Name": environment, "Path": "/version", "Method": "GET"}
    mwaa.invoke_rest_api(**call)
    airflow.token, before = "second", airflow.logins
    assert mwaa.invoke_rest_api(**call)["RestApiStatusCode"] == 200
    mwaa.invoke_rest_api(**call)
    assert airflow.logins == before + 1


@pytest.mark.parametrize(("status", "code"), [(404, "RestApiClientException"), (503, "RestApiServerException")])
def test_airflow_error_is_returned_with_status_and_body(mwaa, environment, status, code):
    response = error_response(mwaa.invoke_rest_api, Name=environment, Path=f"/fails/{status}", Method="GET")
    assert response["Error"]["Code"] == code
    assert response["RestApiStatusCode"] == status
    assert response["RestApiResponse"] == {"detail": "because"}


@pytest.mark.parametrize("path", ["dags", "@example.com/dags", "/dags/" + "x" * 64])
def test_invalid_rest_path_is_rejected(mwaa, environment, path):
    response = error_response(mwaa.invoke_rest_api, Name=environment, Path=path, Method="GET")
    assert response["Error"]["Code"] == "ValidationException"
    assert response["Error"]["Message"].startswith("Path: ")


def test_unreachable_airflow_error_names_the_port_setting(aws):
    mwaa = aws.client("mwaa", config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))
    Passwords.generate(aws.settings.state)
    mwaa.create_environment(Name="alone", **REQUIRED)
    error = error_response(mwaa.invoke_rest_api, Name="alone", Path="/dags", Method="GET")["Error"]
    assert error["Code"] == "InternalServerException"
    assert "LOCAL_AIRFLOW_PORT" in error["Message"]
    mwaa.delete_environment(Name="alone")
