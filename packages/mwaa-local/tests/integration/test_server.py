"""The AWS stand-in as a process: start, 30 MB objects, and stop without leftovers."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile

import psutil
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from mwaa_local.aws.seed import seed
from mwaa_local.settings import REPOSITORY, Passwords
from mwaa_local.testing.aws import running_aws
from redshift_local.pytest_plugin import free_port


@pytest.mark.parametrize("addressing", ["path", "virtual", "auto"])
@pytest.mark.parametrize("checksum", [{}, {"ChecksumAlgorithm": "SHA256"}])
def test_object_of_30_mb_is_returned_unchanged(aws, addressing, checksum):
    s3 = aws.client("s3", config=Config(s3={"addressing_style": addressing}))
    s3.create_bucket(Bucket="tests-objects")
    body = os.urandom(30 * 1024**2)
    started = time.monotonic()
    s3.put_object(Bucket="tests-objects", Key="flights é.csv", Body=body, **checksum)
    response = s3.get_object(Bucket="tests-objects", Key="flights é.csv", ChecksumMode="ENABLED")
    # The server must remove the framing of chunked uploads with a trailing checksum. boto3 verifies the checksum.
    assert response["Body"].read() == body
    assert response["ContentLength"] == len(body)
    assert any(key.startswith("Checksum") for key in response)
    assert time.monotonic() - started < 30


def test_multipart_upload_is_returned_unchanged(aws):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="tests-objects")
    body = os.urandom(30 * 1024**2)
    s3.upload_fileobj(
        io.BytesIO(body), "tests-objects", "parts", Config=TransferConfig(multipart_threshold=8 * 1024**2)
    )
    assert s3.get_object(Bucket="tests-objects", Key="parts")["Body"].read() == body


def test_two_stand_ins_are_isolated_from_each_other(aws, tmp_path):
    with running_aws(tmp_path) as another:
        another.client("s3").create_bucket(Bucket="tests-only-here")
        names = [[b["Name"] for b in one.client("s3").list_buckets()["Buckets"]] for one in (another, aws)]
    assert names[0] == ["tests-only-here"]
    assert "tests-only-here" not in names[1]


def test_busy_port_error_names_its_variable(aws):
    completed = subprocess.run(
        [sys.executable, "-m", "mwaa_local", "aws"],
        cwd=REPOSITORY,
        env={**os.environ, "LOCAL_AWS_PORT": str(aws.settings.aws_port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 2
    assert "LOCAL_AWS_PORT" in completed.stderr
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stand_in_stops_within_seconds_and_leaves_nothing(tmp_path, number):
    with running_aws(tmp_path) as stand_in:
        seed(stand_in.settings, Passwords.generate(tmp_path / "passwords"), "127.0.0.1", 5439)
        functions = stand_in.client("lambda", config=Config(retries={"total_max_attempts": 1}))
        functions.update_function_code(FunctionName="sns_notification", ZipFile=_sleeping_function())
        waiting = threading.Thread(target=_ignoring_errors, args=(functions.invoke,), daemon=True)
        waiting.start()
        children = _wait_for_children(stand_in.process.pid)
        started = time.monotonic()
        stand_in.process.send_signal(number)
        assert stand_in.process.wait(10) == 0
        assert time.monotonic() - started < 5
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        waiting.join(10)
        assert not waiting.is_alive()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aws.log", "passwords"]
    assert "Traceback" not in (tmp_path / "aws.log").read_text()


def test_stand_in_stops_when_its_parent_is_killed(tmp_path):
    code = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-m', 'mwaa_local', 'aws', '--with-parent'], stdout=sys.stdout);"
        "time.sleep(100)"
    )
    environment = {**os.environ, "LOCAL_DIR": str(tmp_path), "LOCAL_AWS_PORT": str(free_port())}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as parent:
        assert b"ready" in parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(10)


def _sleeping_function() -> bytes:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("handler.py", "import time\ndef lambda_handler(event, context): time.sleep(600)\n")
    return code.getvalue()


def _ignoring_errors(invoke) -> None:
    with contextlib.suppress(BotoCoreError):
        invoke(FunctionName="sns_notification", Payload=json.dumps({}))


def _wait_for_children(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(pid).children(recursive=True)):
        assert time.monotonic() < deadline, "the function did not start"
        time.sleep(0.05)
    return children
