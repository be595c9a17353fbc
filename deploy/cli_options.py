"""What the commands of `python -m deploy` share: their output, and options that several of them take."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.account import check_account, only_buckets_of
from deploy.bucket import Bucket, aws_client

# Recorded for the summary of a GitHub run.
out = Console(soft_wrap=True, highlight=False, record=True)

ARTEFACT = Path(os.environ.get("LOCAL_DIR", ".local")) / "release"

BucketOption = Annotated[str, typer.Option("--bucket", envvar="DEPLOY_BUCKET", help="The bucket that MWAA reads.")]
AccountOption = Annotated[
    str | None,
    typer.Option("--account", envvar="DEPLOY_ACCOUNT_ID", help="Id of the AWS account that is meant; refuses others."),
]
ArtefactOption = Annotated[Path, typer.Option("--artefact", help="The folder that `build` made.")]


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
