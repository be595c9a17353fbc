"""The commands of this package: `python -m mwaa_local --help`."""

import os
from pathlib import Path
from typing import Annotated

# Imported first, because it handles signals during the other imports.
from mwaa_local.command import checkout_settings  # isort: skip

import typer

from mwaa_local.settings import Passwords, SetupError, check_port

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Stand-ins for Redshift, AWS and MWAA on this machine. The Makefile has a target for most commands.",
    epilog="Exit codes: 0 success; 1 the run, drill or statement failed; 2 the set-up failed; 130 Ctrl-C.",
)


@app.command()
def run(
    pipeline: Annotated[str, typer.Option(help="dag_name in dags/pipelines.yml; default: its first entry.")] = "",
    environment: Annotated[
        str, typer.Option(help="An environment of dags/pipelines.yml; default: the first one.")
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every task and every audit row.")] = False,
    target: Annotated[str, typer.Option(help="ecs: dbt runs in a task of ECS; serverless: as a workflow.")] = "",
) -> None:
    """Release this repository and run a pipeline.

    Uses the stand-ins of `up` if they are running. Otherwise it starts stand-ins and stops them at the end.
    """
    with checkout_settings() as settings:
        from mwaa_local.run_command import run as run_pipeline

        raise typer.Exit(run_pipeline(settings, pipeline, environment, verbose, target))


@app.command()
def drill(
    broken_lambda: Annotated[
        bool, typer.Option("--broken-lambda", help="The alert's Lambda function fails too.")
    ] = False,
    target: Annotated[str, typer.Option(help="ecs: dbt runs in a task of ECS; serverless: as a workflow.")] = "",
) -> None:
    """Run the sample pipeline with a model that fails on purpose.

    Succeeds only if the task, the alert and the audit trail report the failure.
    """
    with checkout_settings() as settings:
        from mwaa_local.run_command import run_drill

        raise typer.Exit(run_drill(settings, lambda_works=not broken_lambda, target=target))


@app.command()
def up() -> None:
    """Keep the stand-ins running in the background.

    Airflow's UI runs too. The DAGs are paused.
    """
    with checkout_settings() as settings:
        from mwaa_local.up import start

        raise typer.Exit(start(settings))


@app.command()
def down() -> None:
    """Stop all stand-ins of this checkout.

    Also stops commands that run in another terminal.
    """
    with checkout_settings() as settings:
        from mwaa_local.up import stop

        stop(settings)


@app.command(hidden=True)
def keep_running() -> None:
    """Run the stand-ins in the foreground; `up` starts this in the background."""
    with checkout_settings() as settings:
        from mwaa_local.up import keep

        keep(settings)


@app.command()
def warehouse() -> None:
    """Serve the warehouse alone, in the foreground, until Ctrl-C.

    Prints one address for dbt_user and one for awsuser (admin) when it accepts connections.
    """
    with checkout_settings() as settings:
        from mwaa_local.serve_warehouse import serve_warehouse

        serve_warehouse(settings)


@app.command()
def aws(
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Also stop when the process that started this one ends.")
    ] = False,
) -> None:
    """Serve AWS alone, in the foreground, until Ctrl-C.

    Everything is kept in memory.
    """
    parent = os.getppid() if with_parent else None
    with checkout_settings() as settings:
        check_port(settings.aws_port, "LOCAL_AWS_PORT")
        # moto takes a second to import, and a wrong setting must fail at once.
        from mwaa_local.aws.server import serve

        serve(settings, parent)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One statement, or the name of a saved question of the audit trail.")],
    user: Annotated[str, typer.Option(help="dbt_user or awsuser (admin).")] = "dbt_user",
    output_format: Annotated[str, typer.Option("--format", help="csv or json.")] = "",
) -> None:
    """Run a statement or a saved question in the warehouse.

    Prints a table on a terminal, and tab-separated lines with a header into a file or pipe.
    """
    with checkout_settings() as settings:
        from mwaa_local.query import FORMATS, run_query, statement

        query = statement(query)
        if user not in {"dbt_user", "awsuser"}:
            raise SetupError(f"--user {user}: choose dbt_user or awsuser")
        if output_format not in {"", *FORMATS}:
            raise SetupError(f"--format {output_format}: choose {' or '.join(FORMATS)}")
        password = getattr(Passwords.load(settings.state), user)
        raise typer.Exit(run_query(settings, user, password, query, output_format))


@app.command()
def report(
    output: Annotated[Path | None, typer.Option(help="Default: report.html in the state folder.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Days of runs to show.")] = 30,
) -> None:
    """Write the audit report.

    Reads the warehouse of the REDSHIFT_* variables. Without REDSHIFT_HOST, it reads the warehouse that `up` started.
    """
    with checkout_settings() as settings:
        from mwaa_local.report import write

        print(write(settings, output or settings.state / "report.html", days))


if __name__ == "__main__":
    app()
