"""The commands of the Makefile: `python -m local --help`."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from local.progress import Steps, console
from local.settings import HOST, Passwords, Settings, SetupError

RUN_FAILED = 1
SETUP_FAILED = 2
INTERRUPTED = 130

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@contextlib.contextmanager
def _settings() -> Iterator[Settings]:
    """Settings of this checkout; problems end the command with one message and DESIGN's exit code."""
    from deploy.errors import DeployError
    from local.processes import mark_this_command

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = Settings.from_environment()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(settings.aws_environment())
        mark_this_command(settings.state)
        yield settings
    except (SetupError, DeployError) as error:
        console.print(f"Set-up failed: {error}", style="red", markup=False)
        raise typer.Exit(SETUP_FAILED) from None
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        raise typer.Exit(INTERRUPTED) from None


def _run(settings: Settings, drill: bool, lambda_works: bool = True) -> int:
    from local import drill as drills
    from local.aws import seed
    from local.background import running
    from local.run import run_pipeline, show
    from local.stack import PROJECT, Stack

    stack = Stack(settings)
    # While `make up` keeps the stand-ins running, they are used as they are.
    borrowed = running(settings)
    project = drills.altered_project(PROJECT, settings.state / "drill") if drill else PROJECT
    try:
        with Steps() as steps:
            if borrowed:
                passwords = Passwords.load(settings.state)
                release_id = stack.release(steps, project)
            else:
                stack.take_lock()
                release_id = stack.start(steps, project)
                passwords = Passwords.load(settings.state)
            if not lambda_works:
                seed.break_lambda(settings)
            outcome = run_pipeline(settings, release_id, steps)
            if borrowed and drill:
                seed.seed(settings, passwords, HOST, settings.warehouse_port)
                stack.release(steps)
        outcome.save(settings.state / "last-run.json")
        show(outcome)
    finally:
        if not borrowed:
            with console.status("Stopping ...") if console.is_terminal else contextlib.nullcontext():
                stack.stop()
    if not drill:
        return 0 if outcome.state == "success" else RUN_FAILED
    found = drills.problems(outcome, lambda_works)
    for problem in found:
        console.print(f"✗ {problem}", style="red", markup=False)
    if not found:
        console.print("Drill passed: the run failed, and said so everywhere it must.", style="green")
    return RUN_FAILED if found else 0


@app.command()
def run() -> None:
    """Release the repository to the stand-ins and run the sample pipeline. Exit 0: it succeeded; 1: it failed."""
    with _settings() as settings:
        raise typer.Exit(_run(settings, drill=False))


@app.command()
def drill(
    broken_lambda: Annotated[bool, typer.Option(help="The alert's Lambda function fails too.")] = False,
) -> None:
    """The same with a model that fails on purpose. Exit 0 only if the failure is reported everywhere it must."""
    with _settings() as settings:
        raise typer.Exit(_run(settings, drill=True, lambda_works=not broken_lambda))


@app.command()
def up() -> None:
    """Keep the stand-ins running in the background, with Airflow's UI."""
    from local.background import start

    with _settings() as settings:
        start(settings)


@app.command()
def down() -> None:
    """Stop everything of this checkout that runs."""
    from local.background import stop

    with _settings() as settings:
        stop(settings)


@app.command(hidden=True)
def keep_running() -> None:
    """What `up` starts in the background."""
    from local.background import keep

    with _settings() as settings:
        keep(settings)


@app.command()
def warehouse() -> None:
    """The warehouse alone, in the foreground, until Ctrl-C."""
    from local.alone import serve_warehouse

    with _settings() as settings:
        serve_warehouse(settings)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One statement.")],
    user: Annotated[str, typer.Option(help="dbt_user or awsuser (admin).")] = "dbt_user",
) -> None:
    """Run a statement in the running warehouse and print its rows."""
    import redshift_connector
    from rich.table import Table

    from local.stack import connect, rows

    with _settings() as settings:
        passwords = Passwords.load(settings.state)
        if user not in {"dbt_user", "awsuser"}:
            raise SetupError(f"--user {user}: choose dbt_user or awsuser")
        try:
            with contextlib.closing(connect(settings, user, getattr(passwords, user))) as connection:
                connection.autocommit = True
                columns, found = rows(connection, query)
        except redshift_connector.InterfaceError as error:
            raise SetupError(f"the warehouse does not answer ({error}); start it with: make up") from None
        except redshift_connector.Error as error:
            detail = error.args[0] if error.args else error
            console.print(detail.get("M", detail) if isinstance(detail, dict) else detail, style="red", markup=False)
            raise typer.Exit(RUN_FAILED) from None
        if not console.is_terminal:
            for row in found:
                print("\t".join("" if value is None else str(value) for value in row))
            return
        table = Table(*columns, caption=f"{len(found)} rows", caption_justify="left")
        for row in found:
            table.add_row(*("" if value is None else str(value) for value in row))
        console.print(table)


@app.command()
def lint() -> None:
    """Run all linters."""
    from local.lint import lint as run_all

    with _settings():
        if failed := run_all(Path(sys.executable).parent):
            console.print(f"{failed} found something.", style="red")
            raise typer.Exit(RUN_FAILED)


@app.command()
def lock(
    mwaa_constraints: Annotated[str, typer.Argument(help="Path or URL of the constraints of MWAA's Airflow.")],
    uv: Annotated[str, typer.Option(help="The uv executable.")] = "uv",
) -> None:
    """Resolve the requirement files anew."""
    from local.lock import lock as resolve

    with _settings():
        resolve(uv, mwaa_constraints)


if __name__ == "__main__":
    app()
