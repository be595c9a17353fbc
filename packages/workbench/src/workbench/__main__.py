"""The commands for work on models and on the repository: `python -m workbench --help`."""

import sys
from pathlib import Path
from typing import Annotated

# First: it decides what a signal does while the rest is imported.
from mwaa_local.command import RUN_FAILED, checkout_settings  # isort: skip

import typer

from mwaa_release.progress import console
from workbench.cli import add_commands

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Work on dbt models and on this repository. The Makefile has a target for each command.",
    epilog="Exit codes: 0 done; 1 the project or a linter failed; 2 the set-up failed; 130 Ctrl-C.",
)
add_commands(app, checkout_settings)


@app.command()
def lint() -> None:
    """Run all linters."""
    with checkout_settings():
        from workbench.lint import lint as run_all

        if failed := run_all(Path(sys.executable).parent):
            console.print(f"{failed} found something.", style="red")
            raise typer.Exit(RUN_FAILED)


@app.command()
def lock(
    mwaa_constraints: Annotated[str, typer.Argument(help="Path or URL of the constraints of MWAA's Airflow.")],
    uv: Annotated[str, typer.Option(help="The uv executable.")] = "uv",
) -> None:
    """Resolve the requirement files anew."""
    with checkout_settings():
        from workbench.lock import lock as resolve

        resolve(uv, mwaa_constraints)


if __name__ == "__main__":
    app()
