"""Update an MWAA environment to new versions of requirements.txt and startup.sh, and wait for the end of the update.

MWAA reads both files, by their object version, only during an update of the environment. It takes up to half an hour.
https://docs.aws.amazon.com/mwaa/latest/userguide/working-dags-dependencies.html
"""

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.progress import Progress, no_progress

# The credentials of a GitHub job expire after an hour, and the upload comes before.
TIMEOUT_SECONDS = 2700.0
# The fields of the environment for each file's object version and path.
VERSION_OF = {"requirements.txt": "RequirementsS3ObjectVersion", "startup.sh": "StartupScriptS3ObjectVersion"}
PATH_OF = {"requirements.txt": "RequirementsS3Path", "startup.sh": "StartupScriptS3Path"}
_CHANGING = {"CREATING", "UPDATING", "CREATING_SNAPSHOT", "ROLLING_BACK", "PENDING", "MAINTENANCE"}


def update_environment(
    mwaa: Any,
    name: str,
    bucket: Bucket,
    progress: Progress = no_progress,
    poll_seconds: float = 15.0,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> bool:
    """Update an environment to the newest requirements.txt and startup.sh of its bucket.

    A second call repeats an interrupted update, because the versions of environment and bucket are compared.

    Args:
        mwaa: boto3 client.
        name: the environment.
        bucket: the bucket that it reads.
        progress: receives the environment's status.
        poll_seconds: the longest interval between two requests; the first ones are shorter.
        timeout_seconds: how long to wait for MWAA.

    Returns:
        False if there was nothing to update.

    Raises:
        SetupError: the environment does not exist or reads another bucket, or the bucket is not versioned.
        DeployError: the update failed and MWAA rolled it back; the message has MWAA's reason.
    """
    deadline = time.monotonic() + timeout_seconds
    environment = _wait_for_mwaa(mwaa, name, progress, poll_seconds, deadline)
    if environment["SourceBucketArn"].rpartition(":")[2] != bucket.name:
        raise SetupError(
            f"MWAA environment {name} reads {environment['SourceBucketArn']}, not s3://{bucket.name}; "
            "choose the environment of this bucket (--environment, DEPLOY_ENVIRONMENT)"
        )
    changes: dict[str, str] = {}
    for members in pending_changes(environment, bucket).values():
        changes |= members
    if not changes:
        return False
    try:
        # Workers finish their running tasks before MWAA replaces them.
        mwaa.update_environment(Name=name, WorkerReplacementStrategy="GRACEFUL", **changes)
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"updating MWAA environment {name}") from error
    environment = _wait_for_mwaa(mwaa, name, progress, poll_seconds, deadline)
    last = environment.get("LastUpdate", {})
    if environment["Status"] != "AVAILABLE" or last.get("Status") == "FAILED":
        error = last.get("Error", {})
        raise DeployError(
            f"MWAA environment {name} is {environment['Status']}: "
            f"{error.get('ErrorCode', 'no code')}: {error.get('ErrorMessage', 'no reason given')}; "
            "MWAA rolled the update back. Fix requirements.txt or startup.sh and release again"
        )
    return True


def pending_changes(environment: dict[str, Any], bucket: Bucket) -> dict[str, dict[str, str]]:
    """Return the files that an update would bring to an environment, with the members of the update's request.

    Args:
        environment: as GetEnvironment returns it.
        bucket: the bucket that it reads.

    Raises:
        SetupError: the bucket is not versioned.
    """
    changes: dict[str, dict[str, str]] = {}
    for file, member in VERSION_OF.items():
        stored = bucket.describe(file)
        if stored is None:
            continue
        if not stored["version"]:
            raise SetupError(f"s3://{bucket.name} is not versioned, but MWAA requires it; turn versioning on")
        if environment.get(member) != stored["version"] or environment.get(PATH_OF[file]) != file:
            changes[file] = {member: stored["version"], PATH_OF[file]: file}
    return changes


def _wait_for_mwaa(mwaa: Any, name: str, progress: Progress, poll_seconds: float, deadline: float) -> dict[str, Any]:
    started = time.monotonic()
    while True:
        try:
            environment = mwaa.get_environment(Name=name)["Environment"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                raise SetupError(f"there is no MWAA environment {name} in this account and Region") from error
            raise from_aws(error, f"reading MWAA environment {name}") from error
        except BotoCoreError as error:
            raise from_aws(error, f"reading MWAA environment {name}") from error
        if environment["Status"] not in _CHANGING:
            return environment
        if time.monotonic() > deadline:
            raise DeployError(
                f"MWAA environment {name} is still {environment['Status']}; check it in the console, "
                "and run apply again when it is AVAILABLE"
            )
        elapsed = time.monotonic() - started
        minutes = int(elapsed / 60)
        progress(f"MWAA environment {name}: {environment['Status']}, {minutes} min of up to 30", minutes, 30)
        time.sleep(min(poll_seconds, 0.5 + elapsed / 4))
