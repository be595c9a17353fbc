"""The output and the options that commands of `python -m mwaa_release` share."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mwaa_release.account import check_account, only_buckets_of
from mwaa_release.bucket import Bucket, aws_client
from mwaa_release.plan import Plan
from mwaa_release.repository import state_folder
from mwaa_release.serverless.workflows import Workflows

# Recorded for the summary of a GitHub Actions run.
out = Console(soft_wrap=True, highlight=False, record=True)

ARTIFACT = state_folder() / "release"

BucketOption = Annotated[str, typer.Option("--bucket", envvar="DEPLOY_BUCKET", help="The bucket that MWAA reads.")]
AccountOption = Annotated[
    str | None,
    typer.Option(
        "--account",
        envvar="DEPLOY_ACCOUNT_ID",
        help="Expected AWS account id. Fails if the credentials belong to another account.",
    ),
]
DagOption = Annotated[
    str | None,
    typer.Option("--dag", help="dag_name of the pipeline; default: the only one in dags/pipelines.yml."),
]
ArtifactOption = Annotated[Path, typer.Option("--artifact", help="Folder of the artifact that `build` created.")]


def open_bucket(name: str, account: str | None) -> Bucket:
    """Return the bucket after checking the account.

    Raises:
        SetupError: the credentials belong to another account.
    """
    check_account(aws_client("sts") if account else None, account)
    s3 = aws_client("s3")
    if account:
        only_buckets_of(s3, account)
    return Bucket(name, s3)


def workflows_of(bucket: str) -> Workflows:
    """Return the account's workflows that run releases of a bucket."""
    return Workflows(aws_client("mwaa-serverless"), aws_client("ssm"), bucket)


def print_plan(plan: Plan, updated: bool = False) -> None:
    """Show a plan. With `updated`, the MWAA environment already has its new files."""
    for project in plan.projects:
        if project.new:
            counts = f"{len(project.uploads)} files to upload, {len(project.copies)} unchanged"
            out.print(
                f"{project.project_name}: {project.before or 'none'} → {project.release_id}: {counts}", markup=False
            )
        elif project.switch:
            out.print(f"{project.project_name}: {project.before or 'none'} → {project.release_id}", markup=False)
        else:
            out.print(f"{project.project_name}: nothing changed, {project.release_id} stays live", markup=False)
        for file in project.uploads if project.before else []:
            out.print(f"  ~ {file.path}", markup=False)
    for sign, keys in (
        ("+", [file.path for file in plan.added]),
        ("~", [file.path for file in plan.changed]),
        ("-", plan.deleted),
    ):
        for key in keys:
            out.print(f"{sign} {key}", markup=False)
    if plan.wheels:
        megabytes = sum(file.size for file in plan.wheels) / 1e6
        out.print(f"+ {len(plan.wheels)} wheels, {megabytes:.0f} MB", markup=False)
    for file in plan.code:
        out.print(f"+ {file.path}, {file.size / 1e6:.0f} MB", markup=False)
    for change in plan.workflows:
        if change.is_needed:
            out.print(f"workflow {change.name}: {change.before or 'none'} → {change.after}", markup=False)
    for name in plan.left_over:
        out.print(
            f"! workflow {name} is not in this release, but still runs an earlier one. Delete it in MWAA", markup=False
        )
    removed = [key for project in plan.projects for key in project.removed]
    if removed:
        out.print(f"- {len(removed)} files of expired releases", markup=False)
    for key in plan.unmanaged:
        out.print(f"? {key}: not from this repository, not changed", markup=False)
    for key in plan.drifted:
        out.print(f"! {key}: changed in the bucket by somebody else", markup=False)
    if plan.needs_environment_update and not updated:
        changed = " and ".join(plan.needs_environment_update)
        out.print(f"{changed}: takes effect after an update of the environment (--environment)", markup=False)
    if plan.is_empty:
        out.print("The bucket is up to date.")
