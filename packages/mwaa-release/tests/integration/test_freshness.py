"""`freshness` fails if a source is stale and names it. Errors of settings show no secret."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mwaa_local.aws.roles import client_of
from mwaa_local.testing.permissions import warehouse_session
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.freshness import PIPELINES, check_freshness, warehouse_environment
from mwaa_release.manifest import install_packages
from mwaa_release.redshift import apply_grants

PROJECT = PIPELINES.parent.parent / "dbt_project"
PASSWORD = "Freshness 1"
TABLES = ("airlines", "airports", "flights", "planes", "weather")


@pytest.fixture
def secretsmanager(aws):
    return aws.client("secretsmanager")


def put_secret(secretsmanager, name: str, content: str) -> None:
    with contextlib.suppress(secretsmanager.exceptions.ResourceExistsException):
        secretsmanager.create_secret(Name=name, SecretString="{}")
    secretsmanager.put_secret_value(SecretId=name, SecretString=content)


@pytest.mark.slow
def test_stale_source_is_named_and_recorded_in_the_audit_table(start_redshift, aws, secretsmanager):
    warehouse = start_redshift()
    with contextlib.closing(warehouse.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("create schema landing")
        for table in TABLES:
            cursor.execute(f"create table landing.{table} as select getdate() as loaded_at")
        apply_grants(connection, "dbt_user", PASSWORD, "landing", "analytics")
        put_secret(secretsmanager, "flights/dbt_user", json.dumps({"username": "dbt_user", "password": PASSWORD}))
        where = {"host": warehouse.host, "port": warehouse.port, "extra": {"sslmode": "disable"}}
        put_secret(secretsmanager, "airflow/connections/flights_redshift", json.dumps(where))
        environment = os.environ | {
            "REDSHIFT_HOST": warehouse.host,
            "REDSHIFT_PORT": str(warehouse.port),
            "REDSHIFT_PASSWORD": PASSWORD,
            "REDSHIFT_SSLMODE": "disable",
            "DBT_TARGET_PATH": str(warehouse.state / "target"),
        }
        install_packages(PROJECT)
        dbt = [Path(sys.executable).with_name("dbt"), "run", "-q", "--select", "tag:audit", "--target", "prod"]
        places = [f"--project-dir={PROJECT}", f"--profiles-dir={PROJECT}", f"--log-path={warehouse.state}"]
        subprocess.run([*dbt, *places], env=environment, check=True)

        secretsmanager = client_of(warehouse_session(aws), aws.settings, "secretsmanager")
        lines = check_freshness(secretsmanager, "flights_pipeline")
        assert sorted(line.split(":")[0] for line in lines) == [f"landing.{table}" for table in TABLES]
        assert all("pass, newest row 0.0 hours old" in line for line in lines)
        cursor.execute("update landing.planes set loaded_at = dateadd(day, -30, getdate())")
        with pytest.raises(DeployError) as raised:
            check_freshness(secretsmanager, "flights_pipeline")
        error_text = str(raised.value)
        assert re.fullmatch(
            r"flights_pipeline: sources are stale\n  landing\.planes: error, newest row 720\.\d hours old", error_text
        )
        cursor.execute("select status from analytics.audit_table where name = 'planes' order by load_id")
        assert sorted(status for (status,) in cursor.fetchall()) == ["error", "pass"]


@pytest.mark.parametrize(
    ("extra", "sslmode"),
    [({}, "verify-full"), ({"extra": '{"sslmode": "require"}'}, "require"), ({"extra": ""}, "verify-full")],
)
def test_dbt_connects_as_the_pipelines_user_and_verifies_tls(secretsmanager, tmp_path, extra, sslmode):
    content = yaml.safe_load(PIPELINES.read_text())
    content["pipelines"][0] |= {"secret_name": "freshness/login", "redshift_connection_id": "freshness_login"}
    file = tmp_path / "pipelines.yml"
    file.write_text(yaml.safe_dump(content))
    put_secret(secretsmanager, "freshness/login", json.dumps({"username": "dbt_user", "password": PASSWORD}))
    where = {"host": "warehouse.example.com", "port": 5439, **extra}
    put_secret(secretsmanager, "airflow/connections/freshness_login", json.dumps(where))
    assert warehouse_environment(secretsmanager, "flights_pipeline", file) == {
        "REDSHIFT_HOST": "warehouse.example.com",
        "REDSHIFT_PORT": "5439",
        "REDSHIFT_USER": "dbt_user",
        "REDSHIFT_PASSWORD": PASSWORD,
        "REDSHIFT_DATABASE": content["pipelines"][0]["target_database"],
        "REDSHIFT_SCHEMA": content["pipelines"][0]["target_schema"],
        "REDSHIFT_SSLMODE": sslmode,
    }


def test_setting_error_names_the_setting_and_shows_no_secret(secretsmanager, tmp_path):
    with pytest.raises(SetupError, match="no pipeline 'nobody'"):
        check_freshness(secretsmanager, "nobody")
    content = yaml.safe_load(PIPELINES.read_text())
    # An empty `defaults:` is None in YAML.
    content["defaults"] = None
    content["pipelines"][0]["secret_name"] = "freshness/broken"
    content["pipelines"][0]["redshift_connection_id"] = "freshness_redshift"
    put_secret(
        secretsmanager, "airflow/connections/freshness_redshift", '{"host": "warehouse.example.com", "port": 5439}'
    )
    file = tmp_path / "pipelines.yml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(DeployError, match="reading the secret freshness/broken"):
        check_freshness(secretsmanager, "flights_pipeline", file)
    put_secret(secretsmanager, "freshness/broken", '{"username": "dbt_user", "passwort": "hidden"}')
    with pytest.raises(SetupError, match="must be JSON with username and password") as raised:
        check_freshness(secretsmanager, "flights_pipeline", file)
    assert "hidden" not in str(raised.value)
    extra = {"role_arn": "arn:aws:iam::210987654321:role/x"}
    where = {"host": "warehouse.example.com", "port": 5439, "extra": extra}
    put_secret(secretsmanager, "airflow/connections/freshness_redshift", json.dumps(where))
    with pytest.raises(SetupError, match="reads its secret with a role of another account"):
        check_freshness(secretsmanager, "flights_pipeline", file)
    del content["pipelines"][0]["secret_name"]
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(SetupError, match="has no secret_name"):
        check_freshness(secretsmanager, "flights_pipeline", file)
