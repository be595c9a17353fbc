"""Makes an MWAA environment take over new versions of requirements.txt and startup.sh, and waits until it has.

MWAA reads both only at update-environment, each by the object version in a versioned bucket, within half an hour.
https://docs.aws.amazon.com/mwaa/latest/userguide/working-dags-dependencies.html
"""

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.progress import Progress, no_progress

TIMEOUT_SECONDS = 3600.0
# The member of the environment that names each file's object version.
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
    """Bring an environment to the newest requirements.txt and startup.sh of its bucket.

    It compares what the environment runs with what the bucket holds, so an update that was interrupted is made up for.

    Args:
        mwaa: boto3 client.
        name: the environment.
        bucket: the bucket that it reads.
        progress: told what MWAA is doing.
        poll_seconds: how often to ask at most; more often in the beginning.
        timeout_seconds: how long to wait for MWAA.

    Returns:
        False if there was nothing to update.

    Raises:
        SetupError: there is no such environment, or it reads another bucket, or the bucket has no versions.
        DeployError: the update failed, and MWAA went back to what was before; the text has its reason.
    """
    deadline = time.monotonic() + timeout_seconds
    environment = _settled(mwaa, name, progress, poll_seconds, deadline)
    if environment["SourceBucketArn"].rpartition(":")[2] != bucket.name:
        raise SetupError(
            f"MWAA environment {name} reads {environment['SourceBucketArn']}, not s3://{bucket.name}; "
            "name the environment of this bucket"
        )
    wanted: dict[str, str] = {}
    for file, member in VERSION_OF.items():
        stored = bucket.describe(file)
        if stored is None:
            continue
        if not stored["version"]:
            raise SetupError(f"s3://{bucket.name} is not versioned, which MWAA needs; turn versioning on")
        if environment.get(member) != stored["version"] or environment.get(PATH_OF[file]) != file:
            wanted |= {member: stored["version"], PATH_OF[file]: file}
    if not wanted:
        return False
    try:
        # Workers end the tasks that they run before they are replaced.
        mwaa.update_environment(Name=name, WorkerReplacementStrategy="GRACEFUL", **wanted)
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"updating MWAA environment {name}") from error
    environment = _settled(mwaa, name, progress, poll_seconds, deadline)
    last = environment.get("LastUpdate", {})
    if environment["Status"] != "AVAILABLE" or last.get("Status") == "FAILED":
        error = last.get("Error", {})
        raise DeployError(
            f"MWAA environment {name} is {environment['Status']}: "
            f"{error.get('ErrorCode', 'no code')}: {error.get('ErrorMessage', 'no reason given')}; "
            "it runs what it ran before. Mend requirements.txt or startup.sh and release again"
        )
    return True


def _settled(mwaa: Any, name: str, progress: Progress, poll_seconds: float, deadline: float) -> dict[str, Any]:
    began = time.monotonic()
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
                f"MWAA environment {name} is still {environment['Status']}; look at it in the console, "
                "and run apply again when it is AVAILABLE"
            )
        elapsed = time.monotonic() - began
        minutes = int(elapsed / 60)
        progress(f"MWAA environment {name}: {environment['Status']}, {minutes} min of up to 30", minutes, 30)
        time.sleep(min(poll_seconds, 0.5 + elapsed / 4))
