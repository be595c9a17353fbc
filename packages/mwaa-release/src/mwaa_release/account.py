"""Check the AWS account before anything is read or written."""

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.errors import SetupError, from_aws


def check_account(sts: Any, expected: str | None) -> None:
    """Compare the account of the credentials with the expected account.

    Args:
        sts: boto3 client.
        expected: the account id, twelve digits; None or empty: accept any account.

    Raises:
        SetupError: the credentials belong to another account, or are missing.
    """
    if not expected:
        return
    if not (expected.isascii() and expected.isdecimal() and len(expected) == 12):
        raise SetupError(
            f"DEPLOY_ACCOUNT_ID={expected!r} (--account) is not an AWS account id; it must have twelve digits"
        )
    try:
        actual = sts.get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, "reading the account of the credentials") from error
    if actual != expected:
        raise SetupError(
            f"the credentials belong to account {actual}, not {expected} (--account, DEPLOY_ACCOUNT_ID); "
            "sign in to that account. Nothing was read or written"
        )


def only_buckets_of(s3: Any, account: str) -> None:
    """Make S3 refuse every request of this client to a bucket of another account, for example after a typo.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """

    def add(params: dict[str, Any], model: Any, **_more: Any) -> dict[str, Any]:
        members = model.input_shape.members if model.input_shape else {}
        owners = ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")
        return {**params, **{name: account for name in owners if name in members}}

    s3.meta.events.register("provide-client-params.s3", add)
