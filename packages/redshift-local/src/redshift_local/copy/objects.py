"""S3 objects that COPY reads and UNLOAD writes. Addresses and keys come from the process's AWS_* variables."""

import bz2
import functools
import json
import zlib
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from redshift_local.plan import Refused

_CHUNK = 1 << 20  # bytes


@functools.cache
def client() -> Any:
    """Return the process's S3 client, with short timeouts. It is cached: creating one takes as long as a small COPY."""
    return boto3.client("s3", config=Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 2}))


def split(url: str) -> tuple[str, str]:
    """Return bucket and key of an `s3://` address.

    Raises:
        Refused: the text is not an S3 address.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise Refused(f"Invalid S3 URL '{url}'; it must begin with s3://<bucket>/", "XX000")
    return bucket, key


def find(s3: Any, url: str, *, manifest: bool) -> list[tuple[str, str]]:
    """Return bucket and key of the objects to read: all with the prefix, or those in a manifest.

    https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-source-s3.html

    Raises:
        Refused: there are no objects; the text is Redshift's.
    """
    bucket, prefix = split(url)
    try:
        if manifest:
            return list(_listed(s3, bucket, prefix))
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [(bucket, entry["Key"]) for page in pages for entry in page.get("Contents", []) if entry["Size"]]
    except botocore.exceptions.ClientError as problem:
        raise service_error(problem, bucket, prefix) from problem
    except botocore.exceptions.BotoCoreError as problem:
        raise unreachable(problem) from problem
    if not keys:
        raise Refused(f"The specified S3 prefix '{prefix}' does not exist", "XX000", f"look into bucket {bucket}")
    return keys


def _listed(s3: Any, bucket: str, key: str) -> Iterator[tuple[str, str]]:
    try:
        entries = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["entries"]
        entries_to_read = [(entry["url"], entry.get("mandatory", False)) for entry in entries]
    except (ValueError, KeyError, TypeError) as problem:
        hint = 'it must look like {"entries": [{"url": "s3://bucket/key", "mandatory": true}]}'
        raise Refused(f"The manifest s3://{bucket}/{key} could not be read", "XX000", hint) from problem
    for url, mandatory in entries_to_read:
        bucket_and_key = split(url)
        try:
            s3.head_object(Bucket=bucket_and_key[0], Key=bucket_and_key[1])
        except botocore.exceptions.ClientError as problem:
            if mandatory:
                raise service_error(problem, *bucket_and_key) from problem
            continue
        yield bucket_and_key


def read(s3: Any, bucket: str, key: str, compression: str) -> Iterator[bytes]:
    """Read and decompress an object in chunks of about a mebibyte.

    Args:
        compression: `gzip`, `bzip2` or nothing.

    Raises:
        Refused: the object does not exist, or has another compression.
    """
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        pieces = body.iter_chunks(_CHUNK)
        if not compression:
            yield from pieces
            return
        make = (lambda: zlib.decompressobj(31)) if compression == "gzip" else bz2.BZ2Decompressor
        unpacker, started = make(), False
        for piece in pieces:
            left = piece
            while left:
                if unpacker.eof:  # a compressed file can have several members
                    unpacker = make()
                started = True
                if compression == "gzip":
                    out = unpacker.decompress(left, 4 * _CHUNK)
                    left = unpacker.unused_data or unpacker.unconsumed_tail
                else:
                    out = unpacker.decompress(left)
                    left = unpacker.unused_data
                if out:
                    yield out
        if started and not unpacker.eof:
            raise _not_packed(bucket, key, compression, "it ends too early")
    except (zlib.error, OSError) as problem:
        raise _not_packed(bucket, key, compression, str(problem)) from problem
    except botocore.exceptions.ClientError as problem:
        raise service_error(problem, bucket, key) from problem
    except botocore.exceptions.BotoCoreError as problem:
        raise unreachable(problem) from problem


def _not_packed(bucket: str, key: str, compression: str, problem: str) -> Refused:
    text = f"s3://{bucket}/{key} is not packed with {compression}: {problem}"
    return Refused(text, "XX000", "leave the compression out of the COPY, or pack the file")


def service_error(problem: botocore.exceptions.ClientError, bucket: str, key: str) -> Refused:
    """Return an error of S3 in Redshift's words."""
    details = problem.response.get("Error", {})
    status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    text = f"S3ServiceException:{details.get('Message', '')},Status {status},Error {details.get('Code', '')}"
    return Refused(text, "XX000", f"reading s3://{bucket}/{key}")


def unreachable(problem: Exception) -> Refused:
    """Return the error for an S3 that does not answer."""
    hint = "the warehouse reads S3 where its own AWS_ENDPOINT_URL and AWS_* variables lead"
    return Refused(f"S3 cannot be reached: {problem}", "XX000", hint)
