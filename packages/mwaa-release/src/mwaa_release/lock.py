"""One release at a time: a lease on a bucket, held by an object that only one writer can create.

The holder rewrites it while it works. Whoever waits takes it over when it stays the same for a whole lease, so a
release that was killed blocks nobody for long, and no clocks are compared.
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
    """Another release took the lock, because this one was silent for a whole lease."""


class Lease:
    """A held lock. `check` before what must not happen twice."""

    def __init__(self, bucket: Bucket, etag: str, lease_seconds: float) -> None:
        """Start renewing."""
        self._bucket, self._etag = bucket, etag
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._renew, args=(lease_seconds / 4,), daemon=True)
        self._thread.start()

    def _renew(self, every: float) -> None:
        while not self._ended.wait(every):
            # A request that fails is tried again at the next turn; only a refused condition means that it is gone.
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
                f"another release took over s3://{self._bucket.name}/{KEY}; this one stops: run it again"
            )

    def release(self) -> None:
        """Stop renewing, and remove the lock if it is still this one's."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            # A lock that cannot be removed now is taken over by the next release.
            with suppress(DeployError):
                self._bucket.delete([KEY])


def _owner() -> bytes:
    who = {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "run": os.environ.get("GITHUB_RUN_ID")}
    # The nonce makes every renewal another content, thus another ETag.
    return json.dumps(who | {"nonce": secrets.token_hex(8)}).encode()


def _describe(content: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        who = json.loads(content)
        run = f", GitHub run {who['run']}" if who["run"] else ""
        return f"{who['user']} on {who['host']} (process {who['pid']}{run})"
    return "somebody unknown"


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
    """Hold the bucket's lock; wait for another holder as long as it is alive.

    Args:
        bucket: the bucket.
        progress: told who is being waited for.
        lease_seconds: how long a holder may be silent.
        wait_seconds: how long to wait before giving up.

    Raises:
        DeployError: another release was still at it after `wait_seconds`; the text says whose.
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
        there = bucket.read_tagged(KEY)
        silent = there is not None and there[0] == seen and time.monotonic() - seen_since > lease_seconds
        if there is None or silent:
            etag = bucket.put_if(KEY, _owner(), there[1] if there else None)
            if etag is not None:
                return etag
            continue
        if there[0] != seen:
            seen, seen_since = there[0], time.monotonic()
        held = _describe(there[0])
        if time.monotonic() - started > wait_seconds:
            raise DeployError(f"another release is being applied to s3://{bucket.name} by {held}; try again later")
        progress(f"waiting for another release: {held}", 0, 1)
        time.sleep(min(2.0, lease_seconds / 10))
