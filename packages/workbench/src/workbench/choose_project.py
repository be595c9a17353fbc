"""Find the dbt project that a command works on, among the projects of this repository."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mwaa_local.settings import REPOSITORY, SetupError
from mwaa_pipelines.settings import did_you_mean
from mwaa_release.build import find_projects
from mwaa_release.errors import DeployError
from mwaa_release.manifest import project_name, project_settings
from mwaa_release.pipelines import first_pipeline
from workbench.explain import near
from workbench.problems import Problem, ProjectError

# The name of a node, with graph operators. Selectors of other methods, such as tag:mart, have a colon.
_NAME = re.compile(r"@?(?:\d*\+)?(\w+)(?:\+\d*)?")
_PATHS = {
    "model-paths": ("models", {".sql", ".py"}),
    "seed-paths": ("seeds", {".csv"}),
    "snapshot-paths": ("snapshots", {".sql", ".yml", ".yaml"}),
}


class NoModelError(ProjectError):
    """No node of the project matches."""


class NoTestError(NoModelError):
    """Nodes of the project match, but they have no tests."""


def all_projects(repository: Path = REPOSITORY) -> list[Path]:
    """Return the folders of the dbt projects: first that of the first pipeline, then by name.

    Raises:
        SetupError: there is no project.
    """
    folders = find_projects(repository)
    if not folders:
        raise SetupError(f"{repository} has no dbt project. Create one with: make new-domain NAME=<name>")
    try:
        first = first_pipeline(repository / "dags" / "pipelines.yml").project_name
    except DeployError:
        # `make dev` and `make lint` report this mistake.
        first = ""
    return sorted(folders, key=lambda folder: name_of(folder) != first)


def one_project(name: str, folders: list[Path]) -> Path:
    """Return the project of a folder or a name; without one, the project of the first pipeline.

    Raises:
        SetupError: there is no such project.
    """
    names = {key: folder for folder in folders for key in (folder.name, name_of(folder))}
    if name and name.strip("/") not in names:
        known = ", ".join(folder.name for folder in folders)
        raise SetupError(f"P={name}: the dbt projects are {known}{did_you_mean(name, names)}")
    return names[name.strip("/")] if name else folders[0]


def projects_with(models: str, name: str, folders: list[Path]) -> list[Path]:
    """Return the projects that can have nodes that match dbt selectors.

    Args:
        models: dbt selectors, separated by spaces.
        name: the project; if empty, projects are searched for files with the names of the selectors.
        folders: all projects.

    Raises:
        SetupError: several projects have a model of this name, or there is no project called `name`.
    """
    if name:
        return [one_project(name, folders)]
    selected = []
    for word in re.split(r"[\s,]+", models):
        if match := _NAME.fullmatch(word):
            having = [folder for folder in folders if match[1] in file_names(folder)]
            if len(having) > 1:
                listed = " and ".join(folder.name for folder in having)
                raise SetupError(
                    f"{match[1]} is in {listed}. Name the project, for example: P={having[0].name} M={models!r}"
                )
            selected += having
    # Also tags, packages and tests, which have no file of their name.
    return list(dict.fromkeys(selected)) or folders


def in_projects(run: Callable[[Path], int], models: str, folders: list[Path]) -> int:
    """Call `run` with each project, and return the highest exit code. Projects without a matching node do not count.

    Raises:
        ProjectError: no project has a matching node, or dbt cannot parse one.
    """
    codes = []
    without_test = None
    for folder in folders:
        try:
            codes.append(run(folder))
        except NoModelError as error:
            if len(folders) == 1:
                raise
            if isinstance(error, NoTestError):
                without_test = error
    if not codes and without_test:
        raise without_test
    if not codes:
        names = sorted({name for folder in folders for name in file_names(folder)})
        raise NoModelError(Problem(f"there is no model {models}", hint=near(models.strip("+@"), names)))
    return max(codes)


def name_of(folder: Path) -> str:
    """Return the name of a project; that of its folder if dbt_project.yml has a mistake, which dbt reports."""
    try:
        return project_name(folder)
    except DeployError:
        return folder.name


def valid_settings(folder: Path) -> dict[str, Any]:
    """Return the content of a dbt_project.yml; nothing if it is not valid YAML, which dbt reports."""
    try:
        return project_settings(folder)
    except DeployError:
        return {}


def file_names(folder: Path) -> list[str]:
    """Return the names of models, seeds and snapshots from the file names, which also works if dbt cannot parse."""
    settings = valid_settings(folder)
    return sorted(
        path.stem
        for setting, (default, suffixes) in _PATHS.items()
        for part in settings.get(setting) or [default]
        for path in (folder / part).rglob("*")
        if path.suffix in suffixes
    )
