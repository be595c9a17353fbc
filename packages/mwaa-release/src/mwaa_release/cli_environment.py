"""The commands of `python -m mwaa_release` that work on a whole environment."""

from typing import Annotated

import typer

from mwaa_release.account import check_account
from mwaa_release.bucket import aws_client
from mwaa_release.cli_options import ARTIFACT, AccountOption, ArtifactOption, out
from mwaa_release.errors import SetupError
from mwaa_release.progress import show_progress
from mwaa_release.release import Artifact
from mwaa_release.smoke import smoke as run_pipeline
from mwaa_release.teardown import describe, find_stacks
from mwaa_release.teardown import teardown as tear_down


def teardown(
    name: Annotated[str, typer.Argument(help="The Name that the stacks were made with, such as flights-dev.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    account: AccountOption = None,
) -> None:
    """Remove an environment: the stacks of infra/, and the buckets with all their versions. Asks first."""
    check_account(aws_client("sts") if account else None, account)
    stacks = find_stacks(aws_client("cloudformation"), name)
    out.print(f"This removes, for good and in this order, of {name}:", markup=False)
    for line in describe(stacks):
        out.print(f"  {line}", markup=False)
    # The name and not "y": whoever types it has read which environment it is.
    if not yes and typer.prompt(f"Type {name} to go on", default="", show_default=False) != name:
        raise SetupError(f"nothing was removed, as the answer was not {name}")
    with show_progress() as progress:
        tear_down(aws_client, stacks, progress)
    out.print(f"{name} is gone.", markup=False)


def smoke(
    environment: Annotated[str, typer.Option(envvar="DEPLOY_ENVIRONMENT", help="The MWAA environment.")],
    dag: Annotated[str, typer.Option(envvar="DEPLOY_SMOKE_DAG", help="The pipeline to run.")] = "flights_pipeline",
    release: Annotated[str | None, typer.Option(help="The release that must run; default: the artifact's.")] = None,
    artifact: ArtifactOption = ARTIFACT,
    account: AccountOption = None,
) -> None:
    """Run a pipeline once on an environment, from the release that was applied, and fail if it does."""
    check_account(aws_client("sts") if account else None, account)
    wanted = release or Artifact.read(artifact).releases[0].release_id
    with show_progress() as progress:
        run_id = run_pipeline(aws_client("mwaa"), environment, dag, wanted, progress)
    out.print(f"{dag} on {environment}: run {run_id} of release {wanted} succeeded", markup=False)
