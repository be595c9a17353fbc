"""AWS that is slow, or a network that drops: tried again, in the end told in words, with what was live still live."""

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
    """Disturbs every try of every upload: the first `times` tries of a key fail, as `how` says."""

    def __init__(self, s3, how: Callable, times: float) -> None:
        self.tries: dict[str, int] = {}
        self._how, self._times, self._lock = how, times, threading.Lock()
        s3.meta.events.register("before-send.s3.PutObject", self._before)

    def _before(self, request, **_more):
        with self._lock:
            count = self.tries[request.url] = self.tries.get(request.url, 0) + 1
        return self._how(request) if count <= self._times and "mwaa_release.lock" not in request.url else None


def throttled(request):
    response = AWSResponse(request.url, 503, {}, None)
    response._content = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    return response


def dropped(request):
    # Half of the body was on its way.
    raise ConnectionClosedError(endpoint_url=request.url)


def silent(request):
    raise ReadTimeoutError(endpoint_url=request.url)


@pytest.fixture
def patient(aws, bucket) -> Bucket:
    """The bucket through a client that tries again, as the tool's does, without its pauses."""
    return Bucket(bucket.name, aws.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 3})))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)


@pytest.mark.parametrize("how", [throttled, dropped, silent])
def test_a_disturbance_that_passes_is_not_even_noticed(patient, bucket, make_artifact, live_release, how):
    network = Network(patient.s3, how, 2)
    applied = apply(make_artifact(1, PROJECT, FILES), patient)
    assert applied.uploaded == len(PROJECT) + len(FILES) + 1
    assert live_release(bucket) == ONE
    assert {count for url, count in network.tries.items() if "mwaa_release.lock" not in url} == {3}


@pytest.mark.parametrize(
    ("how", "said"),
    [(throttled, "SlowDown: Please reduce"), (dropped, "Connection was closed"), (silent, "Read timeout")],
)
def test_one_that_stays_is_told_with_the_key_and_leaves_what_was_live(
    patient, bucket, make_artifact, live_release, how, said
):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    Network(patient.s3, how, float("inf"))
    key = rf"uploading s3://{bucket.name}/dags/dbt/flights/{TWO}/models/model_3\.sql: "
    with pytest.raises(DeployError, match=f"{key}.*{said}"):
        apply(make_artifact(2, CHANGED, FILES), patient)
    assert live_release(bucket) == ONE
    # The lock was given back, so the next one need not wait.
    apply(make_artifact(2, CHANGED, FILES), bucket)
    assert live_release(bucket) == TWO
