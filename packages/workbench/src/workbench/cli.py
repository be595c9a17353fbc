"""The commands on models: `dev`, `build`, `show` and others. Each imports its code when it is called."""

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from mwaa_local.settings import Settings

PROJECT_FAILED = 1

_Models = Annotated[str, typer.Argument(help="Names or dbt selectors, such as `departures+`. Default: all.")]
_Model = Annotated[str, typer.Argument(help="Name of a model.")]
ProjectName = Annotated[str, typer.Option("--project", help="The dbt project, if the selectors match several.")]


def add_commands(app: typer.Typer, settings_of_checkout: Callable[[], AbstractContextManager[Settings]]) -> None:
    """Add the commands on models to an app.

    Args:
        app: gets the commands.
        settings_of_checkout: yields the settings; reports a set-up error as one message and exits.
    """

    @contextlib.contextmanager
    def project() -> Iterator[Settings]:
        # Report a mistake in the project as one message.
        with settings_of_checkout() as settings:
            import workbench.commands  # noqa: F401 - imports dbt
            from workbench.problems import ProjectError
            from workbench.terminal import show_problem

            # The imports ran without garbage collection, see __main__.py.
            gc.freeze()
            gc.enable()
            try:
                yield settings
            except ProjectError as error:
                show_problem(error.problem)
                raise typer.Exit(PROJECT_FAILED) from None

    def on_models(run: Callable[[Settings, Path], int], models: str, name: str) -> None:
        """Run a command on each project that can have the models, and exit with the highest exit code."""
        with project() as settings:
            from workbench.choose_project import all_projects, in_projects, projects_with
            from workbench.warehouse import warehouse

            folders = projects_with(models, name, all_projects())
            # Start it once for all projects.
            with warehouse(settings):
                raise typer.Exit(in_projects(lambda folder: run(settings, folder), models, folders))

    @app.command()
    def dev(name: ProjectName = "") -> None:
        """Build each saved file, until Ctrl-C.

        A saved model is built with its children and tests.
        """
        with project() as settings:
            from workbench.choose_project import all_projects, one_project
            from workbench.watch import watch

            folders = all_projects()
            watch(settings, [one_project(name, folders)] if name else folders)

    @app.command()
    def build(
        models: _Models = "",
        full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild incremental models.")] = False,
        name: ProjectName = "",
    ) -> None:
        """Build models on the local warehouse, with their tests.

        Builds missing parents too. Shows the changed rows.
        """
        from workbench import commands

        on_models(lambda settings, folder: commands.build(settings, models, folder, full_refresh), models, name)

    @app.command(name="test-models")
    def check_models(models: _Models = "", name: ProjectName = "") -> None:
        """Run the tests and unit tests of models."""
        from workbench import commands

        on_models(lambda settings, folder: commands.check(settings, models, folder), models, name)

    @app.command()
    def show(
        model: _Model,
        rows: Annotated[int, typer.Option(min=1, max=10_000, help="How many rows.")] = 10,
        name: ProjectName = "",
    ) -> None:
        """Print the first rows of a model's current SQL."""
        from workbench import commands

        on_models(lambda settings, folder: commands.show(settings, model, rows, folder), model, name)

    @app.command(name="compile")
    def compile_model(model: _Model, name: ProjectName = "") -> None:
        """Print the compiled SQL of a model."""
        from workbench import commands

        on_models(lambda settings, folder: commands.compile_model(settings, model, folder), model, name)

    @app.command()
    def diff(
        model: _Model,
        base: Annotated[str, typer.Option(help="Branch, tag or commit; default origin/main, or main.")] = "",
        name: ProjectName = "",
    ) -> None:
        """Compare a model with the same model of another commit.

        Builds both from the same data and compares columns, rows and values.
        """
        from workbench.diff import diff as compare

        on_models(lambda settings, folder: compare(settings, model, base, folder), model, name)

    @app.command()
    def freshness(name: ProjectName = "") -> None:
        """Measure the freshness of a project's sources on the local warehouse, by default of the first pipeline's."""
        with project() as settings:
            from workbench import commands
            from workbench.choose_project import all_projects, one_project

            raise typer.Exit(commands.freshness(settings, one_project(name, all_projects())))

    @app.command()
    def docs(
        output: Annotated[Path | None, typer.Option(help="Default: docs.html in the state folder.")] = None,
        name: ProjectName = "",
    ) -> None:
        """Write the documentation of a project, by default of the first pipeline's, as one HTML file."""
        with project() as settings:
            from workbench import commands
            from workbench.choose_project import all_projects, one_project

            folder = one_project(name, all_projects())
            raise typer.Exit(commands.docs(settings, output or settings.state / "docs.html", folder))
