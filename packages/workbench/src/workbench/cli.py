"""The commands on models: `dev`, `build`, `show` and others. Each imports its code when it is called."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from mwaa_local.settings import Settings

PROJECT_FAILED = 1

_Models = Annotated[str, typer.Argument(help="Names or dbt selectors, such as `departures+`. Default: all.")]
_Model = Annotated[str, typer.Argument(help="Name of a model.")]


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
            from workbench.problems import ProjectError
            from workbench.terminal import show_problem

            try:
                yield settings
            except ProjectError as error:
                show_problem(error.problem)
                raise typer.Exit(PROJECT_FAILED) from None

    @app.command()
    def dev() -> None:
        """Build each saved file, until Ctrl-C.

        A saved model is built with its children and tests.
        """
        with project() as settings:
            from workbench.watch import watch

            watch(settings)

    @app.command()
    def build(
        models: _Models = "",
        full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild incremental models.")] = False,
    ) -> None:
        """Build models on the local warehouse, with their tests.

        Builds missing parents too. Shows the changed rows.
        """
        with project() as settings:
            from workbench import commands

            raise typer.Exit(commands.build(settings, models, full_refresh))

    @app.command(name="test-models")
    def check_models(models: _Models = "") -> None:
        """Run the tests and unit tests of models."""
        with project() as settings:
            from workbench import commands

            raise typer.Exit(commands.check(settings, models))

    @app.command()
    def show(model: _Model, rows: Annotated[int, typer.Option(min=1, max=10_000, help="How many rows.")] = 10) -> None:
        """Print the first rows of a model's current SQL."""
        with project() as settings:
            from workbench import commands

            raise typer.Exit(commands.show(settings, model, rows))

    @app.command(name="compile")
    def compile_model(model: _Model) -> None:
        """Print the compiled SQL of a model."""
        with project() as settings:
            from workbench import commands

            raise typer.Exit(commands.compile_model(settings, model))

    @app.command()
    def diff(
        model: _Model,
        base: Annotated[str, typer.Option(help="Branch, tag or commit; default origin/main, or main.")] = "",
    ) -> None:
        """Compare a model with the same model of another commit.

        Builds both from the same data and compares columns, rows and values.
        """
        with project() as settings:
            from workbench.diff import diff as compare

            raise typer.Exit(compare(settings, model, base))

    @app.command()
    def docs(
        output: Annotated[Path | None, typer.Option(help="Default: docs.html in the state folder.")] = None,
    ) -> None:
        """Write dbt's documentation as one HTML file."""
        with project() as settings:
            from workbench import commands

            raise typer.Exit(commands.docs(settings, output or settings.state / "docs.html"))
