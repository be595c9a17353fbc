"""Makes sure that the tool works on the account that was meant, before anything is read or written."""

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.errors import SetupError, from_aws


def check_account(sts: Any, expected: str | None) -> None:
    """Compare the account of the credentials with the expected one.

    Args:
        sts: boto3 client.
        expected: twelve digits; None or empty: any account will do.

    Raises:
        SetupError: it is another account, or there are no credentials.
    """
    if not expected:
        return
    if not (expected.isascii() and expected.isdecimal() and len(expected) == 12):
        raise SetupError(f"DEPLOY_ACCOUNT_ID={expected!r} is not an AWS account's id, which has twelve digits")
    try:
        actual = sts.get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, "asking AWS whose credentials these are") from error
    if actual != expected:
        raise SetupError(
            f"these credentials are of account {actual}, not {expected} (--account, DEPLOY_ACCOUNT_ID); "
            "sign in to the right one. Nothing was read or written"
        )


def only_buckets_of(s3: Any, account: str) -> None:
    """Let S3 refuse every request of this client to a bucket that another account owns, such as after a typing error.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """

    def add(params: dict[str, Any], model: Any, **_more: Any) -> dict[str, Any]:
        members = model.input_shape.members if model.input_shape else {}
        owners = ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")
        return {**params, **{name: account for name in owners if name in members}}

    s3.meta.events.register("provide-client-params.s3", add)
