"""The commands of `python -m mwaa_release`. Exit code 0: done; 1: it failed; 2: the set-up is wrong."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from audit_report.redshift import WarehouseError
from mwaa_release import cli_environment, cli_warehouse
from mwaa_release.apply import apply as apply_artifact
from mwaa_release.apply import rollback as roll_back
from mwaa_release.bucket import aws_client
from mwaa_release.build import build as build_artifact
from mwaa_release.cli_options import ARTIFACT, AccountOption, ArtifactOption, BucketOption, open_bucket, out, print_plan
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.plan import AppliedArtifact, damaged_files, make_plan, read_project
from mwaa_release.progress import show_progress
from mwaa_release.release import DAGS, PROJECTS, Artifact

app = typer.Typer(
    name="deploy",
    help="Builds a release of this repository, shows what it would change, applies it, and takes it back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("warehouse-user")(cli_warehouse.warehouse_user)
app.command("sample-data")(cli_warehouse.sample_data)
app.command()(cli_warehouse.freshness)
app.command()(cli_warehouse.report)
app.command()(cli_environment.smoke)
app.command()(cli_environment.teardown)


@app.command()
def build(
    projects: Annotated[
        list[Path] | None, typer.Argument(help="Folders of dbt projects; default: all in the repository.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the artifact; replaced.")] = ARTIFACT,
) -> None:
    """Parse the dbt projects and put together all that goes to the bucket. Needs no AWS and no warehouse."""
    with show_progress() as progress:
        artifact = build_artifact(output, projects, progress=progress)
    for release in artifact.releases:
        out.print(f"{release.project_name}: release {release.release_id}, {len(release.files)} files", markup=False)
    out.print(f"{len(artifact.files)} DAG and root files; all in {artifact.folder}", markup=False)


@app.command()
def plan(
    bucket: Annotated[str | None, typer.Option("--bucket", envvar="DEPLOY_BUCKET", help="The bucket.")] = None,
    artifact: ArtifactOption = ARTIFACT,
    against: Annotated[
        Path | None, typer.Option(help="Instead of a bucket: another artifact, such as that of main. Needs no AWS.")
    ] = None,
    account: AccountOption = None,
) -> None:
    """Show what `apply` would change. Changes nothing."""
    if not (bucket or against):
        raise SetupError("name what to compare with: --bucket (DEPLOY_BUCKET), or --against")
    with show_progress() as progress:
        progress(f"comparing with {against or f's3://{bucket}'}", 0, 1)
        there = AppliedArtifact(Artifact.read(against)) if against else open_bucket(bucket or "", account)
        found = make_plan(Artifact.read(artifact), there)
    print_plan(found)


@app.command()
def apply(
    bucket: BucketOption,
    artifact: ArtifactOption = ARTIFACT,
    lambda_function: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DEPLOY_LAMBDA_FUNCTION",
            help="Also give this function the code of lambda/; can be repeated (in the variable, with spaces).",
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(envvar="DEPLOY_ENVIRONMENT", help="MWAA environment that takes over new requirements."),
    ] = None,
    account: AccountOption = None,
) -> None:
    """Upload what changed, make it live, delete what is old."""
    with show_progress() as progress:
        applied = apply_artifact(
            Artifact.read(artifact),
            open_bucket(bucket, account),
            progress,
            aws_client("lambda") if lambda_function else None,
            lambda_function or (),
            aws_client("mwaa") if environment else None,
            environment,
        )
    print_plan(applied.plan, updated=bool(environment))
    for name in lambda_function or ():
        out.print(f"{name}: code {'updated' if name in applied.functions_updated else 'unchanged'}", markup=False)
    if environment:
        what = "took over requirements.txt and startup.sh" if applied.environment_updated else "nothing to take over"
        out.print(f"{environment}: {what}", markup=False)
    if applied.changed:
        out.print(f"Done: {applied.uploaded} uploaded, {applied.copied} copied inside S3, {applied.deleted} deleted.")


@app.command()
def status(bucket: BucketOption, account: AccountOption = None) -> None:
    """Show what is live in the bucket, and what it could be rolled back to."""
    store = open_bucket(bucket, account)
    sizes = store.sizes(DAGS)
    names = sorted({key.removeprefix(PROJECTS).split("/")[0] for key in sizes if key.startswith(PROJECTS)})
    for name in names:
        state = read_project(store, name, sizes)
        live = state.live
        if live is None:
            out.print(
                f"{name}: live release {state.live_id or 'none'}, which is not complete in the bucket", markup=False
            )
        else:
            out.print(f"{name}: live release {live.release_id}", markup=False)
            out.print(f"  built {live.built_at} from commit {live.git_sha}, {len(live.files)} files", markup=False)
            for key in damaged_files(live, sizes):
                out.print(f"  ! {key} is missing or has another size", markup=False)
        for release_id in state.complete:
            if release_id != state.live_id:
                out.print(f"  can be rolled back to {release_id}", markup=False)
        for release_id in state.incomplete:
            out.print(f"  {release_id} is half uploaded; the next apply removes it", markup=False)
    if not names:
        out.print(f"s3://{bucket}/{PROJECTS} holds no project")


@app.command()
def rollback(
    bucket: BucketOption,
    project: Annotated[str, typer.Option(help="The dbt project, by its name in dbt_project.yml.")],
    release: Annotated[str | None, typer.Argument(help="Which release; default: the one before the live one.")] = None,
    account: AccountOption = None,
) -> None:
    """Make an earlier release live again: one small upload, in force when MWAA next copies the bucket (about 30 s)."""
    before, now = roll_back(open_bucket(bucket, account), project, release)
    out.print(f"{project}: {before} → {now}", markup=False)


def main() -> None:
    """Run the command line; an expected error becomes one message and its exit code."""
    code, failure = 0, ""
    try:
        app(standalone_mode=False)
    except (DeployError, WarehouseError, OSError) as error:
        code, failure = getattr(error, "exit_code", 2), f"Error: {error}\n"
    except typer.TyperException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code, failure = 130, "Interrupted; what was live is still live.\n"
    sys.stderr.write(failure)
    text = out.export_text() + failure
    if text and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(f"```\n{text}```\n")
    sys.exit(code)
