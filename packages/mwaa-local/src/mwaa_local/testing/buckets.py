"""Fixtures that read a test's buckets in the AWS stand-in."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config

from mwaa_local.testing.aws import Aws
from mwaa_release.bucket import Bucket
from mwaa_release.release import RELEASE_FILE, Release


@pytest.fixture
def s3(aws: Aws) -> Any:
    # Without retries, so that tests see the failures that they inject.
    return aws.client("s3", config=Config(retries={"total_max_attempts": 1}, max_pool_connections=16))


@pytest.fixture
def contents() -> Callable[[Bucket], dict[str, bytes]]:
    """A function that returns the objects of a bucket by key."""

    def read(bucket: Bucket) -> dict[str, bytes]:
        return {key: bucket.read(key) or b"" for key in bucket.sizes("")}

    return read


@pytest.fixture
def live_release() -> Callable[[Bucket], str]:
    """A function that checks all files of the live release against release.json and returns the release_id."""

    def check(bucket: Bucket, name: str = "flights") -> str:
        current = (bucket.read(f"dags/dbt/{name}/CURRENT") or b"").decode().strip()
        key = f"dags/dbt/{name}/{current}/{RELEASE_FILE}"
        release = Release.from_json(bucket.read(key) or b"", key)
        assert release.release_id == current
        for file in release.files:
            stored = bucket.describe(release.prefix + file.path)
            assert stored, file.path
            assert stored["sha256"] == file.sha256, file.path
        return current

    return check
