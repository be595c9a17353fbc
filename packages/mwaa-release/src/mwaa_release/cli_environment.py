"""The commands of `python -m mwaa_release` for a whole environment."""

from typing import Annotated

import typer

from mwaa_release.account import check_account
from mwaa_release.bucket import aws_client
from mwaa_release.cli_doctor import check_before_smoke
from mwaa_release.cli_options import ARTIFACT, AccountOption, ArtifactOption, out
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.move import DRAIN_SECONDS
from mwaa_release.move import move as move_pipeline
from mwaa_release.pipelines import find_pipeline
from mwaa_release.progress import show_progress
from mwaa_release.release import Artifact
from mwaa_release.serverless.run import failure, run_workflow
from mwaa_release.serverless.workflows import Workflows
from mwaa_release.smoke import smoke as run_pipeline
from mwaa_release.teardown import describe, find_stacks
from mwaa_release.teardown import teardown as tear_down


def teardown(
    name: Annotated[str, typer.Argument(help="Parameter Name of the stacks, such as sales-dev.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    account: AccountOption = None,
) -> None:
    """Remove an environment: the stacks of infra/ and the buckets with all versions. Asks for confirmation."""
    check_account(aws_client("sts") if account else None, account)
    stacks = find_stacks(aws_client("cloudformation"), name)
    out.print(f"This permanently removes, in this order, from {name}:", markup=False)
    for line in describe(stacks):
        out.print(f"  {line}", markup=False)
    # Typing the name instead of "y" shows that the user read it.
    if not yes and typer.prompt(f"Type {name} to continue", default="", show_default=False) != name:
        raise SetupError(f"nothing was removed, because the answer was not {name}")
    with show_progress() as progress:
        tear_down(aws_client, stacks, progress)
    out.print(f"Removed {name}", markup=False)


def move(
    dag: Annotated[str, typer.Argument(help="dag_name of the pipeline.")],
    source: Annotated[str, typer.Option("--from", help="MWAA environment in which the pipeline is on.")],
    target: Annotated[str, typer.Option("--to", help="MWAA environment in which it is off.")],
    timeout: Annotated[float, typer.Option(help="Minutes to wait for unfinished runs.")] = DRAIN_SECONDS / 60,
    account: AccountOption = None,
) -> None:
    """Move a pipeline to another environment when its runs have ended. The DAG is never on in both."""
    check_account(aws_client("sts") if account else None, account)
    with show_progress() as progress:
        move_pipeline(aws_client("mwaa"), dag, source, target, progress, drain_seconds=timeout * 60)
    out.print(f"{dag} is off in {source} and on in {target}", markup=False)


def smoke(
    environment: Annotated[
        str | None, typer.Option(envvar="DEPLOY_ENVIRONMENT", help="The MWAA environment; not needed for a workflow.")
    ] = None,
    dag: Annotated[
        str | None,
        typer.Option(
            envvar="DEPLOY_SMOKE_DAG", help="dag_name of the pipeline to run; default: the only one in pipelines.yml."
        ),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            help="Release that the pipeline must run; default: the release of the artifact, for a workflow its own."
        ),
    ] = None,
    artifact: ArtifactOption = ARTIFACT,
    account: AccountOption = None,
) -> None:
    """Run a pipeline once on an environment with the applied release. Fails if the run fails.

    First checks environment and release like `doctor`. Only a missing environment or release stops it.
    """
    check_account(aws_client("sts") if account else None, account)
    dag = dag or find_pipeline().dag_name
    if _is_workflow(dag):
        _smoke_workflow(dag, release)
        return
    if not environment:
        raise SetupError("name the MWAA environment with --environment (DEPLOY_ENVIRONMENT)")
    check_before_smoke(environment, dag, account)
    release_id = release or Artifact.read(artifact).releases[0].release_id
    with show_progress() as progress:
        run_id = run_pipeline(aws_client("mwaa"), environment, dag, release_id, progress)
    out.print(f"{dag} on {environment}: run {run_id} of release {release_id} succeeded", markup=False)


def _is_workflow(dag_name: str) -> bool:
    try:
        return find_pipeline(dag_name).is_workflow
    except SetupError:
        # A DAG that is not in pipelines.yml.
        return False


def _smoke_workflow(name: str, release_id: str | None) -> None:
    serverless = aws_client("mwaa-serverless")
    workflows = Workflows(serverless, aws_client("ssm"), bucket="")
    runs = workflows.release_of(name)
    if release_id not in (None, runs):
        raise DeployError(f"workflow {name} runs release {runs}, not {release_id}; apply that release first")
    with show_progress() as progress:
        run = run_workflow(serverless, workflows, name, progress)
    if not run.succeeded:
        raise DeployError(failure(name, run))
    out.print(f"workflow {name}: run {run.run_id} of release {runs} succeeded", markup=False)
