"""What the commands of `python -m mwaa_release` share: their output, and options that several of them take."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mwaa_release.account import check_account, only_buckets_of
from mwaa_release.bucket import Bucket, aws_client
from mwaa_release.plan import Plan
from mwaa_release.repository import state_folder

# Recorded for the summary of a GitHub run.
out = Console(soft_wrap=True, highlight=False, record=True)

ARTIFACT = state_folder() / "release"

BucketOption = Annotated[str, typer.Option("--bucket", envvar="DEPLOY_BUCKET", help="The bucket that MWAA reads.")]
AccountOption = Annotated[
    str | None,
    typer.Option("--account", envvar="DEPLOY_ACCOUNT_ID", help="Id of the AWS account that is meant; refuses others."),
]
ArtifactOption = Annotated[Path, typer.Option("--artifact", help="The folder that `build` made.")]


def open_bucket(name: str, account: str | None) -> Bucket:
    """The bucket, in the account that is meant.

    Raises:
        SetupError: the credentials are of another account.
    """
    check_account(aws_client("sts") if account else None, account)
    s3 = aws_client("s3")
    if account:
        only_buckets_of(s3, account)
    return Bucket(name, s3)


def print_plan(found: Plan, updated: bool = False) -> None:
    """Show a plan; with `updated`, the environment has taken over its new files."""
    for project in found.projects:
        if project.new:
            what = f"{len(project.uploads)} files to upload, {len(project.copies)} unchanged"
            out.print(
                f"{project.project_name}: {project.before or 'none'} → {project.release_id}: {what}", markup=False
            )
        elif project.switch:
            out.print(f"{project.project_name}: {project.before or 'none'} → {project.release_id}", markup=False)
        else:
            out.print(f"{project.project_name}: nothing changed, {project.release_id} stays live", markup=False)
        for file in project.uploads if project.before else []:
            out.print(f"  ~ {file.path}", markup=False)
    for sign, keys in (
        ("+", [file.path for file in found.added]),
        ("~", [file.path for file in found.changed]),
        ("-", found.deleted),
    ):
        for key in keys:
            out.print(f"{sign} {key}", markup=False)
    removed = [key for project in found.projects for key in project.removed]
    if removed:
        out.print(f"- {len(removed)} files of releases that are no longer kept", markup=False)
    for key in found.unmanaged:
        out.print(f"? {key}: not from this repository, left alone", markup=False)
    for key in found.drifted:
        out.print(f"! {key}: changed in the bucket, not by a release", markup=False)
    if found.needs_environment_update and not updated:
        changed = " and ".join(found.needs_environment_update)
        out.print(f"{changed}: in force only after an update of the environment (--environment)", markup=False)
    if found.is_empty:
        out.print("The bucket is up to date.")
