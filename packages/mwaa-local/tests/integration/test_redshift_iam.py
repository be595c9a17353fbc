"""dbt with an IAM connection requests temporary credentials from AWS and needs no password.

The warehouse is in the task's account, or in another account and Region, where dbt assumes a role.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from mwaa_local.testing.aws import Aws
from mwaa_release.build import pipelines_package

PROJECT = "name: iam\nprofile: iam\n"
# Runs in Airflow's environment with the DAGs' profile mapping, as in a task.
WRITE_PROFILE = """
import json, pathlib, sys
from cosmos.config import ProfileConfig
from mwaa_pipelines.profile import RedshiftProfileMapping
mapping = RedshiftProfileMapping("warehouse", None, {"dbname": "dev", "schema": "analytics"})
with ProfileConfig("iam", "prod", profile_mapping=mapping).ensure_profile() as (path, environment):
    pathlib.Path(sys.argv[1]).write_text(pathlib.Path(path).read_text())
    print(json.dumps(environment))
"""


ROLE = "arn:aws:iam::210987654321:role/flights-warehouse-login"


@pytest.mark.slow
@pytest.mark.parametrize(("role", "region"), [(None, "us-east-1"), (ROLE, "eu-west-1")])
def test_dbt_requests_credentials_of_the_database_user(
    aws: Aws, airflow_python: Path, tmp_path: Path, role: str | None, region: str
) -> None:
    extra = {"iam": True, "cluster_identifier": "iam-test", "region": region} | ({"role_arn": role} if role else {})
    connection = {
        "conn_type": "redshift",
        "host": "127.0.0.1",
        # Nothing listens on this port. The test needs only AWS's response.
        "port": 1,
        "schema": "dev",
        "login": "dbt_user",
        "extra": json.dumps(extra),
    }
    environment = {**os.environ, **aws.environment(), "AIRFLOW_CONN_WAREHOUSE": json.dumps(connection)}
    environment |= {"PYTHONPATH": str(pipelines_package().parent), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [airflow_python, "-c", WRITE_PROFILE, tmp_path / "profiles.yml"]
    completed = subprocess.run(
        command, env={**environment, "AIRFLOW_HOME": str(tmp_path)}, check=True, capture_output=True, text=True
    )
    environment |= json.loads(completed.stdout.splitlines()[-1])
    (tmp_path / "dbt_project.yml").write_text(PROJECT)

    def debug() -> str:
        dbt = [Path(sys.executable).with_name("dbt"), "debug", "--target", "prod"]
        folders = ["--project-dir", tmp_path, "--profiles-dir", tmp_path]
        completed = subprocess.run(
            [*dbt, *folders], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert completed.returncode != 0
        return completed.stdout

    output = debug()
    assert "method: iam" in output
    assert "ClusterNotFound" in output, output
    redshift = redshift_client(aws, role, region)
    redshift.create_cluster(
        ClusterIdentifier="iam-test", NodeType="ra3.large", MasterUsername="a", ManageMasterPassword=True
    )
    try:
        output = debug()
    finally:
        redshift.delete_cluster(ClusterIdentifier="iam-test", SkipFinalClusterSnapshot=True)
    # With credentials, dbt tries to connect to the cluster.
    assert "ClusterNotFound" not in output
    assert "refused" in output.lower(), output


def redshift_client(aws: Aws, role: str | None, region: str) -> Any:
    """Return a Redshift client for the warehouse's account and Region."""
    if role is None:
        return aws.client("redshift")
    credentials = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "redshift",
        endpoint_url=aws.url,
        region_name=region,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
