"""An MWAA environment is updated only if requirements.txt or startup.sh has changed."""

import secrets

import pytest
from botocore.config import Config

from mwaa_local.testing.artifacts import MANIFEST
from mwaa_release.apply import apply
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.mwaa_update import update_environment

PROJECT = {"models/one.sql": "select 1", "manifest.json": MANIFEST}
FILES = {"dags/pipelines.py": "1", "requirements.txt": "r", "startup.sh": "s"}


@pytest.fixture
def mwaa(aws):
    return aws.client("mwaa", config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))


@pytest.fixture
def environment(mwaa, bucket) -> str:
    name = f"mwaa-{secrets.token_hex(4)}"
    mwaa.create_environment(
        Name=name,
        DagS3Path="dags",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/execution",
        SourceBucketArn=f"arn:aws:s3:::{bucket.name}",
        NetworkConfiguration={"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
    )
    return name


def test_environment_is_updated_to_the_released_files(mwaa, environment, bucket, make_artifact):
    messages = []

    def release(second: int, files: dict[str, str]) -> bool:
        artifact = make_artifact(second, PROJECT, files)
        progress = lambda what, done, total: messages.append(what)  # noqa: E731
        return apply(artifact, bucket, progress, mwaa_client=mwaa, environment=environment).environment_updated

    # Wait until the environment is created.
    update_environment(mwaa, environment, bucket)
    assert release(1, FILES)
    details = mwaa.get_environment(Name=environment)["Environment"]
    assert details["Status"] == "AVAILABLE"
    for file, member in (("requirements.txt", "Requirements"), ("startup.sh", "StartupScript")):
        assert details[f"{member}S3Path"] == file
        version = details[f"{member}S3ObjectVersion"]
        body = bucket.s3.get_object(Bucket=bucket.name, Key=file, VersionId=version)["Body"].read()
        assert body.decode() == FILES[file]
    assert not release(2, FILES | {"dags/pipelines.py": "2"})
    assert release(3, FILES | {"startup.sh": "s2"})
    assert any("UPDATING" in what for what in messages)


def test_failed_update_keeps_the_live_release(mwaa, environment, bucket, make_artifact):
    update_environment(mwaa, environment, bucket)
    apply(make_artifact(1, PROJECT, FILES), bucket, mwaa_client=mwaa, environment=environment)
    before = bucket.read("dags/dbt/flights/CURRENT")

    class Racing:
        """Deletes the new version between the upload and MWAA's read."""

        get_environment = staticmethod(mwaa.get_environment)

        @staticmethod
        def update_environment(**update):
            response = mwaa.update_environment(**update)
            bucket.s3.delete_object(
                Bucket=bucket.name, Key="startup.sh", VersionId=update["StartupScriptS3ObjectVersion"]
            )
            return response

    changed = make_artifact(2, PROJECT | {"models/one.sql": "select 2"}, FILES | {"startup.sh": "s2"})
    with pytest.raises(DeployError, match=r"UPDATE_FAILED: INCORRECT_CONFIGURATION: .*startup\.sh"):
        apply(changed, bucket, mwaa_client=Racing, environment=environment)
    assert bucket.read("dags/dbt/flights/CURRENT") == before
    # The next apply updates the environment.
    assert apply(changed, bucket, mwaa_client=mwaa, environment=environment).environment_updated
    assert mwaa.get_environment(Name=environment)["Environment"]["Status"] == "AVAILABLE"


def test_apply_waits_for_another_update_of_the_environment(mwaa, environment, bucket, make_artifact):
    update_environment(mwaa, environment, bucket)
    mwaa.update_environment(Name=environment, MaxWorkers=3)
    messages = []
    files = FILES | {"requirements.txt": "r2"}
    progress = lambda what, done, total: messages.append(what)  # noqa: E731
    apply(make_artifact(1, PROJECT, files), bucket, progress, mwaa_client=mwaa, environment=environment)
    details = mwaa.get_environment(Name=environment)["Environment"]
    assert (details["Status"], details["MaxWorkers"]) == ("AVAILABLE", 3)
    assert details["RequirementsS3Path"] == "requirements.txt"
    assert any("UPDATING, 0 min of up to 30" in what for what in messages)


def test_missing_environment_and_wrong_bucket_are_rejected(mwaa, environment, bucket, s3):
    with pytest.raises(SetupError, match="no MWAA environment nobody"):
        update_environment(mwaa, "nobody", bucket)
    other = type(bucket)(f"other-{secrets.token_hex(4)}", s3)
    with pytest.raises(SetupError, match=rf"reads arn:aws:s3:::{bucket.name}, not"):
        update_environment(mwaa, environment, other)


def test_unversioned_bucket_is_rejected(mwaa, s3, bucket, environment):
    s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket.name, Key="requirements.txt", Body=b"x")
    with pytest.raises(SetupError, match="turn versioning on"):
        update_environment(mwaa, environment, bucket)


def test_update_that_does_not_end_is_a_timeout_error(mwaa, environment, bucket):
    with pytest.raises(DeployError, match="is still CREATING"):
        update_environment(mwaa, environment, bucket, poll_seconds=0.01, timeout_seconds=0)
