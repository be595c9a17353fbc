"""The commands of `python -m mwaa_release`. Exit codes: 0 success, 1 failure, 2 wrong setup, 130 interrupted."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from audit_report.redshift import WarehouseError
from mwaa_release import cli_doctor, cli_environment, cli_warehouse
from mwaa_release.apply import apply as apply_artifact
from mwaa_release.apply import live_targets
from mwaa_release.apply import rollback as roll_back
from mwaa_release.bucket import Bucket, aws_client
from mwaa_release.build import build as build_artifact
from mwaa_release.cli_options import (
    ARTIFACT,
    AccountOption,
    ArtifactOption,
    BucketOption,
    open_bucket,
    out,
    print_plan,
    workflows_of,
)
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.plan import AppliedArtifact, damaged_files, make_plan, project_names, read_project
from mwaa_release.progress import show_progress
from mwaa_release.release import DAGS, PROJECTS, Artifact

app = typer.Typer(
    name="deploy",
    help="Release dbt projects and DAGs to Amazon MWAA.",
    epilog="Exit codes: 0 success, 1 failure, 2 wrong setup, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("warehouse-user")(cli_warehouse.warehouse_user)
app.command("sample-data")(cli_warehouse.sample_data)
app.command()(cli_warehouse.freshness)
app.command()(cli_warehouse.report)
app.command()(cli_doctor.doctor)
app.command()(cli_environment.smoke)
app.command()(cli_environment.move)
app.command()(cli_environment.teardown)


@app.command()
def build(
    projects: Annotated[
        list[Path] | None, typer.Argument(help="Folders of dbt projects; default: all in the repository.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the artifact. An existing artifact is replaced.")] = ARTIFACT,
    wheels: Annotated[
        bool,
        typer.Option(
            "--wheels",
            envvar="DEPLOY_WHEELS",
            help="Also download the packages for environments without a package index, about 50 MB.",
        ),
    ] = False,
) -> None:
    """Build an artifact: parse the dbt projects and collect all files of a release. Needs no AWS and no warehouse."""
    with show_progress() as progress:
        artifact = build_artifact(output, projects, progress=progress, wheels=wheels)
    for release in artifact.releases:
        out.print(f"{release.project_name}: release {release.release_id}, {len(release.files)} files", markup=False)
    out.print(f"{len(artifact.files)} DAG and root files in {artifact.folder}", markup=False)
    if artifact.wheels:
        out.print(f"{len(artifact.wheels)} wheels", markup=False)


@app.command()
def plan(
    bucket: Annotated[
        str | None, typer.Option("--bucket", envvar="DEPLOY_BUCKET", help="The bucket that MWAA reads.")
    ] = None,
    artifact: ArtifactOption = ARTIFACT,
    against: Annotated[
        Path | None,
        typer.Option(help="Compare with another artifact instead of a bucket, such as the one of main. Needs no AWS."),
    ] = None,
    account: AccountOption = None,
) -> None:
    """Show the changes that `apply` would make."""
    if not (bucket or against):
        raise SetupError("nothing to compare with; set --bucket (DEPLOY_BUCKET) or --against")
    with show_progress() as progress:
        progress(f"comparing with {against or f's3://{bucket}'}", 0, 1)
        store = AppliedArtifact(Artifact.read(against)) if against else open_bucket(bucket or "", account)
        content = Artifact.read(artifact)
        changes = make_plan(content, store, workflows_of(bucket) if bucket and not against else None)
    print_plan(changes)


@app.command()
def apply(
    bucket: BucketOption,
    artifact: ArtifactOption = ARTIFACT,
    lambda_function: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DEPLOY_LAMBDA_FUNCTION",
            help="Update the code of this Lambda function too. Repeatable; separate names by spaces in the variable.",
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            envvar="DEPLOY_ENVIRONMENT", help="MWAA environment to update when requirements.txt or startup.sh changed."
        ),
    ] = None,
    account: AccountOption = None,
) -> None:
    """Upload changed files, make the release live, and delete old releases."""
    content = Artifact.read(artifact)
    with show_progress() as progress:
        applied = apply_artifact(
            content,
            open_bucket(bucket, account),
            progress,
            aws_client("lambda") if lambda_function else None,
            lambda_function or (),
            aws_client("mwaa") if environment else None,
            environment,
            workflows_of(bucket),
        )
    print_plan(applied.plan, updated=bool(environment))
    for name in lambda_function or ():
        out.print(f"{name}: code {'updated' if name in applied.functions_updated else 'unchanged'}", markup=False)
    if environment:
        outcome = "updated to the new requirements.txt and startup.sh" if applied.environment_updated else "unchanged"
        out.print(f"{environment}: {outcome}", markup=False)
    for change in applied.workflows:
        for warning in change.warnings:
            out.print(f"workflow {change.name}: {warning}", markup=False)
    if applied.changed:
        out.print(f"Done: {applied.uploaded} uploaded, {applied.copied} copied inside S3, {applied.deleted} deleted.")


@app.command()
def status(bucket: BucketOption, account: AccountOption = None) -> None:
    """Show the live release of each project, and the releases to which it can be rolled back."""
    store = open_bucket(bucket, account)
    sizes = store.sizes(DAGS)
    names = project_names(sizes)
    for name in names:
        state = read_project(store, name, sizes)
        live = state.live
        if live is None:
            out.print(
                f"{name}: live release {state.live_id or 'none'}, which is incomplete in the bucket", markup=False
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
            out.print(f"  {release_id} is incomplete; the next apply removes it", markup=False)
    if not names:
        out.print(f"s3://{bucket}/{PROJECTS} has no project")


@app.command()
def rollback(
    bucket: BucketOption,
    project: Annotated[
        str | None,
        typer.Option(help="Name of the dbt project, as in dbt_project.yml; default: the only one in the bucket."),
    ] = None,
    release: Annotated[
        str | None, typer.Argument(help="Release to go back to; default: the release before the live one.")
    ] = None,
    account: AccountOption = None,
) -> None:
    """Make an earlier release live again. MWAA picks it up within about 30 seconds."""
    store = open_bucket(bucket, account)
    if not project:
        names = project_names(store.sizes(DAGS))
        if len(names) != 1:
            raise SetupError(f"s3://{bucket} has {', '.join(names) or 'no project'}; name a project with --project")
        (project,) = names
    before, now = roll_back(store, project, release, workflows_of(bucket))
    out.print(f"{project}: {before} → {now}", markup=False)
    for name in sorted(_workflow_names(store, project, before) - _workflow_names(store, project, now)):
        out.print(f"! workflow {name} still runs release {before}: {now} has no such workflow. Delete it", markup=False)


def _workflow_names(bucket: Bucket, project: str, release_id: str) -> set[str]:
    """Return the workflows of a release; none if it is damaged, which is a reason for a rollback."""
    try:
        return {target.name for target in live_targets(bucket, project, release_id)}
    except DeployError:
        return set()


def main() -> None:
    """Run the command line. An expected error becomes one message and an exit code."""
    code, failure = 0, ""
    try:
        app(standalone_mode=False)
    except (DeployError, WarehouseError, OSError) as error:
        code, failure = getattr(error, "exit_code", 2), f"Error: {error}\n"
    except typer.TyperException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code, failure = 130, "Interrupted. The live release did not change.\n"
    sys.stderr.write(failure)
    text = out.export_text() + failure
    if text and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(f"```\n{text}```\n")
    sys.exit(code)
