"""A release is one version of a dbt project's files, listed with size and SHA-256 in its release.json.

An artifact is a folder with the bucket's layout: `dags/dbt/<project_name>/<release_id>/…`, `dags/…`,
`requirements.txt`, `startup.sh`, and `wheels/` if it was built for environments without a package index. Its
`lambda.zip` goes to the functions and not to the bucket.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

from mwaa_release.errors import DeployError, SetupError

DAGS = "dags/"
PROJECTS = "dags/dbt/"
ROOT_FILES = ("requirements.txt", "startup.sh")
WHEELS = "wheels/"
# Of workflows, by the digest of its content.
CODE = "workflows/code/"
LAMBDA_ZIP = "lambda.zip"
RELEASE_FILE = "release.json"
MANIFEST_FILE = "manifest.json"
CURRENT = "CURRENT"

# 20261124T090500Z-1a2b3c4, with -dirty if files differed from that commit. Sorts by time.
RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-(?:[0-9a-f]{7,40}|unknown)(?:-dirty)?")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a release: path relative to the release, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Release:
    """The content of a release.json."""

    release_id: str
    project_name: str
    git_sha: str
    built_at: str
    dbt_version: str
    files: tuple[File, ...]
    # Web address of the repository on GitHub; empty if it has none.
    repository: str = ""

    @property
    def content_sha256(self) -> str:
        """One SHA-256 of all paths and contents. Two releases with the same value have the same files."""
        return sha256("".join(f"{file.sha256} {file.path}\n" for file in sorted(self.files, key=_path)).encode())

    @property
    def prefix(self) -> str:
        """The key of the release's folder in the bucket, with a trailing slash."""
        return f"{PROJECTS}{self.project_name}/{self.release_id}/"

    def to_json(self) -> bytes:
        """Return the bytes of release.json."""
        return (json.dumps(asdict(self) | {"content_sha256": self.content_sha256}, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Release":
        """Read a release.json.

        Args:
            data: its bytes.
            where: its path or key, for the error message.

        Raises:
            DeployError: the content is not a release.json.
        """
        try:
            content = json.loads(data)
            return cls(
                release_id=content["release_id"],
                project_name=content["project_name"],
                git_sha=content["git_sha"],
                built_at=content["built_at"],
                dbt_version=content["dbt_version"],
                files=tuple(File(file["path"], file["size"], file["sha256"]) for file in content["files"]),
                # Earlier releases have none.
                repository=content.get("repository", ""),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DeployError(
                f"{where} is not a release.json ({type(error).__name__}: {error}); build again"
            ) from error


def _path(file: File) -> str:
    return file.path


def list_files(folder: Path) -> tuple[File, ...]:
    """List every file under `folder` with size and SHA-256, sorted by path."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            files.append(File(path.relative_to(folder).as_posix(), len(data), sha256(data)))
    return tuple(files)


@dataclass(frozen=True)
class Artifact:
    """A built artifact: its folder, the releases in it, the other files by their key in the bucket, and the wheels.

    `code` is the code package of workflows.
    """

    folder: Path
    releases: tuple[Release, ...]
    files: dict[str, File]
    wheels: tuple[File, ...] = ()
    code: tuple[File, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Artifact":
        """Read the artifact of `build`.

        Raises:
            SetupError: `folder` has no artifact.
            DeployError: the artifact was changed after the build.
        """
        release_files = sorted((folder / PROJECTS).glob(f"*/*/{RELEASE_FILE}"))
        if not release_files:
            raise SetupError(f"{folder} has no release; run: python -m mwaa_release build --output {folder}")
        releases = tuple(Release.from_json(path.read_bytes(), str(path)) for path in release_files)
        for release, path in zip(releases, release_files, strict=True):
            actual = tuple(file for file in list_files(path.parent) if file.path != RELEASE_FILE)
            if set(actual) != set(release.files) or folder / release.prefix != path.parent:
                raise DeployError(f"{path.parent} differs from {RELEASE_FILE}: it was changed; build again")
            _check_manifest(release, path.parent)
        listed = list_files(folder)
        files = {file.path: file for file in listed if _goes_in_place(file.path)}
        wheels, code = (tuple(file for file in listed if file.path.startswith(prefix)) for prefix in (WHEELS, CODE))
        return cls(folder, releases, files, wheels, code)

    def read_bytes(self, key: str) -> bytes:
        """Return the bytes for `key` in the bucket."""
        return (self.folder / key).read_bytes()

    def summary(self) -> dict[str, Any]:
        """Return the release id of each project."""
        return {release.project_name: release.release_id for release in self.releases}


def _check_manifest(release: Release, folder: Path) -> None:
    """Check that the manifest, from which Airflow creates tasks, describes the files that dbt runs.

    Raises:
        DeployError: the manifest and the files do not match.
    """
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        project, nodes = manifest["metadata"]["project_name"], manifest["nodes"]
        # For a hook the path is ./dbt_project.yml.
        own = {normpath(node["original_file_path"]) for node in nodes.values() if node["package_name"] == project}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeployError(
            f"{folder / MANIFEST_FILE} is not a dbt manifest ({type(error).__name__}: {error}); build again"
        ) from error
    if project != release.project_name:
        raise DeployError(
            f"{folder / MANIFEST_FILE} belongs to project {project!r}, not {release.project_name!r}; build again"
        )
    if missing := sorted(own - {file.path for file in release.files}):
        raise DeployError(f"{folder / MANIFEST_FILE} lists {missing[0]}, which is missing in the release; build again")


def _goes_in_place(path: str) -> bool:
    return path in ROOT_FILES or (path.startswith(DAGS) and not path.startswith(PROJECTS))
