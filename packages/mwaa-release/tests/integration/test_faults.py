"""If `apply` fails at any request, the live release stays complete and the next `apply` succeeds."""

import threading
import time

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError

from mwaa_local.testing.artifacts import MANIFEST
from mwaa_release.apply import apply
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.lock import KEY, Lease, LockLostError, locked

OLD = {f"models/model_{number}.sql": f"select {number}" for number in range(4)} | {"manifest.json": MANIFEST}
NEW = OLD | {"models/model_3.sql": "select 33", "models/model_4.sql": "select 4"}
OLD_FILES = {"dags/pipelines.py": "1", "dags/old.py": "old", "startup.sh": "s"}
NEW_FILES = {"dags/pipelines.py": "2", "startup.sh": "s2"}
ONE, TWO = "20260101T000001Z-abcdef1", "20260101T000002Z-abcdef1"


class Fault:
    """Makes request number `at` of an S3 client fail, before it is sent or after it took effect."""

    def __init__(self, s3, kind: str) -> None:
        self.at, self.count, self.kind, self._lock = 0, 0, kind, threading.Lock()
        self.hit = ""
        s3.meta.events.register("before-send.s3", self.before)
        s3.meta.events.register("after-call.s3", self.after)

    def arm(self, at: int) -> None:
        self.at, self.count, self.hit = at, 0, ""

    def _now(self, request: str) -> bool:
        with self._lock:
            self.count += 1
            if self.count == self.at:
                self.hit = request
            return self.count == self.at

    def before(self, request, **_more):
        if self.kind == "after" or not self._now(f"{request.method} {request.url}"):
            return None
        if self.kind == "denied":
            body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
            response = AWSResponse(request.url, 403, {}, None)
            response._content = body
            return response
        raise EndpointConnectionError(endpoint_url=request.url)

    def after(self, model, **_more):
        if self.kind == "after" and self._now(model.name):
            raise EndpointConnectionError(endpoint_url=model.name)


# The hardest case always runs, the others only with `make test-slow`.
@pytest.mark.parametrize(
    "kind",
    ["after", pytest.param("before", marks=pytest.mark.slow), pytest.param("denied", marks=pytest.mark.slow)],
)
def test_failure_at_any_request_keeps_a_complete_live_release(bucket, make_artifact, live_release, contents, kind):
    old, new = make_artifact(1, OLD, OLD_FILES), make_artifact(2, NEW, NEW_FILES)
    apply(old, bucket)
    start = contents(bucket)
    fault = Fault(bucket.s3, kind)
    apply(new, bucket)
    requests, goal = fault.count, contents(bucket)
    assert requests > 20
    live_releases = set()
    for at in range(1, requests + 1):
        bucket.delete(contents(bucket))
        for key, data in start.items():
            bucket.s3.put_object(
                Bucket=bucket.name, Key=key, Body=data, ChecksumAlgorithm="SHA256", Metadata={"release-id": "x"}
            )
        fault.arm(at)
        try:
            apply(new, bucket)
            # Only removing the lock can fail without an error, because the next apply takes the lock over.
            assert KEY in bucket.sizes("") or kind == "after", fault.hit
        except (DeployError, SetupError):
            pass
        assert fault.hit
        fault.arm(0)
        live = live_release(bucket)
        live_releases.add(live)
        if live == ONE:
            assert set(start) <= set(contents(bucket)), fault.hit
        apply(new, bucket, lease_seconds=0.2)
        assert live_release(bucket) == TWO
        assert contents(bucket) == goal, fault.hit
    assert live_releases == {ONE, TWO}


def test_second_release_waits_for_the_first(bucket, make_artifact, live_release):
    messages = []
    with locked(bucket) as lease:
        thread = threading.Thread(
            target=apply, args=(make_artifact(1, OLD, OLD_FILES), bucket, lambda what, *_: messages.append(what))
        )
        thread.start()
        thread.join(1)
        assert thread.is_alive()
        assert bucket.sizes("dags/") == {}
        lease.check()
    thread.join(20)
    assert live_release(bucket) == ONE
    assert any("waiting for another release" in what and "process" in what for what in messages)


@pytest.mark.parametrize(("run", "words"), [("", ""), ("77", ", GitHub run 77")])
def test_lock_timeout_error_names_the_holder(bucket, monkeypatch, run, words):
    monkeypatch.setenv("GITHUB_RUN_ID", run)
    holder = rf"another release .* on .* \(process \d+{words}\)"
    with locked(bucket), pytest.raises(DeployError, match=holder), locked(bucket, wait_seconds=0):
        pytest.fail("two at once")


def test_lock_of_a_killed_release_is_taken_over(bucket):
    bucket.s3.put_object(Bucket=bucket.name, Key=KEY, Body=b"left by a release that was killed")
    with locked(bucket, lease_seconds=0.3):
        assert b"killed" not in bucket.read(KEY)
    assert bucket.read(KEY) is None


def test_lock_is_removed_after_the_last_renewal():
    class SlowBucket:
        def __init__(self):
            self.calls, self.renewing = [], threading.Event()

        def put_if(self, *_):
            self.renewing.set()
            time.sleep(0.2)
            self.calls.append("renew")
            return "etag"

        def delete(self, keys):
            self.calls.append(f"delete {keys}")

    bucket = SlowBucket()
    lease = Lease(bucket, "etag", lease_seconds=0.04)
    assert bucket.renewing.wait(5)
    lease.release()
    assert bucket.calls == ["renew", f"delete ['{KEY}']"]


def test_active_lock_is_not_taken_over_and_a_lost_lock_is_noticed(bucket):
    with locked(bucket, lease_seconds=0.4) as lease:
        with pytest.raises(DeployError), locked(bucket, lease_seconds=0.4, wait_seconds=1.5):
            pytest.fail("two at once")
        lease.check()
        bucket.s3.put_object(Bucket=bucket.name, Key=KEY, Body=b"robbed")
        lease._thread.join(5)
        with pytest.raises(LockLostError):
            lease.check()
    # The lease does not delete a lock that another release holds.
    assert bucket.read(KEY) == b"robbed"
