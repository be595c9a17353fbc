"""`make dev` builds each saved model at once, with its children and tests."""

import contextlib
from datetime import datetime
from pathlib import Path

import watchfiles
from rich.markup import escape

from mwaa_local.settings import Settings
from mwaa_local.stack import PROJECT
from mwaa_release.progress import console
from workbench.build import Builder
from workbench.commands import project
from workbench.problems import ProjectError
from workbench.project import Project
from workbench.terminal import show_problem

_WATCHED = ("dbt_project.yml", "models", "macros", "seeds", "snapshots", "tests", "analyses")
_SUFFIXES = {".sql", ".yml", ".yaml", ".csv", ".py", ".md"}
# An editor writes a file in several steps.
_QUIET_MILLISECONDS = 60


def watch(settings: Settings, folder: Path = PROJECT) -> None:
    """Build what changes in the project, until Ctrl-C.

    Args:
        settings: where the warehouse is.
        folder: the project.
    """
    with project(settings, folder) as (dbt_project, connection):
        loop = Loop(dbt_project, Builder(dbt_project, connection, settings))
        console.print(f"Watching {folder.name}: save a file, and it is built with its children and tests. Ctrl-C ends.")
        watched = [path for name in _WATCHED if (path := folder / name).exists()]
        with contextlib.suppress(KeyboardInterrupt):
            for changes in watchfiles.watch(
                *watched, watch_filter=_is_ours, debounce=2000, step=_QUIET_MILLISECONDS, raise_interrupt=True
            ):
                loop.saved({Path(path) for _, path in changes})


def _is_ours(_: watchfiles.Change, path: str) -> bool:
    return Path(path).suffix in _SUFFIXES and not Path(path).name.startswith(".")


class Loop:
    """The built nodes, and those still to build.

    Args:
        project: parsed.
        builder: of the project.
    """

    def __init__(self, project: Project, builder: Builder) -> None:
        self._project = project
        self._builder = builder
        self._base = project.state / "base"
        # Nodes that failed, or were skipped because of a failure, is built again with the next file that is saved.
        self._open: set[str] = set()
        project.keep_manifest(self._base)

    def saved(self, paths: set[Path]) -> None:
        """Build what changed since the last time, and what failed then; show how that went.

        Args:
            paths: the files that were saved, to name them.
        """
        names = ", ".join(sorted(path.name for path in paths))
        console.rule(
            f"[bold]{escape(names)}[/] [bright_black]{datetime.now():%H:%M:%S}[/]", align="left", style="bright_black"
        )
        try:
            self._project.parse()
            changed = self._project.select("state:modified+", base=self._base)
            open_ids = {unique_id for unique_id in self._open if self._project.has(unique_id)}
            to_build = {unique_id for unique_id in changed if self._project.can_run(unique_id)} | open_ids
            if not to_build:
                console.print("Nothing to build.", style="bright_black")
            else:
                self._open = self._builder.build(to_build)
            self._project.keep_manifest(self._base)
        except ProjectError as error:
            # The base stays: changed nodes are built once the project can be read.
            show_problem(error.problem)
