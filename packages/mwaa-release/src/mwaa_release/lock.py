"""Allow one release at a time: a lease on a bucket, held by an object that only one writer can create.

The holder rewrites the object while it works. A waiting release takes the lease over if the object stays unchanged for
a whole lease. So a killed release blocks others only for a short time, and clocks are never compared.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError
from mwaa_release.progress import Progress, no_progress

KEY = "mwaa_release.lock"
LEASE_SECONDS = 60.0
WAIT_SECONDS = 900.0


class LockLostError(DeployError):
    """Another release took the lock, because this release did not renew its lease in time."""


class Lease:
    """A held lock. Call `check` before an action that only one release can do."""

    def __init__(self, bucket: Bucket, etag: str, lease_seconds: float) -> None:
        """Start to renew the lease."""
        self._bucket, self._etag = bucket, etag
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._renew, args=(lease_seconds / 4,), daemon=True)
        self._thread.start()

    def _renew(self, every: float) -> None:
        while not self._ended.wait(every):
            # The next renewal repeats a failed request. Only a refused condition means that the lock is lost.
            with suppress(DeployError):
                etag = self._bucket.put_if(KEY, _owner(), self._etag)
                if etag is None:
                    self._lost = True
                    return
                self._etag = etag

    def check(self) -> None:
        """Raise LockLostError if another release has taken over."""
        if self._lost:
            raise LockLostError(
                f"another release took over s3://{self._bucket.name}/{KEY}, so this release stopped; run it again"
            )

    def release(self) -> None:
        """Stop to renew the lease, and remove the lock if this release still holds it."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            # The next release takes over a lock that cannot be removed.
            with suppress(DeployError):
                self._bucket.delete([KEY])


def _owner() -> bytes:
    who = {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "run": os.environ.get("GITHUB_RUN_ID")}
    # The nonce gives every renewal a different ETag.
    return json.dumps(who | {"nonce": secrets.token_hex(8)}).encode()


def _describe(content: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        who = json.loads(content)
        run = f", GitHub run {who['run']}" if who["run"] else ""
        return f"{who['user']} on {who['host']} (process {who['pid']}{run})"
    return "an unknown user"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


@contextmanager
def locked(
    bucket: Bucket,
    progress: Progress = no_progress,
    lease_seconds: float = LEASE_SECONDS,
    wait_seconds: float = WAIT_SECONDS,
) -> Iterator[Lease]:
    """Hold the bucket's lock. Wait while another holder is alive.

    Args:
        bucket: the bucket.
        progress: receives the name of the current holder.
        lease_seconds: how long a holder keeps the lock without a renewal.
        wait_seconds: how long to wait before giving up.

    Raises:
        DeployError: another release still held the lock after `wait_seconds`; the message names its holder.
    """
    lease = Lease(bucket, _acquire(bucket, progress, lease_seconds, wait_seconds), lease_seconds)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(bucket: Bucket, progress: Progress, lease_seconds: float, wait_seconds: float) -> str:
    started = seen_since = time.monotonic()
    seen: bytes | None = None
    while True:
        stored = bucket.read_tagged(KEY)
        silent = stored is not None and stored[0] == seen and time.monotonic() - seen_since > lease_seconds
        if stored is None or silent:
            etag = bucket.put_if(KEY, _owner(), stored[1] if stored else None)
            if etag is not None:
                return etag
            continue
        if stored[0] != seen:
            seen, seen_since = stored[0], time.monotonic()
        holder = _describe(stored[0])
        if time.monotonic() - started > wait_seconds:
            raise DeployError(f"another release is being applied to s3://{bucket.name} by {holder}; try again later")
        progress(f"waiting for another release: {holder}", 0, 1)
        time.sleep(min(2.0, lease_seconds / 10))
