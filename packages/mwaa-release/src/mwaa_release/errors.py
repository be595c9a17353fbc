"""What can go wrong in the release tool, by exit code. The text of each error is complete: what, where, what to do."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)


class DeployError(Exception):
    """What was asked for failed (exit code 1)."""

    exit_code = 1


class BuildError(DeployError):
    """The repository cannot be released as it is, such as a model that dbt cannot parse. Nothing was uploaded."""


class SetupError(DeployError):
    """Something around the tool is wrong: credentials, a bucket, a setting (exit code 2)."""

    exit_code = 2


_SETUP_CODES = {
    "NoSuchBucket": "the bucket does not exist; create it (infra/ has the stack), or name another with --bucket",
    "InvalidAccessKeyId": "AWS does not know this access key; sign in again",
    "ExpiredToken": "the credentials have expired; sign in again",
    "ExpiredTokenException": "the credentials have expired; sign in again",
    "SignatureDoesNotMatch": "the secret access key is wrong; sign in again",
}
_DENIED_CODES = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "403", "UnauthorizedOperation"}


def from_aws(error: BotoCoreError | ClientError, doing: str) -> DeployError:
    """Put an error of boto3 into words.

    Args:
        error: what boto3 raised.
        doing: what was being done, with the bucket, key or function in it: "uploading s3://b/dags/x.py".
    """
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return SetupError(f"{doing}: there are no AWS credentials; sign in first (aws sso login, or AWS_PROFILE=…)")
    if isinstance(error, NoRegionError):
        return SetupError(f"{doing}: no AWS Region is set; set AWS_REGION")
    if isinstance(error, EndpointConnectionError):
        return SetupError(f"{doing}: {error}; check the network, AWS_REGION and AWS_ENDPOINT_URL")
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        if code in _SETUP_CODES:
            return SetupError(f"{doing}: {_SETUP_CODES[code]}")
        if code in _DENIED_CODES:
            return SetupError(
                f"{doing}: access denied by AWS ({error.operation_name}); give it to the role that releases: {message}"
            )
        return DeployError(f"{doing}: {code}: {message} ({error.operation_name})")
    return DeployError(f"{doing}: {error}")
