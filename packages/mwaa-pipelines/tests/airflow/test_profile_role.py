"""A warehouse in another account: a role of that account provides the login, in its Region, at run time."""

import json
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import boto3
import pytest
from cosmos.config import ProfileConfig

from mwaa_pipelines.profile import RedshiftProfileMapping
from mwaa_pipelines.settings import PipelineError

ROLE = "arn:aws:iam::210987654321:role/flights-warehouse-login"
REGION = "eu-west-1"
IAM = {"iam": True, "cluster_identifier": "flights", "region": REGION, "role_arn": ROLE}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def other_account_secret(redshift: str) -> Iterator[str]:
    """A secret with the same name in the other account and Region. Returns the name."""
    credentials = boto3.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    client = boto3.client(
        "secretsmanager",
        region_name=REGION,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    client.create_secret(Name=redshift, SecretString='{"username": "dbt_there", "password": "Pa55-there"}')
    yield redshift
    client.delete_secret(SecretId=redshift, ForceDeleteWithoutRecovery=True)


def mapping(monkeypatch: pytest.MonkeyPatch, secret_name: str | None, **extra: Any) -> RedshiftProfileMapping:
    content = {"conn_type": "redshift", "host": "cluster.example", "schema": "dev", "extra": json.dumps(extra)}
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", json.dumps(content))
    return RedshiftProfileMapping("flights_redshift", secret_name, {"dbname": "dev", "schema": "analytics"})


def test_secret_is_read_in_the_roles_account_and_region(
    monkeypatch: pytest.MonkeyPatch, other_account_secret: str
) -> None:
    profile_mapping = mapping(monkeypatch, other_account_secret, role_arn=ROLE, region=REGION)
    assert profile_mapping.profile["user"] == "dbt_there"
    assert list(profile_mapping.env_vars.values()) == ["Pa55-there"]
    # Without a role, the secret of the task's own account and Region is read. The extra's Region is ignored.
    profile_mapping = mapping(monkeypatch, other_account_secret, region=REGION)
    assert profile_mapping.profile["user"] == "dbt_user"
    with pytest.raises(PipelineError, match=r"'flights/dbt_user' \(setting secret_name\) cannot be read"):
        _ = mapping(monkeypatch, other_account_secret, role_arn=ROLE, region="us-west-2").profile


@pytest.mark.parametrize(
    ("variables", "source"),
    [
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}, "EcsContainer"),
        ({"AWS_ACCESS_KEY_ID": "local"}, "Environment"),
        ({}, "Ec2InstanceMetadata"),
    ],
)
def test_iam_login_writes_an_aws_config_with_the_role_for_dbt(
    monkeypatch: pytest.MonkeyPatch, home: Path, variables: dict[str, str], source: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**variables, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        created = mapping(monkeypatch, None, **IAM, external_id="flights-dev")
        config = ProfileConfig(profile_name="flights", target_name="prod", profile_mapping=created)
        with config.ensure_profile() as (path, environment):
            text = Path(path).read_text()
    assert "iam_profile: warehouse" in text
    assert list(environment) == ["AWS_CONFIG_FILE"]
    parser = ConfigParser()
    parser.read(environment["AWS_CONFIG_FILE"])
    assert dict(parser["profile warehouse"]) == {
        "role_arn": ROLE,
        "external_id": "flights-dev",
        "credential_source": source,
        "role_session_name": "flights_redshift",
    }
    # Both tasks share one file. Only the owner can read and write it.
    (file,) = (home / "warehouse_roles").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_creating_a_profile_mapping_writes_no_file(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    mapping(monkeypatch, None, **IAM)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (IAM | {"role_arn": "flights-warehouse-login"}, "has the role_arn 'flights-warehouse-login', which must match"),
        (IAM | {"role_arn": f"{ROLE}\ncredential_process = id"}, "has the role_arn .*, which must match"),
        (IAM | {"external_id": "a b"}, "has the external_id 'a b', which must match"),
        (
            {"role_arn": ROLE},
            "sets role_arn, but nothing uses it: set iam in the connection's extra, or secret_name in the pipeline",
        ),
    ],
)
def test_invalid_role_settings_are_an_error(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], words: str) -> None:
    with pytest.raises(PipelineError, match=f"'flights_redshift' {words}"):
        _ = mapping(monkeypatch, None, **extra).env_vars
