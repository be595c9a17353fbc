"""The commands of the Makefile: `python -m local --help`."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

INTERRUPTED = 130
# Until the command knows what to clean up there is nothing to clean up, and a traceback of its imports helps nobody.
for _number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_number, lambda *_: os._exit(INTERRUPTED))

import typer  # noqa: E402

from local.develop.cli import add_commands  # noqa: E402
from local.progress import console, errors  # noqa: E402
from local.settings import Passwords, Settings, SetupError  # noqa: E402

RUN_FAILED = 1
SETUP_FAILED = 2

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Stand-ins for Redshift, AWS and MWAA on this machine. The Makefile has a target for each command.",
    epilog="Exit codes: 0 done; 1 the run, drill, statement or a linter failed; 2 the set-up failed; 130 Ctrl-C.",
)


@contextlib.contextmanager
def _settings() -> Iterator[Settings]:
    """Settings of this checkout; a problem ends the command with one message and the exit code that stands for it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        settings = Settings.from_environment()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(settings.aws_environment())
        yield settings
    except _expected_errors() as error:
        errors.print(f"Set-up failed: {_words(error)}", style="red", markup=False)
        raise typer.Exit(SETUP_FAILED) from None
    except KeyboardInterrupt:
        errors.print("Stopped.")
        raise typer.Exit(INTERRUPTED) from None


def _interrupt(*_: Any) -> None:
    # One Ctrl-C is enough: a second one must not end what puts things in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _expected_errors() -> tuple[type[Exception], ...]:
    """What the world around a command can do to it. Asked for only when something went wrong."""
    import httpx
    import psycopg
    import redshift_connector
    from botocore.exceptions import BotoCoreError, ClientError

    from deploy.errors import DeployError

    drivers = (psycopg.Error, redshift_connector.Error, redshift_connector.InterfaceError)
    return (SetupError, DeployError, BotoCoreError, ClientError, httpx.HTTPError, OSError, *drivers)


def _words(error: Exception) -> str:
    from deploy.redshift import error_text

    text = error_text(error) if error.args and isinstance(error.args[0], dict) else str(error)
    return text or type(error).__name__


@app.command()
def run() -> None:
    """Release this repository and run the sample pipeline.

    Stand-ins that `up` keeps running are used and left running; otherwise they are started and stopped here.
    Exit code 0: the run succeeded; 1: it failed; 2: the set-up failed.
    """
    with _settings() as settings:
        from local.pipeline import run as run_sample

        raise typer.Exit(run_sample(settings))


@app.command()
def drill(
    broken_lambda: Annotated[
        bool, typer.Option("--broken-lambda", help="The alert's Lambda function fails too.")
    ] = False,
) -> None:
    """The same with a model that fails on purpose.

    Exit code 0 only if the failure is reported everywhere it must.
    """
    with _settings() as settings:
        from local.pipeline import run_drill

        raise typer.Exit(run_drill(settings, lambda_works=not broken_lambda))


@app.command()
def up() -> None:
    """Keep the stand-ins running in the background.

    Airflow with its UI too; the sample's DAG is there, paused.
    """
    with _settings() as settings:
        from local.background import start

        raise typer.Exit(start(settings))


@app.command()
def down() -> None:
    """Stop everything of this checkout that runs.

    In whatever terminal it was started, a `run` under way included.
    """
    with _settings() as settings:
        from local.background import stop

        stop(settings)


@app.command(hidden=True)
def keep_running() -> None:
    """What `up` starts in the background."""
    with _settings() as settings:
        from local.background import keep

        keep(settings)


@app.command()
def warehouse() -> None:
    """The warehouse alone, in the foreground, until Ctrl-C.

    Prints an address for dbt_user and one for awsuser (admin), each on a line, once it accepts connections.
    """
    with _settings() as settings:
        from local.alone import serve_warehouse

        serve_warehouse(settings)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help="One statement, or the name of a question saved in dbt_project/analyses/.")
    ],
    user: Annotated[str, typer.Option(help="dbt_user or awsuser (admin).")] = "dbt_user",
) -> None:
    """Run a statement or a saved question in the warehouse.

    Its rows are a table on a terminal, tab-separated elsewhere.
    """
    with _settings() as settings:
        from local.query import run_query, statement

        query = statement(query)
        if user not in {"dbt_user", "awsuser"}:
            raise SetupError(f"--user {user}: choose dbt_user or awsuser")
        raise typer.Exit(run_query(settings, user, getattr(Passwords.load(settings.state), user), query))


add_commands(app, _settings)


@app.command()
def report(
    output: Annotated[Path | None, typer.Option(help="Default: report.html in the state folder.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Runs of the last so many days.")] = 30,
) -> None:
    """Write the audit report.

    Of the warehouse that REDSHIFT_HOST and the like name, otherwise of the one that `up` keeps running.
    """
    with _settings() as settings:
        from local.report import write

        print(write(settings, output or settings.state / "report.html", days))


@app.command()
def lint() -> None:
    """Run all linters."""
    with _settings():
        from local.lint import lint as run_all

        if failed := run_all(Path(sys.executable).parent):
            console.print(f"{failed} found something.", style="red")
            raise typer.Exit(RUN_FAILED)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Suites to run; all if none is named.")] = None,
) -> None:
    """Measure, side by side with alternatives.

    Writes bench.json into the state folder.
    """
    with _settings() as settings:
        from local.bench import bench as measure

        measure(names or [], settings.state / "bench.json")


@app.command()
def lock(
    mwaa_constraints: Annotated[str, typer.Argument(help="Path or URL of the constraints of MWAA's Airflow.")],
    uv: Annotated[str, typer.Option(help="The uv executable.")] = "uv",
) -> None:
    """Resolve the requirement files anew."""
    with _settings():
        from local.lock import lock as resolve

        resolve(uv, mwaa_constraints)


if __name__ == "__main__":
    app()
