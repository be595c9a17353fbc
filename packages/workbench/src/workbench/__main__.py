"""The commands for work on models and on the repository: `python -m workbench --help`."""

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

# Imported first, because it handles signals during the other imports.
from mwaa_local.command import RUN_FAILED, SETUP_FAILED, checkout_settings  # isort: skip

import typer
from rich.markup import escape

from mwaa_local.settings import REPOSITORY, Settings, SetupError
from mwaa_release.progress import Steps, console, errors
from workbench.cli import ProjectName, add_commands

if TYPE_CHECKING:
    from workbench.bring import BroughtProject

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
            console.print(f"{failed} linters have findings.", style="red")
            raise typer.Exit(RUN_FAILED)


@app.command()
def lock(
    mwaa_constraints: Annotated[str, typer.Argument(help="Path or URL of the constraints of MWAA's Airflow.")],
    uv: Annotated[str, typer.Option(help="The uv executable.")] = "uv",
) -> None:
    """Resolve the requirement files."""
    with checkout_settings():
        from workbench.lock import lock as resolve

        resolve(uv, mwaa_constraints)


@app.command()
def conventions() -> None:
    """Check the conventions of the dbt project. Needs no warehouse."""
    with checkout_settings() as settings:
        from workbench.check_conventions import check

        if check(settings):
            raise typer.Exit(RUN_FAILED)


@app.command("new-model")
def new_model(
    name: Annotated[str, typer.Argument(help="Name of the model, such as late_carriers.")] = "",
    layer: Annotated[str, typer.Argument(help="staging or marts.")] = "",
    project: ProjectName = "",
) -> None:
    """Write the SQL and YAML of a new model by the conventions."""
    from mwaa_release.errors import DeployError
    from workbench.choose_project import all_projects, one_project
    from workbench.new_model import new_model as write

    try:
        paths = write(one_project(project, all_projects()), name, layer)
    except (DeployError, SetupError) as error:
        errors.print(str(error), style="red", markup=False)
        raise typer.Exit(SETUP_FAILED) from None
    for path in paths:
        console.print(f"wrote {path.relative_to(REPOSITORY)}", markup=False)
    console.print(f"Next: describe in both files what one row is, then type: make build M={name}", markup=False)


@app.command()
def site() -> None:
    """Build the documentation as a site, with a reference generated from the code."""
    with checkout_settings() as settings:
        from workbench.catalog import catalog
        from workbench.reference import build_site

        raise typer.Exit(build_site(catalog(settings)))


@app.command()
def scan() -> None:
    """Check the stacks with checkov and the workflows with actionlint."""
    with checkout_settings() as settings:
        from workbench.scan import scan as run_scanners

        if run_scanners(settings):
            raise typer.Exit(RUN_FAILED)


@app.command("slim-ci")
def slim_ci(
    base: Annotated[str, typer.Option(help="Commit that the change starts from.")] = "origin/main",
) -> None:
    """Show the release plan of a change, check public contracts, and build its models with their children."""
    with checkout_settings() as settings:
        from mwaa_release.errors import DeployError
        from workbench.released_project import DbtFailedError
        from workbench.slim_ci import RefusedChangeError, check

        try:
            check(settings, base)
        except (DbtFailedError, DeployError, RefusedChangeError, SetupError) as error:
            errors.print(f"Error: {error}", markup=False, soft_wrap=True)
            failed = isinstance(error, DbtFailedError | RefusedChangeError)
            code = RUN_FAILED if failed else getattr(error, "exit_code", SETUP_FAILED)
            raise typer.Exit(code) from None


@app.command()
def summary(
    title: Annotated[str, typer.Argument(help="Heading of the summary.")],
    command: Annotated[list[str], typer.Argument(help="The command, after --.")],
) -> None:
    """Run a command, write a Markdown summary of it, and exit with its exit code.

    The summary is <state>/summaries/<title>.md; on GitHub it is also the job's summary.
    """
    from workbench.summary import run_and_summarize

    raise typer.Exit(run_and_summarize(Settings.from_environment().state, title, command))


@app.command()
def screenshots() -> None:
    """Take the documentation's screenshots of a new run. Needs Chromium."""
    with checkout_settings() as settings:
        from workbench.screenshots import take_screenshots

        take_screenshots(settings)


_Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
_Template = Annotated[str, typer.Option(help="Address of the template; default: where this repository came from.")]


@app.command()
def start_fresh(yes: _Yes = False, template: _Template = "") -> None:
    """Turn a clone of the template into a copy: without the sample, with wheels instead of packages/."""
    with checkout_settings() as settings:
        from workbench.template import check_clean, start_fresh

        check_clean(REPOSITORY)
        console.print("This removes the sample and packages/, builds wheels/, and stages the result.", markup=False)
        _confirm(yes, "start-fresh")
        count = start_fresh(REPOSITORY, template, settings.state / "venvs")
        console.print(f"Done: {count} files. Next: make run, then git commit. To undo: git reset --hard", markup=False)


@app.command()
def upgrade(yes: _Yes = False, template: _Template = "") -> None:
    """Upgrade a copy to the newest version of its template. Shows the changes first."""
    with checkout_settings() as settings:
        from workbench.template import Upgrade

        with Upgrade(REPOSITORY, template, settings.state / "venvs") as upgrade:
            if not upgrade.diff:
                console.print("This copy has the template's newest version already.", markup=False)
                return
            print(upgrade.diff)
            if not upgrade.conflicts:
                _confirm(yes, "upgrade")
            upgrade.apply()
        console.print("Done. Next: make test, then git commit. To undo: git reset --hard", markup=False)


@app.command()
def bring(
    project: Annotated[Path, typer.Argument(help="Folder of a dbt project outside of this repository.")],
    schema: Annotated[str, typer.Option(help="Schema to build in; default: the name of the project.")] = "",
) -> None:
    """Add a copy of a dbt project, with its pipeline, profile and audit trail."""
    with checkout_settings():
        from workbench.bring import bring

        with Steps() as steps, steps.step("Copy, install packages, dbt parse"):
            brought = bring(REPOSITORY, project, schema)
        _show_added(brought)


@app.command("new-domain")
def new_domain(name: Annotated[str, typer.Argument(help="Name of the domain, such as sales.")] = "") -> None:
    """Add a dbt project for another team, with its pipeline, profile and audit trail."""
    with checkout_settings():
        from workbench.new_domain import new_domain as create

        with Steps() as steps, steps.step("Install packages, dbt parse"):
            created = create(REPOSITORY, name)
        _show_added(created)


@app.command("add-serverless")
def add_serverless() -> None:
    """Add the stack that each pipeline with execution_mode serverless needs."""
    with checkout_settings():
        from workbench.serverless import add_serverless as add

        for path in add(REPOSITORY):
            console.print(f"+ {path}", markup=False)
        console.print("Next: deploy infra/workflow.yml for the pipeline, and set execution_mode: serverless.")


@app.command("add-ecs")
def add_ecs() -> None:
    """Add what pipelines with execution_mode ecs need: a stack, an image, and the workflow that builds the image."""
    with checkout_settings():
        from workbench.ecs import add_ecs as add

        for path in add(REPOSITORY):
            console.print(path)
        console.print("Next: deploy infra/ecs.yml, run the workflow Image, and set execution_mode: ecs.")


@app.command("image-context")
def image_context(folder: Annotated[Path, typer.Argument(help="Folder to write.")]) -> None:
    """Write the folder from which docker builds the image of infra/ecs/Dockerfile."""
    with checkout_settings():
        from workbench.ecs import image_context as write

        write(REPOSITORY, folder)


def _show_added(project: "BroughtProject") -> None:
    console.print(f"Added {project.name}/ ({project.files} files) and pipeline {project.dag_name}; all staged.")
    for warning in project.warnings:
        console.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)
    console.print("In the account:", project.stack, sep="\n  ", markup=False, soft_wrap=True)
    console.print("As a superuser of the warehouse:", *project.grants, sep="\n  ", markup=False, soft_wrap=True)
    console.print(f"Next: make run PIPELINE={project.dag_name}. To undo: git reset --hard", markup=False)


def _confirm(yes: bool, target: str) -> None:
    try:
        confirmed = yes or input("Type yes to go on: ").strip() == "yes"
    except EOFError:
        raise SetupError(
            f"make {target} needs a confirmation on a terminal. To confirm without one: make {target} YES=1"
        ) from None
    if not confirmed:
        console.print("Nothing was changed.")
        raise typer.Exit(RUN_FAILED)


if __name__ == "__main__":
    # Garbage collection during the imports of dbt takes half a second and frees nothing.
    gc.disable()
    app()
