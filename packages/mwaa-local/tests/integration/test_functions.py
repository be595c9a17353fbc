"""Lambda invocations of the AWS stand-in run the deployed code and return its result as Lambda does."""

import base64
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from mwaa_local.settings import ACCOUNT_ID, REGION

ECHO = "def run(event, context):\n    return {'event': event, 'id': context.aws_request_id}\n"


def invoke(aws, name, payload=None, **options):
    """Return `(FunctionError, decoded payload, response)`."""
    body = {} if payload is None else {"Payload": json.dumps(payload)}
    response = aws.client("lambda").invoke(FunctionName=name, **body, **options)
    return response.get("FunctionError"), json.loads(response["Payload"].read() or "null"), response


@pytest.mark.parametrize("event", [{}, {"a": [1, "ü", None]}, [], "text", 0, None, {"long": "x" * 1_000_000}])
def test_invocation_passes_the_event_and_returns_the_result(aws, deploy, event):
    failed, result, response = invoke(aws, deploy(ECHO), [event])
    assert not failed
    assert result["event"] == [event]
    assert response["StatusCode"] == 200
    assert response["ExecutedVersion"] == "$LATEST"


def test_event_is_empty_without_a_payload(aws, deploy):
    assert invoke(aws, deploy(ECHO))[1]["event"] == {}


def test_function_can_be_invoked_by_name_alias_version_and_arn(aws, deploy):
    name = deploy(ECHO)
    functions = aws.client("lambda")
    functions.publish_version(FunctionName=name)
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    partial = f"{ACCOUNT_ID}:function:{name}"
    for identifier in (
        name,
        f"{name}:live",
        partial,
        f"arn:aws:lambda:{REGION}:{partial}",
        f"arn:aws:lambda:{REGION}:{partial}:1",
    ):
        assert invoke(aws, identifier, {"way": identifier})[1]["event"] == {"way": identifier}
    assert invoke(aws, name, Qualifier="live")[2]["ExecutedVersion"] == "1"


def test_missing_function_version_or_alias_is_not_found(aws, deploy):
    name = deploy(ECHO)
    for identifier, qualifier in (("absent", "$LATEST"), (name, "7"), (name, "absent"), (f"{name}:absent", "$LATEST")):
        with pytest.raises(ClientError, match="Function not found") as caught:
            invoke(aws, identifier, Qualifier=qualifier)
        assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_error_of_the_handler_is_returned_and_logged(aws, deploy):
    name = deploy("def run(event, context):\n    print('before')\n    raise KeyError(event['why'])\n")
    failed, error, response = invoke(aws, name, {"why": "no such key"}, LogType="Tail")
    assert failed == "Unhandled"
    assert response["StatusCode"] == 200
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "'no such key'")
    assert len(error["stackTrace"]) == 1
    assert 'task.py", line 3, in run' in error["stackTrace"][0]
    log = base64.b64decode(response["LogResult"]).decode()
    assert log.index("START RequestId") < log.index("before") < log.index("[ERROR] KeyError") < log.index("REPORT")


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("import absent_module\n", "Runtime.ImportModuleError", "Unable to import module 'task': No module named"),
        ("raise RuntimeError('TOPIC_ARN is not set')\n", "RuntimeError", "TOPIC_ARN is not set"),
        ("def another(event, context): ...\n", "Runtime.HandlerNotFound", "Handler 'run' missing on module 'task'"),
        ("def run(event, context): return {1, 2}\n", "Runtime.MarshalError", "Unable to marshal response"),
        ("import sys\ndef run(event, context): sys.exit(3)\n", "Runtime.ExitError", "exit status 3"),
        ("import os\nos.kill(os.getpid(), 9)\n", "Runtime.ExitError", "exit status -9"),
    ],
)
def test_function_that_cannot_run_returns_lambdas_error(aws, deploy, source, kind, text):
    failed, error, _ = invoke(aws, deploy(source), {})
    assert failed == "Unhandled"
    assert error["errorType"] == kind
    assert text in error["errorMessage"]


def test_function_that_times_out_is_killed_with_its_child_processes(aws, deploy):
    source = """
import subprocess, time
def run(event, context):
    child = subprocess.Popen(["sleep", "600"])
    print("child", child.pid)
    assert 0 < context.get_remaining_time_in_millis() <= 1000
    time.sleep(600)
"""
    started = time.monotonic()
    failed, error, response = invoke(aws, deploy(source, Timeout=1), {}, LogType="Tail")
    assert 1 <= time.monotonic() - started < 30
    assert failed == "Unhandled"
    assert error["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in error["errorMessage"]
    child = int(base64.b64decode(response["LogResult"]).decode().split("child ")[1].split()[0])
    deadline = time.monotonic() + 10
    while _alive(child):  # for a moment after SIGKILL
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_function_gets_only_its_own_environment_variables(aws, deploy):
    source = "import os\ndef run(event, context): return dict(os.environ)\n"
    variables = {"TOPIC_ARN": "arn", "AWS_ENDPOINT_URL": "http://169.254.0.1"}
    _, function_variables, _ = invoke(aws, deploy(source, Environment={"Variables": variables}), {})
    assert function_variables["TOPIC_ARN"] == "arn"
    assert function_variables["AWS_ENDPOINT_URL"] == aws.url
    assert function_variables["AWS_REGION"] == REGION
    assert not {"HOME", "USER", "LOCAL_DIR", "LOCAL_AWS_PORT", "PYTEST_CURRENT_TEST"} & set(function_variables)


def test_asynchronous_invocation_returns_at_once_and_runs(aws, deploy):
    aws.client("s3").create_bucket(Bucket="tests-asynchronous")
    source = """
import time, boto3
def run(event, context):
    boto3.client("s3").put_object(Bucket="tests-asynchronous", Key=event["key"], Body=b"done")
"""
    _, _, response = invoke(aws, deploy(source, Timeout=30), {"key": "proof"}, InvocationType="Event")
    assert response["StatusCode"] == 202
    aws.client("s3").get_waiter("object_exists").wait(
        Bucket="tests-asynchronous", Key="proof", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def test_invalid_invocation_is_rejected_before_the_function_runs(aws, deploy):
    name = deploy("open('/nonexistent')\n")
    functions = aws.client("lambda")
    with pytest.raises(ClientError, match="Could not parse request body into json") as caught:
        functions.invoke(FunctionName=name, Payload=b"{not json")
    assert caught.value.response["Error"]["Code"] == "InvalidRequestContentException"
    with pytest.raises(ClientError, match="6291456 bytes") as caught:
        functions.invoke(FunctionName=name, Payload=json.dumps("x" * 6 * 1024**2))
    assert caught.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert functions.invoke(FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204


def test_function_with_zero_reserved_concurrency_is_throttled(aws, deploy):
    name = deploy(ECHO)
    functions = aws.client("lambda")
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match=r"TooManyRequestsException.*Rate Exceeded") as caught:
        invoke(aws, name)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    functions.delete_function_concurrency(FunctionName=name)
    assert invoke(aws, name, 1)[1]["event"] == 1


def test_sixteen_parallel_invocations_return_their_own_results(aws, deploy):
    name = deploy(ECHO, Timeout=60)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: invoke(aws, name, number), range(16)))
    assert [result["event"] for _, result, _ in results] == list(range(16))
    assert len({result["id"] for _, result, _ in results}) == 16
    assert not psutil.Process(aws.process.pid).children(recursive=True)
    (folder,) = Path(aws.settings.state).glob("local-aws-*")
    assert os.listdir(folder) == []


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
