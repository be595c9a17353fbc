"""The smoke test of a release, against a real Airflow behind MWAA's InvokeRestApi."""

import subprocess
import sys

import pytest

from deploy.bucket import Bucket
from local.aws import seed
from tests.fixtures.checkout import new_checkout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pipeline_runs_from_the_release_that_was_applied(tmp_path_factory) -> None:
    # A path of PostgreSQL's socket has at most 107 bytes, and a test's own folder has a long name.
    checkout = new_checkout(tmp_path_factory.mktemp("smoke") / "state")
    try:
        up = checkout.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        client = lambda service: seed.client(checkout.settings, service)  # noqa: E731
        release = (Bucket(seed.DAGS_BUCKET, client("s3")).read("dags/dbt/flights/CURRENT") or b"").decode().strip()
        environment = {**checkout.environment, **checkout.settings.aws_environment(), "COLUMNS": "200"}
        create = (
            "import boto3; boto3.client('mwaa').create_environment(Name='flights-dev', DagS3Path='dags', "
            "ExecutionRoleArn='arn:aws:iam::123456789012:role/execution', "
            f"SourceBucketArn='arn:aws:s3:::{seed.DAGS_BUCKET}', "
            "NetworkConfiguration={'SubnetIds': ['a', 'b'], 'SecurityGroupIds': ['c']})"
        )
        subprocess.run([sys.executable, "-c", create], env=environment, check=True)
        done = subprocess.run(
            [sys.executable, "-m", "deploy", "smoke", "--environment", "flights-dev", "--release", release],
            cwd=checkout.repository,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"of release {release} succeeded" in done.stdout
        run_id = done.stdout.split(" run ")[1].split()[0]
        rows = checkout.command("sql", f"select count(*) from analytics.audit_table where airflow_run_id = '{run_id}'")
        assert int(rows.stdout.split()[-1]) > 20
    finally:
        checkout.command("down")
    assert checkout.leftovers() == []
