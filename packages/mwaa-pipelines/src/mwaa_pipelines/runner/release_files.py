"""Copies the files of a release from S3, or from a local folder, and checks them.

The first task of a release reads file by file, and stores an archive for the others, which need one request.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import logging
import re
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.stream import split_url

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Airflow reads these, or MWAA Serverless does. dbt does not.
_FOR_AIRFLOW = ("manifest.json", "selections/", "workflows/")
# As many as the connections of a boto3 client.
_PARALLEL = 10

log = logging.getLogger(__name__)

# Returns the content of a file by its path below the project.
_Read = Callable[[str], bytes]


def fetch_release(
    s3_client: Any, projects: str, project_name: str, release_id: str | None, target: Path, archive: str = ""
) -> str:
    """Copy a release into a new folder, and return its release_id.

    Args:
        s3_client: boto3 client; not used for a local folder.
        projects: parent of all projects, `s3://bucket/prefix` or a local folder.
        project_name: the dbt project.
        release_id: the release; None: the one that CURRENT names.
        target: the folder.
        archive: `s3://bucket/key` of the archive; empty: read and store none.

    Raises:
        PipelineError: the release is missing, incomplete or damaged, or needs another version of dbt.
    """
    read = _from_s3(s3_client, projects, project_name) if projects.startswith("s3://") else _from_folder(projects)
    release_id = release_id or read(f"{project_name}/CURRENT").decode().strip()
    if not _NAME.fullmatch(release_id):
        raise PipelineError(f"{release_id!r} is not the name of a release")
    folder = f"{project_name}/{release_id}"
    try:
        content = json.loads(read(f"{folder}/release.json"))
        files = {file["path"]: file["sha256"] for file in content["files"]}
        dbt_version = content["dbt_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{folder}/release.json cannot be read ({type(error).__name__}: {error})") from None
    _check_dbt(release_id, dbt_version)

    def copy(path: str) -> bool:
        """Return whether the archive has the file."""
        if ".." in PurePosixPath(path).parts or path.startswith("/"):
            raise PipelineError(f"release {release_id} lists {path!r}, which is outside of the release")
        data = b""
        with contextlib.suppress(KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
            data = archived.read(path) if archived else b""
        is_archived = hashlib.sha256(data).hexdigest() == files[path]
        if not is_archived:
            data = read(f"{folder}/{path}")
            if hashlib.sha256(data).hexdigest() != files[path]:
                raise PipelineError(f"{path} of release {release_id} differs from its release.json. Release it again")
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(data)
        return is_archived

    paths = [path for path in files if not path.startswith(_FOR_AIRFLOW)]
    archived = _open_archive(s3_client, archive) if archive else None
    with ThreadPoolExecutor(_PARALLEL) as pool:
        are_archived = list(pool.map(copy, paths))
    if archive and not all(are_archived):
        # dbt need not wait for it.
        threading.Thread(target=_store_archive, args=(s3_client, archive, target, paths), daemon=True).start()
    log.info("Release %s of %s: %s files", release_id, project_name, len(paths))
    return release_id


def _open_archive(s3_client: Any, url: str) -> zipfile.ZipFile | None:
    bucket, key = split_url(url)
    try:
        return zipfile.ZipFile(io.BytesIO(s3_client.get_object(Bucket=bucket, Key=key)["Body"].read()))
    except s3_client.exceptions.NoSuchKey:
        pass
    except (BotoCoreError, ClientError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be used: %s", url, error)
    return None


def _store_archive(s3_client: Any, url: str, folder: Path, paths: Sequence[str]) -> None:
    bucket, key = split_url(url)
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                archive.write(folder / path, path)
        s3_client.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
    except (OSError, BotoCoreError, ClientError) as error:
        log.warning("%s cannot be written: %s", url, error)


def _check_dbt(release_id: str, version: str) -> None:
    """Compare the minor version of dbt with the installed one. Another one can read the project differently."""
    installed = importlib.metadata.version("dbt-core")
    if version.split(".")[:2] != installed.split(".")[:2]:
        raise PipelineError(
            f"this image has dbt {installed}, but release {release_id} was built with dbt {version}. Build the image "
            "from the commit of the release"
        )


def _from_s3(s3_client: Any, projects: str, project_name: str) -> _Read:
    bucket, prefix = split_url(projects)

    def read(path: str) -> bytes:
        key = f"{prefix}/{path}"
        try:
            return bytes(s3_client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except s3_client.exceptions.NoSuchKey:
            raise PipelineError(
                f"s3://{bucket}/{key} is missing. The bucket keeps the last releases of a project. Clear the failed "
                f"tasks when Airflow shows the current release of {project_name}"
            ) from None
        except (BotoCoreError, ClientError) as error:
            raise PipelineError(f"s3://{bucket}/{key} cannot be read: {error}") from None

    return read


def _from_folder(projects: str) -> _Read:
    def read(path: str) -> bytes:
        try:
            return Path(projects, path).read_bytes()
        except OSError as error:
            raise PipelineError(f"{Path(projects, path)} cannot be read: {error.strerror}") from None

    return read
