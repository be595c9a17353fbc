"""Starts a pipeline when a file arrives in S3: one run for each file, even if AWS delivers the event several times.

Amazon EventBridge puts "Object Created" of the landing bucket into a queue, which feeds this function one message at a
time. Environment: `ENVIRONMENT_NAME`, the MWAA environment; `DAG_NAME`, the pipeline; `SUFFIX`, the ending of the keys
that start a run (empty: all keys). The run id is derived from the file and its version, so Airflow rejects a second
run. The run's note names the file, and the run parameter `files` hands it to a pipeline that loads files.

Every error is raised: the message returns to the queue, and finally moves to the dead-letter queue.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

import hashlib
import json
import os
import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENVIRONMENT_NAME, DAG_NAME = os.environ["ENVIRONMENT_NAME"], os.environ["DAG_NAME"]
SUFFIX = os.environ.get("SUFFIX", "")
# One try, within the function timeout of 30 seconds. The queue retries.
_mwaa = boto3.client("mwaa", config=Config(connect_timeout=3, read_timeout=20, retries={"total_max_attempts": 1}))
_CONFLICT = 409


class InvalidEventError(ValueError):
    """The message is not an event about a new object in S3. The error says what is missing."""


class NotStartedError(RuntimeError):
    """MWAA or Airflow did not start the run. The error contains their message."""


def lambda_handler(event: Any, _context: object) -> list[dict[str, Any]]:
    """Start a run for each new object in `event`.

    Args:
        event: an SQS batch from Lambda's event source mapping, with one message by the stack's setting.

    Returns:
        For each message: the object's `key`, the `run_id` or None if the key starts no run, and whether it is `new`.

    Raises:
        InvalidEventError: a message is not an event about a new object.
        NotStartedError: the run could not be started.
    """
    try:
        messages = [json.loads(record["body"]) for record in event["Records"]]
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidEventError(f"the event is not an SQS batch: {error!r}") from None
    return [_start(*_landed(message)) for message in messages]


def _landed(message: Any) -> tuple[str, str, str]:
    """Return the bucket and key of a new object, and an id of this version."""
    try:
        kind, detail = message["detail-type"], message["detail"]
        bucket, key = detail["bucket"]["name"], detail["object"]["key"]
        # Without versioning, the sequencer identifies the event. It is the same if the event is delivered again.
        version = detail["object"].get("version-id") or detail["object"]["sequencer"]
    except (TypeError, KeyError) as error:
        raise InvalidEventError(f"the message is not an S3 event from EventBridge: it lacks {error}") from None
    if kind != "Object Created":
        raise InvalidEventError(f"the event is {kind!r}, not 'Object Created'")
    return bucket, key, version


def _start(bucket: str, key: str, version: str) -> dict[str, Any]:
    # The S3 console creates an object with a trailing slash for a folder.
    if key.endswith("/") or not key.endswith(SUFFIX):
        return {"key": key, "run_id": None, "new": False}
    run_id = run_id_of(bucket, key, version)
    url = f"s3://{bucket}/{key}"
    body = {"dag_run_id": run_id, "logical_date": None, "note": f"{url} (version {version})"[:1000]}
    body["conf"] = {"files": [url]}
    try:
        _mwaa.invoke_rest_api(Name=ENVIRONMENT_NAME, Method="POST", Path=f"/dags/{DAG_NAME}/dagRuns", Body=body)
    except ClientError as error:
        if error.response.get("RestApiStatusCode") == _CONFLICT:
            return {"key": key, "run_id": run_id, "new": False}
        reason = error.response.get("RestApiResponse") or error
        raise NotStartedError(
            f"{DAG_NAME} of {ENVIRONMENT_NAME} was not started for s3://{bucket}/{key}: {reason}"
        ) from None
    return {"key": key, "run_id": run_id, "new": True}


def run_id_of(bucket: str, key: str, version: str) -> str:
    """Return a readable run id for an object's version, with characters that Airflow accepts, at most 80."""
    digest = hashlib.sha256("\0".join((bucket, key, version)).encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9_]+", "-", key)[-55:].strip("-")
    return f"landing-{name}-{digest}"
