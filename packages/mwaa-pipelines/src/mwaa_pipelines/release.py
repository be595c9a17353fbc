"""Finds the current complete release of a dbt project. MWAA copies a release file by file, in any order."""

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mwaa_pipelines.errors import PipelineError

log = logging.getLogger(__name__)

# The version that startup.sh installs. Another version of dbt can write the manifest in another format.
DBT_VERSION = "1.11"

_RELEASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Release:
    """A complete release: every file in its release.json exists and has the right size."""

    release_id: str
    path: Path
    git_sha: str
    # Web address of the repository on GitHub; empty if it has none.
    repository: str = ""

    @property
    def manifest_path(self) -> Path:
        """The dbt manifest of the release."""
        return self.path / "manifest.json"


def release_tag(release_id: str) -> str:
    """Return the DAG's tag that names the release the DAG was parsed from. The smoke test waits for this tag."""
    return f"release:{release_id}"


def projects_path() -> Path:
    """Return the parent folder of all projects: DBT_PROJECT_PATH, which startup.sh sets."""
    home = os.environ.get("AIRFLOW_HOME", "/usr/local/airflow")
    return Path(os.environ.get("DBT_PROJECT_PATH", f"{home}/dags/dbt"))


def current_release(project_name: str) -> Release:
    """Return the release that CURRENT names if it is complete; otherwise the newest complete release.

    Raises:
        PipelineError: no release is complete; the message says what is missing.
    """
    project = projects_path() / project_name
    if not project.is_dir():
        raise PipelineError(
            f"the dbt project {project_name!r} has no release in {project.parent}; "
            "create one: python -m mwaa_release apply"
        )
    named = _current(project)
    newest_first = sorted((path.name for path in project.iterdir() if path.is_dir()), reverse=True)
    problems = {}
    for release_id in dict.fromkeys(([named] if named else []) + newest_first):
        release, problem = _read(project, release_id)
        if release:
            if release_id != named:
                # Expected while MWAA copies a release.
                log.warning("%s: CURRENT names %s (%s); using %s", project, named, problems.get(named), release_id)
            return release
        problems[release_id] = problem
    raise PipelineError(f"no release in {project} is usable: {problems or 'there is none'}")


def _current(project: Path) -> str | None:
    try:
        return (project / "CURRENT").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _read(project: Path, release_id: str) -> tuple[Release | None, str]:
    # The name in CURRENT must not point outside the project.
    if not _RELEASE_ID.fullmatch(release_id) or not (project / release_id).is_dir():
        return None, "no such release"
    path = project / release_id
    try:
        content = json.loads((path / "release.json").read_text())
        if content["release_id"] != release_id:
            return None, f"release.json belongs to {content['release_id']}"
        if not content["dbt_version"].startswith(f"{DBT_VERSION}."):
            return None, (
                f"its manifest is of dbt {content['dbt_version']}, but workers run dbt {DBT_VERSION}; build it again: "
                "python -m mwaa_release build"
            )
        sizes = {file["path"]: file["size"] for file in content["files"]}
        for name, size in {"manifest.json": None, **sizes}.items():
            file = path / name
            if ".." in file.parts or not file.is_file():
                return None, f"{name} is missing"
            if file.stat().st_size != size:
                return None, f"the size of {name} differs from release.json"
        return Release(release_id, path, content["git_sha"], content.get("repository", "")), ""
    except FileNotFoundError:
        return None, "release.json is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"release.json cannot be read ({type(error).__name__}: {error})"
