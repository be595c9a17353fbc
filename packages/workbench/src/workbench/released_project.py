"""The projects of an artifact, and dbt on the local warehouse for them."""

import json
from dataclasses import dataclass
from pathlib import Path

from mwaa_local.aws.seed import database_user
from mwaa_local.processes import base_environment
from mwaa_local.settings import Settings
from mwaa_release.build import PIPELINES_FILE, find_projects
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.pipelines import dbt_environment, pipelines_by_project
from mwaa_release.products import ParsedProject
from mwaa_release.release import MANIFEST_FILE, Artifact
from mwaa_release.run_dbt import run_dbt
from workbench.warehouse import dbt_variables, write_profile


class DbtFailedError(Exception):
    """dbt failed and printed the reason (exit code 1)."""


@dataclass(frozen=True)
class ReleasedProject:
    """A dbt project, before or after the change.

    Args:
        folder: the project.
        state: folder of its manifest.json, in an artifact.
        content_sha256: one hash of all its files.
        parsed: its manifest and pipelines.
    """

    folder: Path
    state: Path
    content_sha256: str
    parsed: ParsedProject

    @property
    def name(self) -> str:
        """The name of the project."""
        return self.parsed.name

    @property
    def production_schema(self) -> str:
        """The target_schema of its first pipeline."""
        return next((pipeline.target_schema for pipeline in self.parsed.pipelines), self.name)

    @property
    def user(self) -> str:
        """The database user of its first pipeline."""
        return next((database_user(pipeline) for pipeline in self.parsed.pipelines), "dbt_user")


class Dbt:
    """dbt on the local warehouse."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._environment = base_environment() | dbt_variables(settings)

    def run(self, project: ReleasedProject, target: str, schema: str, *arguments: str, shown: bool = True) -> str:
        """Run dbt on a project, and return its output.

        Raises:
            DbtFailedError: dbt failed and printed the reason.
        """
        install_packages(project.folder)
        scratch = self._settings.state / "change" / schema
        write_profile(project.folder, scratch, self._settings, target, schema, project.user)
        done = run_dbt(
            *arguments,
            project=project.folder,
            profiles=scratch,
            scratch=scratch,
            environment=self._environment | dbt_environment(project.parsed.pipelines),
            shown=shown,
        )
        if done.returncode:
            print(done.stdout or "", end="", flush=True)
            raise DbtFailedError(f"dbt {arguments[0]} failed for project {project.name!r}")
        return done.stdout or ""


def parsed_projects(artifact: Artifact, repository: Path) -> list[ReleasedProject]:
    """Return the projects of an artifact, with the pipelines of the repository that it was built from."""
    folders = {project_name(folder): folder for folder in find_projects(repository)}
    pipelines = pipelines_by_project(repository / PIPELINES_FILE, folders, complete=True)
    projects = []
    for release in artifact.releases:
        state, name = artifact.folder / release.prefix, release.project_name
        parsed = ParsedProject(json.loads((state / MANIFEST_FILE).read_bytes()), pipelines[name], {})
        projects.append(ReleasedProject(folders[name], state, release.content_sha256, parsed))
    return projects
