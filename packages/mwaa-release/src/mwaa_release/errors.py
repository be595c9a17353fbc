"""The errors of the release tool and their exit codes. A message says what failed, where, and what to do."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)


class DeployError(Exception):
    """The command failed (exit code 1)."""

    exit_code = 1


class BuildError(DeployError):
    """The repository cannot be released, for example because dbt cannot parse a model. Nothing was uploaded."""


class SetupError(DeployError):
    """Credentials, a bucket or a setting are wrong (exit code 2)."""

    exit_code = 2


class StoppedError(DeployError):
    """Ctrl-C ended the command (exit code 130)."""

    exit_code = 130


_SETUP_CODES = {
    "NoSuchBucket": "the bucket does not exist; create it with infra/storage.yml, or set --bucket to another",
    "InvalidAccessKeyId": "AWS does not know the access key; sign in again",
    "ExpiredToken": "the credentials have expired; sign in again",
    "ExpiredTokenException": "the credentials have expired; sign in again",
    "SignatureDoesNotMatch": "the secret access key is wrong; sign in again",
}
# SNS uses "AuthorizationError".
DENIED_CODES = {
    "AccessDenied",
    "AccessDeniedException",
    "AllAccessDisabled",
    "AuthorizationError",
    "403",
    "UnauthorizedOperation",
}


def from_aws(error: BotoCoreError | ClientError, doing: str) -> DeployError:
    """Turn an error of boto3 into a DeployError or SetupError.

    Args:
        error: the error of boto3.
        doing: the failed action and its resource, such as "uploading s3://b/dags/x.py".
    """
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return SetupError(f"{doing}: there are no AWS credentials; sign in first (aws sso login, or set AWS_PROFILE)")
    if isinstance(error, NoRegionError):
        return SetupError(f"{doing}: no AWS Region is set; set AWS_REGION")
    if isinstance(error, EndpointConnectionError):
        return SetupError(f"{doing}: {error}; check the network, AWS_REGION and AWS_ENDPOINT_URL")
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        if code in _SETUP_CODES:
            return SetupError(f"{doing}: {_SETUP_CODES[code]}")
        if code in DENIED_CODES:
            return SetupError(
                f"{doing}: access denied by AWS ({error.operation_name}); "
                f"grant the permission to the role that runs this command: {message}"
            )
        return DeployError(f"{doing}: {code}: {message} ({error.operation_name})")
    return DeployError(f"{doing}: {error}")
