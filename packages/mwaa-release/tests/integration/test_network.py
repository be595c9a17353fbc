"""Throttled and dropped requests are retried. If they keep failing, the live release stays unchanged."""

import threading
from collections.abc import Callable

import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from mwaa_local.testing.artifacts import MANIFEST
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError

PROJECT = {f"models/model_{number}.sql": f"select {number}" for number in range(4)} | {"manifest.json": MANIFEST}
CHANGED = PROJECT | {"models/model_3.sql": "select 33"}
FILES = {"dags/pipelines.py": "1"}
ONE, TWO = "20260101T000001Z-abcdef1", "20260101T000002Z-abcdef1"


class Network:
    """Makes the first `times` tries of every upload fail with `failure`."""

    def __init__(self, s3, failure: Callable, times: float) -> None:
        self.tries: dict[str, int] = {}
        self._failure, self._times, self._lock = failure, times, threading.Lock()
        s3.meta.events.register("before-send.s3.PutObject", self._before)

    def _before(self, request, **_more):
        with self._lock:
            count = self.tries[request.url] = self.tries.get(request.url, 0) + 1
        return self._failure(request) if count <= self._times and "mwaa_release.lock" not in request.url else None


def throttled(request):
    response = AWSResponse(request.url, 503, {}, None)
    response._content = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    return response


def dropped(request):
    # The connection drops while the body is sent.
    raise ConnectionClosedError(endpoint_url=request.url)


def timed_out(request):
    raise ReadTimeoutError(endpoint_url=request.url)


@pytest.fixture
def retrying_bucket(aws, bucket) -> Bucket:
    """The bucket with a client that retries like the release tool, without pauses."""
    return Bucket(bucket.name, aws.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 3})))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)


@pytest.mark.parametrize("failure", [throttled, dropped, timed_out])
def test_temporary_network_error_is_retried_until_the_upload_succeeds(
    retrying_bucket, bucket, make_artifact, live_release, failure
):
    network = Network(retrying_bucket.s3, failure, 2)
    applied = apply(make_artifact(1, PROJECT, FILES), retrying_bucket)
    assert applied.uploaded == len(PROJECT) + len(FILES) + 1
    assert live_release(bucket) == ONE
    assert {count for url, count in network.tries.items() if "mwaa_release.lock" not in url} == {3}


@pytest.mark.parametrize(
    ("failure", "message"),
    [(throttled, "SlowDown: Please reduce"), (dropped, "Connection was closed"), (timed_out, "Read timeout")],
)
def test_failed_upload_names_the_key_and_keeps_the_live_release(
    retrying_bucket, bucket, make_artifact, live_release, failure, message
):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    Network(retrying_bucket.s3, failure, float("inf"))
    key = rf"uploading s3://{bucket.name}/dags/dbt/flights/{TWO}/models/model_3\.sql: "
    with pytest.raises(DeployError, match=f"{key}.*{message}"):
        apply(make_artifact(2, CHANGED, FILES), retrying_bucket)
    assert live_release(bucket) == ONE
    # The failed apply released the lock, so the next apply does not wait.
    apply(make_artifact(2, CHANGED, FILES), bucket)
    assert live_release(bucket) == TWO
