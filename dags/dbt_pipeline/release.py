"""Finds the release of a dbt project that is current and complete, whatever order its files arrived in."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from dbt_pipeline.settings import PipelineError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Release:
    """A complete release: every file that its release.json lists is there, with its size."""

    release_id: str
    path: Path
    git_sha: str

    @property
    def manifest_path(self) -> Path:
        """The manifest that was built with the release."""
        return self.path / "manifest.json"


def projects_path() -> Path:
    """The parent of the projects: DBT_PROJECT_PATH, which startup.sh sets."""
    home = os.environ.get("AIRFLOW_HOME", "/usr/local/airflow")
    return Path(os.environ.get("DBT_PROJECT_PATH", f"{home}/dags/dbt"))


def current_release(project_name: str) -> Release:
    """Return the release that the project's CURRENT names, if it is complete, else the newest complete one.

    Raises:
        PipelineError: there is no complete release; the text says what is missing.
    """
    project = projects_path() / project_name
    if not project.is_dir():
        raise PipelineError(
            f"the dbt project {project_name!r} has no release in {project.parent}; make one: python -m deploy apply"
        )
    named = (project / "CURRENT").read_text().strip() if (project / "CURRENT").is_file() else None
    newest_first = sorted((path.name for path in project.iterdir() if path.is_dir()), reverse=True)
    problems = {}
    for release_id in dict.fromkeys(([named] if named else []) + newest_first):
        release, problem = _read(project / release_id)
        if release:
            if release_id != named:
                log.warning("%s: CURRENT names %s, which is incomplete; taking %s", project, named, release_id)
            return release
        problems[release_id] = problem
    raise PipelineError(f"no release in {project} is complete: {problems or 'there is none'}")


def _read(path: Path) -> tuple[Release | None, str]:
    if path.parent.resolve() != path.resolve().parent or not path.is_dir():
        return None, "no such folder"
    try:
        content = json.loads((path / "release.json").read_text())
        for file in content["files"]:
            if (path / file["path"]).stat().st_size != file["size"]:
                return None, f"{file['path']} has another size"
        return Release(content["release_id"], path, content["git_sha"]), ""
    except FileNotFoundError as error:
        return None, f"{Path(error.filename).relative_to(path)} is missing"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"release.json cannot be read ({type(error).__name__}: {error})"
