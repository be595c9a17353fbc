"""The commands of the Makefile: `python -m mwaa_local --help`."""

from pathlib import Path
from typing import Annotated

# First: it decides what a signal does while the rest is imported.
from mwaa_local.command import checkout_settings  # isort: skip

import typer

from mwaa_local.settings import Passwords, SetupError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Stand-ins for Redshift, AWS and MWAA on this machine. The Makefile has a target for each command.",
    epilog="Exit codes: 0 done; 1 the run, drill or statement failed; 2 the set-up failed; 130 Ctrl-C.",
)


@app.command()
def run() -> None:
    """Release this repository and run the sample pipeline.

    Stand-ins that `up` keeps running are used and left running; otherwise they are started and stopped here.
    Exit code 0: the run succeeded; 1: it failed; 2: the set-up failed.
    """
    with checkout_settings() as settings:
        from mwaa_local.run_command import run as run_sample

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
    with checkout_settings() as settings:
        from mwaa_local.run_command import run_drill

        raise typer.Exit(run_drill(settings, lambda_works=not broken_lambda))


@app.command()
def up() -> None:
    """Keep the stand-ins running in the background.

    Airflow with its UI too; the sample's DAG is there, paused.
    """
    with checkout_settings() as settings:
        from mwaa_local.up import start

        raise typer.Exit(start(settings))


@app.command()
def down() -> None:
    """Stop everything of this checkout that runs.

    In whatever terminal it was started, a `run` under way included.
    """
    with checkout_settings() as settings:
        from mwaa_local.up import stop

        stop(settings)


@app.command(hidden=True)
def keep_running() -> None:
    """What `up` starts in the background."""
    with checkout_settings() as settings:
        from mwaa_local.up import keep

        keep(settings)


@app.command()
def warehouse() -> None:
    """The warehouse alone, in the foreground, until Ctrl-C.

    Prints an address for dbt_user and one for awsuser (admin), each on a line, once it accepts connections.
    """
    with checkout_settings() as settings:
        from mwaa_local.serve_warehouse import serve_warehouse

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
    with checkout_settings() as settings:
        from mwaa_local.query import run_query, statement

        query = statement(query)
        if user not in {"dbt_user", "awsuser"}:
            raise SetupError(f"--user {user}: choose dbt_user or awsuser")
        raise typer.Exit(run_query(settings, user, getattr(Passwords.load(settings.state), user), query))


@app.command()
def report(
    output: Annotated[Path | None, typer.Option(help="Default: report.html in the state folder.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Runs of the last so many days.")] = 30,
) -> None:
    """Write the audit report.

    Of the warehouse that REDSHIFT_HOST and the like name, otherwise of the one that `up` keeps running.
    """
    with checkout_settings() as settings:
        from mwaa_local.report import write

        print(write(settings, output or settings.state / "report.html", days))


if __name__ == "__main__":
    app()
