"""The command `python -m mwaa_release doctor`, and the checks that run before a smoke test."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated

import typer
from rich.markup import escape

from mwaa_release.bucket import aws_client
from mwaa_release.cli_options import AccountOption, DagOption, out
from mwaa_release.doctor import CHECKS, SMOKE_CHECKS, SQL
from mwaa_release.doctor.check import Account, Check, Outcome, run_checks
from mwaa_release.doctor.explain import require_superuser
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.pipelines import find_pipeline
from mwaa_release.progress import Steps, errors
from mwaa_release.repository import github_name

_SIGNS = {"ok": "[green]✓[/]", "failed": "[red]✗[/]", "not checked": "[yellow]-[/]"}


def doctor(
    environment: Annotated[str, typer.Option(envvar="DEPLOY_ENVIRONMENT", help="The MWAA environment.")],
    dag: DagOption = None,
    bucket: Annotated[
        str, typer.Option(envvar="DEPLOY_BUCKET", help="The bucket that MWAA reads; default: the environment's.")
    ] = "",
    repository: Annotated[str, typer.Option(help="owner/name on GitHub; default: that of the git remote origin.")] = "",
    github_environment: Annotated[str, typer.Option(help="GitHub environment of the jobs that release.")] = "dev",
    release_role: Annotated[
        str,
        typer.Option(
            envvar="DEPLOY_ROLE_ARN",
            help="Role of these jobs, by name or ARN; default: <environment>-release-<GitHub environment>.",
        ),
    ] = "",
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Let the warehouse explain every query of the project, and create its views in a scratch schema. "
            "Needs REDSHIFT_* of a superuser. Takes about a minute.",
        ),
    ] = False,
    account: AccountOption = None,
) -> None:
    """Check an account before the first run. Fails if a check fails.

    Only reads, except for the scratch schema of --explain. Each line is one check. Below a failed check is the command
    or action that fixes it.
    """
    if explain:
        require_superuser()
    target = Account(
        cache(aws_client),
        environment,
        find_pipeline(dag),
        account,
        bucket,
        repository or github_name(),
        github_environment,
        release_role.rpartition("/")[2] or f"{environment}-release-{github_environment}",
    )
    started = time.monotonic()
    outcomes = list(_show(_run((*CHECKS, SQL) if explain else CHECKS, target)))
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in _SIGNS}
    out.print(
        f"\n{counts['ok']} ok, {counts['failed']} failed, {counts['not checked']} not checked "
        f"in {time.monotonic() - started:.0f} s",
        markup=False,
    )
    if counts["failed"]:
        raise DeployError(
            f"{counts['failed']} of {len(outcomes)} checks failed. Fix the first one, then run doctor again"
        )
    if not explain:
        out.print("The project's SQL was not checked in the warehouse. To check it: add --explain", markup=False)


def check_before_smoke(environment: str, dag: str, account: str | None) -> None:
    """Show the findings of the checks that need no more permissions than a release role has.

    Raises:
        DeployError: a smoke test cannot succeed.
    """
    try:
        pipeline = find_pipeline(dag)
    except SetupError:
        # A DAG that dags/pipelines.yml does not describe.
        return
    target = Account(cache(aws_client), environment, pipeline, account)
    failed = (outcome for outcome in _run(SMOKE_CHECKS, target) if outcome.status == "failed")
    for outcome in _show(failed):
        if outcome.stops_smoke:
            raise DeployError("the smoke test did not start, because it cannot succeed")


def _run(checks: Sequence[Check], account: Account) -> Iterator[Outcome]:
    """Run checks, and show on a terminal which one is running."""

    @contextmanager
    def step(name: str) -> Iterator[None]:
        with Steps(errors, transient=True) as steps, steps.step(name) as step:
            account.progress = lambda action, done, total: step.say(f"{action}, {done} of {total}")
            yield

    yield from run_checks(checks, account, step)


def _show(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    width = max(len(check.name) for check in (*CHECKS, SQL))
    for outcome in outcomes:
        text = f"not checked: {outcome.text}" if outcome.status == "not checked" else outcome.text
        first, *more = text.split("\n")
        out.print(f"{_SIGNS[outcome.status]} {outcome.check.name:{width}}  {escape(first)}")
        for line in more:
            out.print(f"  {'':{width}}  {line}", markup=False)
        if outcome.fix:
            out.print(f"  {'':{width}}  fix: {outcome.fix}", markup=False)
        yield outcome
