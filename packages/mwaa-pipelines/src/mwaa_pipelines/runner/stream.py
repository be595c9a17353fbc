"""How the runner reports to Airflow: numbered objects in S3, each with the news since the one before.

S3 and not CloudWatch Logs, because an object is complete, ordered and readable at once. Log events arrive seconds
later, in pieces of 16 KB, and all readers of an account share 25 requests a second.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

# Between two objects: with news, and without.
SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
# How long the last object may take.
_LAST_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """News of a runner.

    Args:
        lines: of dbt's output.
        xcoms: XComs of the task, by key.
        exit_code: of the runner, in its last batch.
        error: why the runner failed, if dbt's results do not show it.
    """

    lines: list[str] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    error: str = ""

    @property
    def is_last(self) -> bool:
        """Whether the runner has ended."""
        return self.exit_code is not None


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and key of `s3://bucket/key`; the key has no slash at its ends."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key.strip("/")


def job_key(prefix: str) -> str:
    """Return the key of the job."""
    return f"{prefix}/job.json"


def batch_key(prefix: str, number: int) -> str:
    """Return the key of a batch. The first number is 0."""
    return f"{prefix}/{number:06}.json"


class BatchWriter:
    """Writes batches in a thread: at most one each second if there is news, and one each ten seconds as a sign of life.

    Args:
        s3_client: boto3 client.
        url: `s3://bucket/prefix` of this run of the runner.
    """

    def __init__(self, s3_client: Any, url: str) -> None:
        self._s3, (self._bucket, self._prefix) = s3_client, split_url(url)
        self._pending, self._number = Batch(), 0
        self._lock, self._has_news, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_until_closed, daemon=True)
        self._thread.start()

    def add_line(self, line: str) -> None:
        """Add a line of output."""
        with self._lock:
            self._pending.lines.append(line)
        self._has_news.set()

    def push(self, key: str, value: Any) -> None:
        """Add an XCom, instead of an earlier one with the same key."""
        with self._lock:
            self._pending.xcoms[key] = value
        self._has_news.set()

    def close(self, exit_code: int, error: str = "") -> None:
        """Write the last batch.

        Args:
            exit_code: of the runner.
            error: why it failed, if dbt's results do not show it.

        Raises:
            BotoCoreError, ClientError: S3 did not take it within a minute.
        """
        self._ended.set()
        self._has_news.set()
        self._thread.join()
        self._pending.exit_code, self._pending.error = exit_code, error
        until = time.monotonic() + _LAST_SECONDS
        while True:
            try:
                self._write()
            except (BotoCoreError, ClientError):
                if time.monotonic() > until:
                    raise
                time.sleep(SECONDS)
            else:
                return

    def _write_until_closed(self) -> None:
        while True:
            self._has_news.clear()
            try:
                self._write()
            except (BotoCoreError, ClientError) as error:
                log.warning("S3 did not take the news, trying again: %s", error)
                self._has_news.set()
            if self._ended.wait(SECONDS):
                return
            # News after a pause are written at once.
            self._has_news.wait(HEARTBEAT_SECONDS - SECONDS)
            if self._ended.is_set():
                return

    def _write(self) -> None:
        with self._lock:
            batch, self._pending = self._pending, Batch()
        try:
            content = json.dumps(asdict(batch)).encode()
            self._s3.put_object(Bucket=self._bucket, Key=batch_key(self._prefix, self._number), Body=content)
        except BaseException:
            with self._lock:
                self._pending.lines[:0] = batch.lines
                self._pending.xcoms = batch.xcoms | self._pending.xcoms
                self._pending.exit_code, self._pending.error = batch.exit_code, batch.error
            raise
        self._number += 1


class BatchReader:
    """Reads batches in their order.

    Args:
        s3_client: boto3 client.
        url: `s3://bucket/prefix` of the writer.
    """

    def __init__(self, s3_client: Any, url: str) -> None:
        self._s3, (self._bucket, self._prefix) = s3_client, split_url(url)
        self._number = 0

    def read(self) -> Iterator[Batch]:
        """Yield the batches that were written since the last call.

        Raises:
            BotoCoreError, ClientError: S3 does not answer.
        """
        while True:
            key = batch_key(self._prefix, self._number)
            try:
                content = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except self._s3.exceptions.NoSuchKey:
                return
            self._number += 1
            yield Batch(**json.loads(content))
