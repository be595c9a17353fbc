"""Read, write, copy and delete objects of a bucket, with SHA-256 checks and readable errors."""

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.errors import DeployError, from_aws

PARALLEL = 16


def aws_region() -> str | None:
    """Return the Region of `AWS_REGION`, else of `AWS_DEFAULT_REGION`; None leaves it to the profile.

    boto3 reads only `AWS_DEFAULT_REGION`. The AWS CLI and the other SDKs prefer `AWS_REGION`.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None


def aws_client(service: str) -> Any:
    """Return a boto3 client with retries and timeouts for releases, configured by AWS_* and the profile.

    Raises:
        SetupError: no Region is set.
    """
    config = Config(
        max_pool_connections=PARALLEL,
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
    )
    try:
        return boto3.client(service, region_name=aws_region(), config=config)
    except BotoCoreError as error:
        raise from_aws(error, f"connecting to {service}") from error


@dataclass(frozen=True)
class Bucket:
    """One S3 bucket. Every method raises DeployError or SetupError; the message names the bucket and the key."""

    name: str
    s3: Any

    @contextmanager
    def _doing(self, what: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise from_aws(error, f"{what} s3://{self.name}/{key}") from error

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the keys that start with `prefix`, with their sizes in bytes."""
        sizes: dict[str, int] = {}
        with self._doing("listing", prefix):
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                sizes |= {entry["Key"]: entry["Size"] for entry in page.get("Contents", [])}
        return sizes

    def read(self, key: str) -> bytes | None:
        """Return the bytes of `key`, or None."""
        return (self.read_tagged(key) or (None, ""))[0]

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """Return the bytes of `key` and their ETag, or None."""
        with self._doing("reading", key):
            try:
                answer = self.s3.get_object(Bucket=self.name, Key=key)
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return None
                raise

    def describe(self, key: str) -> dict[str, Any] | None:
        """Return `sha256` in hex, `metadata` and `version`, or None. Files of other tools often have no `sha256`."""
        with self._doing("reading", key):
            try:
                head = self.s3.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return {
            "sha256": _hex(head.get("ChecksumSHA256")),
            "metadata": head.get("Metadata", {}),
            "version": None if head.get("VersionId") == "null" else head.get("VersionId"),
        }

    def put(self, key: str, data: bytes, sha256: str, metadata: dict[str, str] | None = None) -> None:
        """Upload bytes. S3 compares the SHA-256 and refuses other bytes."""
        with self._doing("uploading", key):
            self.s3.put_object(
                Bucket=self.name,
                Key=key,
                Body=data,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                Metadata=metadata or {},
            )

    def put_if(self, key: str, data: bytes, if_match: str | None) -> str | None:
        """Write only if the object still has the ETag `if_match`; with None, only if the object does not exist.

        Returns:
            The new ETag, or None if another writer was faster.
        """
        condition = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        with self._doing("writing", key):
            try:
                return self.s3.put_object(Bucket=self.name, Key=key, Body=data, **condition)["ETag"]
            except ClientError as error:
                if error.response["Error"]["Code"] not in (
                    "PreconditionFailed",
                    "ConditionalRequestConflict",
                    "NoSuchKey",
                ):
                    raise
        # If the response to the first attempt was lost, boto3's retry fails because the first attempt succeeded.
        stored = self.read_tagged(key)
        return stored[1] if stored and stored[0] == data else None

    def copy(self, source: str, key: str, sha256: str) -> bool:
        """Copy inside S3. Return False if the copy has other content, because somebody changed or deleted `source`."""
        with self._doing("copying", f"{source} to {key}"):
            try:
                answer = self.s3.copy_object(
                    Bucket=self.name,
                    Key=key,
                    CopySource={"Bucket": self.name, "Key": source},
                    ChecksumAlgorithm="SHA256",
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return False
                raise
        return _hex(answer["CopyObjectResult"].get("ChecksumSHA256")) == sha256

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys, 1,000 per request."""
        remaining = list(keys)
        while remaining:
            batch, remaining = remaining[:1000], remaining[1000:]
            with self._doing("deleting in", batch[0]):
                answer = self.s3.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            for failed in answer.get("Errors", []):
                raise DeployError(
                    f"deleting s3://{self.name}/{failed['Key']}: {failed.get('Code')}: {failed.get('Message')}"
                )


def _hex(checksum: str | None) -> str | None:
    # A multipart checksum ends in -<parts> and is not the SHA-256 of the content.
    return base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None


def in_parallel(jobs: list[Callable[[], Any]], done: Callable[[int], None] = lambda _count: None) -> list[Any]:
    """Run jobs, PARALLEL at a time. After a failure or Ctrl-C no further job starts.

    Args:
        jobs: functions to call.
        done: receives the number of finished jobs.

    Returns:
        The results of the jobs, in their order.

    Raises:
        The first failure.
    """
    finished = 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(job) for job in jobs]
        pending = set(futures)
        try:
            while pending:
                ready, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in ready:
                    future.result()
                finished += len(ready)
                done(finished)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]
