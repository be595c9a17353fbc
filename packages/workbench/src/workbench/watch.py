"""`make dev`: build each saved file at once, with its children and tests."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import redshift_connector
import watchfiles
from rich.markup import escape

from mwaa_local.expected_errors import error_words, expected_errors
from mwaa_local.settings import Settings, SetupError
from mwaa_local.signals import until_interrupted
from mwaa_pipelines.settings import Pipeline
from mwaa_release.build import find_projects
from mwaa_release.errors import DeployError
from mwaa_release.manifest import output_folders, packages_folder, project_name
from mwaa_release.pipelines import PIPELINES, pipelines_by_project
from mwaa_release.progress import console
from mwaa_release.selections import find_problems, list_arguments
from workbench.build import Builder
from workbench.choose_project import valid_settings
from workbench.commands import open_project
from workbench.problems import Problem, ProjectError
from workbench.project import Project
from workbench.terminal import show_misspelt_keys, show_problem
from workbench.warehouse import warehouse

_SUFFIXES = {".sql", ".yml", ".yaml", ".csv", ".py", ".md"}
# Editors save a file in several writes.
_QUIET_MILLISECONDS = 60
_NO_ANSWER = (
    *(SetupError, redshift_connector.InterfaceError, redshift_connector.OperationalError),
    *(ConnectionError, TimeoutError),
)


def watch(settings: Settings, folders: Sequence[Path]) -> None:
    """Build the changes of projects, until Ctrl-C.

    Args:
        settings: the settings of the warehouse.
        folders: the projects.
    """
    with warehouse(settings):
        loops = {}
        for folder in folders:
            dbt_project = open_project(settings, folder)
            show_misspelt_keys(dbt_project.misspelt_keys)
            loops[folder] = Loop(dbt_project, Builder(dbt_project, settings))
        names = ", ".join(folder.name for folder in folders)
        console.print(f"Watching {names}: save a file to build it with its children and tests. Stop with Ctrl-C.")
        show_pipeline_problems(loops)
        with until_interrupted():
            for changes in watchfiles.watch(
                *folders,
                PIPELINES,
                watch_filter=_has_known_suffix,
                debounce=2000,
                step=_QUIET_MILLISECONDS,
                raise_interrupt=True,
            ):
                paths = {Path(path) for _, path in changes}
                if PIPELINES in paths:
                    show_pipeline_problems(loops)
                for folder, loop in loops.items():
                    if saved := {path for path in paths if is_source(path, folder)}:
                        loop.saved(saved)


def show_pipeline_problems(loops: Mapping[Path, "Loop"], path: Path = PIPELINES) -> None:
    """Show the problems of the pipelines file, with its selectors for the watched projects.

    Args:
        loops: those of the watched projects, by their folders.
        path: the pipelines file.
    """
    try:
        names = {project_name(folder): folder for folder in find_projects(path.parent.parent)}
        by_project = pipelines_by_project(path, names, complete=True)
    except DeployError as error:
        problems = [str(error)]
    else:
        problems = [
            problem
            for name, folder in names.items()
            if folder in loops
            for problem in loops[folder].pipeline_problems(by_project[name], path)
        ]
    for problem in problems:
        console.print(f"[red]✗[/] {escape(problem)}", soft_wrap=True)


def _has_known_suffix(_: watchfiles.Change, path: str) -> bool:
    return Path(path).suffix in _SUFFIXES and not Path(path).name.startswith(".")


def is_source(path: Path, folder: Path) -> bool:
    """Whether a file belongs to a dbt project and was not generated."""
    settings = valid_settings(folder)
    generated = [folder / "package-lock.yml", packages_folder(folder, settings), *output_folders(folder, settings)]
    return path.is_relative_to(folder) and not any(path.is_relative_to(output) for output in generated)


class Loop:
    """Builds saved files, and retries failed nodes with the next save.

    Args:
        project: the parsed project.
        builder: the project's builder.
    """

    def __init__(self, project: Project, builder: Builder) -> None:
        self._project = project
        self._builder = builder
        self._base = project.state / "base"
        # Nodes that failed or were skipped. The next save builds them again.
        self._failed_nodes: set[str] = set()
        project.keep_manifest(self._base)

    def pipeline_problems(self, pipelines: Sequence[Pipeline], path: Path) -> list[str]:
        """Return the problems of the selectors of the project's pipelines, for the files of the last successful parse.

        Args:
            pipelines: those of the project.
            path: the pipelines file.
        """
        if self._project.manifest is None:
            return []
        file = path.relative_to(path.parent.parent)
        manifest = json.loads((self._base / "manifest.json").read_text())
        return find_problems(pipelines, manifest, self._project.listings(list_arguments(pipelines)), file)

    def saved(self, paths: set[Path]) -> None:
        """Build the nodes that changed since the last call and those that failed in it; show the results.

        Args:
            paths: the saved files; only their names are shown.
        """
        started = time.monotonic()
        names = ", ".join(sorted(path.name for path in paths))
        console.rule(
            f"[bold]{escape(names)}[/] [bright_black]{datetime.now():%H:%M:%S}[/]", align="left", style="bright_black"
        )
        try:
            self._project.parse()
            show_misspelt_keys(self._project.misspelt_keys)
            changed = self._project.select("state:modified+", base=self._base)
            failed_nodes = {unique_id for unique_id in self._failed_nodes if self._project.has(unique_id)}
            selected = {unique_id for unique_id in changed if self._project.can_run(unique_id)} | failed_nodes
            if not selected:
                console.print("Nothing to build.", style="bright_black")
            else:
                self._failed_nodes = self._builder.build(selected, started=started)
            self._project.keep_manifest(self._base)
        # The base manifest is unchanged, so the next save builds these changes too.
        except ProjectError as error:
            show_problem(error.problem)
        except _NO_ANSWER as error:
            hint = "if it was stopped, start it again with: make up. The next save builds these changes too"
            show_problem(Problem(f"the warehouse did not answer: {error_words(error)}", hint=hint))
        except expected_errors() as error:
            show_problem(Problem(error_words(error)))
