"""dbt with the profile of a connection that says iam: it asks AWS for temporary credentials, and for no password."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.settings import REPOSITORY
from tests.fixtures.aws import Aws

PROJECT = "name: iam\nprofile: iam\n"
# As a task does it: in Airflow's own environment, by the DAGs' own mapping.
WRITE_PROFILE = """
import pathlib, sys
from cosmos.config import ProfileConfig
from dbt_pipeline.profile import RedshiftProfileMapping
mapping = RedshiftProfileMapping("warehouse", None, {"dbname": "dev", "schema": "analytics"})
with ProfileConfig("iam", "prod", profile_mapping=mapping).ensure_profile() as (path, environment):
    assert environment == {}
    pathlib.Path(sys.argv[1]).write_text(pathlib.Path(path).read_text())
"""


@pytest.mark.slow
def test_dbt_asks_aws_for_credentials_of_the_database_user(aws: Aws, airflow_python: Path, tmp_path: Path) -> None:
    connection = {
        "conn_type": "redshift",
        "host": "127.0.0.1",
        # Nothing listens there: the answer that matters is that of AWS.
        "port": 1,
        "schema": "dev",
        "login": "dbt_user",
        "extra": json.dumps({"iam": True, "cluster_identifier": "iam-test", "region": "us-east-1"}),
    }
    environment = {**os.environ, **aws.environment(), "AIRFLOW_CONN_WAREHOUSE": json.dumps(connection)}
    environment |= {"PYTHONPATH": str(REPOSITORY / "dags"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [airflow_python, "-c", WRITE_PROFILE, tmp_path / "profiles.yml"]
    subprocess.run(command, env={**environment, "AIRFLOW_HOME": str(tmp_path)}, check=True, capture_output=True)
    (tmp_path / "dbt_project.yml").write_text(PROJECT)

    def debug() -> str:
        dbt = [Path(sys.executable).with_name("dbt"), "debug", "--target", "prod"]
        folders = ["--project-dir", tmp_path, "--profiles-dir", tmp_path]
        done = subprocess.run(
            [*dbt, *folders], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        return done.stdout

    said = debug()
    assert "method: iam" in said
    assert "ClusterNotFound" in said, said
    redshift = aws.client("redshift")
    redshift.create_cluster(
        ClusterIdentifier="iam-test", NodeType="ra3.large", MasterUsername="a", ManageMasterPassword=True
    )
    try:
        said = debug()
    finally:
        redshift.delete_cluster(ClusterIdentifier="iam-test", SkipFinalClusterSnapshot=True)
    # With them it goes on to the cluster.
    assert "ClusterNotFound" not in said
    assert "refused" in said.lower(), said
