"""The dbt profile: the Airflow connection's address and one of three login methods, read when a task runs."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import redact
from cosmos.config import ProfileConfig

from mwaa_pipelines.profile import RedshiftProfileMapping
from mwaa_pipelines.settings import PipelineError

PROFILE = {"dbname": "dev", "schema": "analytics", "threads": 4}


def mapping(*secret_name: str | None) -> RedshiftProfileMapping:
    (name,) = secret_name or ("flights/dbt_user",)
    return RedshiftProfileMapping("flights_redshift", name, dict(PROFILE))


def put_secret(text: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId="flights/dbt_user", SecretString=text)


def test_password_is_in_the_environment_and_not_in_the_profile(redshift: str, caplog: pytest.LogCaptureFixture) -> None:
    config = ProfileConfig(profile_name="flights", target_name="prod", profile_mapping=mapping())
    with config.ensure_profile() as (path, environment):
        text = Path(path).read_text()
        profile = config.profile_mapping.profile
    assert list(environment.values()) == ["Pa55-one"]
    (variable,) = environment
    assert profile == {
        "type": "redshift",
        "host": "cluster.example",
        "port": 5439,
        "user": "dbt_user",
        "password": f"{{{{ env_var('{variable}') }}}}",
        **PROFILE,
    }
    assert "Pa55-one" not in text + caplog.text


def test_creating_a_profile_mapping_sends_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    profile_mapping = mapping()
    assert (profile_mapping.conn_id, profile_mapping.secret_name) == ("flights_redshift", "flights/dbt_user")


def test_secrets_reach_dbt_in_the_variables_that_the_pipeline_names(redshift: str) -> None:
    client = boto3.client("secretsmanager")
    client.create_secret(Name="shop/key", SecretString="k3y-of-the-shop")
    try:
        profile_mapping = RedshiftProfileMapping("flights_redshift", redshift, dict(PROFILE), {"SHOP_KEY": "shop/key"})
        assert profile_mapping.env_vars.pop("SHOP_KEY") == "k3y-of-the-shop"
        assert redact("token k3y-of-the-shop") == "token ***"
        assert len(profile_mapping.env_vars) == 2
    finally:
        client.delete_secret(SecretId="shop/key", ForceDeleteWithoutRecovery=True)
    with pytest.raises(PipelineError, match=r"^the secret 'shop/key' \(setting secret_env\.SHOP_KEY\) cannot be read"):
        profile_mapping.env_vars  # noqa: B018


def test_rotated_secret_is_used_by_the_next_task(redshift: str) -> None:
    assert list(mapping().env_vars.values()) == ["Pa55-one"]
    put_secret('{"username": "dbt_user_clone", "password": "Pa55-two"}')
    # Every task parses the DAG file again.
    after = mapping()
    assert list(after.env_vars.values()) == ["Pa55-two"]
    assert after.profile["user"] == "dbt_user_clone"


def test_without_secret_name_the_connections_login_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", "redshift://somebody:Pa55-own@cluster.example:5439/dev")
    profile_mapping = mapping(None)
    assert profile_mapping.profile["user"] == "somebody"
    assert list(profile_mapping.env_vars.values()) == ["Pa55-own"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("redshift://:5439/dev", "the Airflow connection 'flights_redshift' has no host"),
        ("redshift://cluster.example:5439", "the Airflow connection 'flights_redshift' has no schema (the database)"),
    ],
)
def test_connection_without_host_or_database_is_an_error(
    monkeypatch: pytest.MonkeyPatch, redshift: str, uri: str, words: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", uri)
    profile_mapping = mapping()
    for _ in range(2):
        with pytest.raises(PipelineError) as raised:
            _ = profile_mapping.profile
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("", r"does not exist. Create it in Airflow's UI$"),
        (
            '{"connections_prefix": "airflow/connections", "connections_lookup_pattern": "^(?!aws_default$).*$"}',
            r"does not exist. Create the secret airflow/connections/shop_warehouse$",
        ),
        (
            '{"connections_prefix": "airflow/connections", "connections_lookup_pattern": ".*_redshift$"}',
            r"does not match connections_lookup_pattern '\.\*_redshift\$' of the option secrets.backend_kwargs",
        ),
    ],
)
def test_missing_connection_error_explains_where_to_create_it(
    monkeypatch: pytest.MonkeyPatch, backend: str, words: str
) -> None:
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", backend)
    with pytest.raises(PipelineError, match=f"'shop_warehouse' .*{words}"):
        _ = RedshiftProfileMapping("shop_warehouse", None, dict(PROFILE)).profile


def test_missing_login_error_suggests_secret_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", "redshift://cluster.example:5439/dev")
    with pytest.raises(PipelineError, match=r"'flights_redshift' has no login.*secret_name"):
        _ = mapping(None).profile


@pytest.mark.parametrize(
    "text",
    [
        *("words", "", '"dbt_user"', "[]", "{}", '{"username": "dbt_user"}', '{"password": "Pa55-one"}'),
        *('{"username": "dbt_user", "password": ""}', '{"username": "", "password": "Pa55-one"}'),
        *('{"username": "dbt_user", "password": null}', '{"username": "dbt_user", "password": 7}'),
    ],
)
def test_malformed_secret_error_names_the_secret_and_hides_its_value(redshift: str, text: str) -> None:
    put_secret(text or " ")
    with pytest.raises(PipelineError) as raised:
        _ = mapping().profile
    assert "the secret 'flights/dbt_user' (setting secret_name) must be JSON" in str(raised.value)
    assert "Pa55-one" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_missing_secret_is_an_error_that_names_it(redshift: str) -> None:
    with pytest.raises(PipelineError, match=r"the secret 'flights/none' \(setting secret_name\) cannot be read.*find"):
        _ = mapping("flights/none").profile


def test_binary_secret_is_an_error_that_names_it(redshift: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId="flights/dbt_user", SecretBinary=b"\xff")
    with pytest.raises(PipelineError, match=r"'flights/dbt_user' \(setting secret_name\) must be JSON"):
        _ = mapping().profile


def test_unreachable_secrets_manager_is_an_error(redshift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PipelineError, match="cannot be read from Secrets Manager: Could not connect"):
        _ = mapping().profile


CLUSTER = '{"iam": true, "cluster_identifier": "flights", "region": "eu-west-1"}'
SERVERLESS = '{"iam": true, "is_serverless": true, "serverless_work_group": "flights", "region": "eu-west-1"}'


@pytest.mark.parametrize(
    ("login", "extra", "method", "keys"),
    [
        ("dbt_user", CLUSTER, "iam", {"user": "dbt_user", "cluster_id": "flights"}),
        (None, CLUSTER, "iam_role", {"cluster_id": "flights"}),
        (
            "dbt_user",
            SERVERLESS,
            "iam",
            {"user": "dbt_user", "is_serverless": True, "serverless_work_group": "flights"},
        ),
        (None, SERVERLESS, "iam_role", {"is_serverless": True, "serverless_work_group": "flights"}),
    ],
)
def test_iam_login_has_no_password_in_profile_or_environment(
    monkeypatch: pytest.MonkeyPatch, login: str | None, extra: str, method: str, keys: dict[str, Any]
) -> None:
    content = {"conn_type": "redshift", "host": "cluster.example", "schema": "dev", "login": login, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", json.dumps(content))
    # dbt's own process requests the IAM credentials, so the mapping must not call AWS.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    config = ProfileConfig(profile_name="flights", target_name="prod", profile_mapping=mapping(None))
    with config.ensure_profile() as (path, environment):
        text = Path(path).read_text()
    assert environment == {}
    assert "password" not in text
    address = {"type": "redshift", "host": "cluster.example", "port": 5439, "region": "eu-west-1"}
    assert config.profile_mapping.profile == {**address, "method": method, **keys, **PROFILE}


@pytest.mark.parametrize(
    ("extra", "secret_name", "words"),
    [
        (
            CLUSTER,
            "flights/dbt_user",
            r"sets iam in its extra, and .* secret_name to 'flights/dbt_user'. Remove one of them",
        ),
        (
            '{"iam": true}',
            None,
            "sets iam in its extra, but no warehouse. Set cluster_identifier, or is_serverless and",
        ),
    ],
)
def test_invalid_iam_settings_are_an_error(
    monkeypatch: pytest.MonkeyPatch, extra: str, secret_name: str | None, words: str
) -> None:
    content = {"conn_type": "redshift", "host": "cluster.example", "schema": "dev", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", json.dumps(content))
    with pytest.raises(PipelineError, match=f"'flights_redshift' {words}"):
        _ = mapping(secret_name).profile


def test_connection_with_login_can_come_from_secrets_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third login method: Airflow's secrets backend, with a lookup pattern for connection IDs."""
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend

    content = {
        "conn_type": "redshift",
        "host": "cluster.example",
        "schema": "dev",
        "login": "a",
        "password": "Pa55-own",
    }
    client = boto3.client("secretsmanager")
    names = ("flights_redshift", "other_redshift")
    for name in names:
        client.create_secret(Name=f"airflow/connections/{name}", SecretString=json.dumps(content))
    try:
        backend = SecretsManagerBackend("airflow/connections", connections_lookup_pattern="^flights_.*$")
        values = {name: backend.get_conn_value(name) for name in names}
    finally:
        for name in names:
            client.delete_secret(SecretId=f"airflow/connections/{name}", ForceDeleteWithoutRecovery=True)
    assert values["other_redshift"] is None
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", values["flights_redshift"])
    profile_mapping = mapping(None)
    assert list(profile_mapping.env_vars.values()) == ["Pa55-own"]
    assert profile_mapping.profile["user"] == "a"


def test_special_characters_in_a_password_are_preserved(redshift: str) -> None:
    password = "'\"\\ä{{x}}%$ #:"
    put_secret(json.dumps({"username": "dbt_user", "password": password}))
    assert list(mapping().env_vars.values()) == [password]


def test_password_is_masked_in_logs(redshift: str) -> None:
    _ = mapping().profile
    redacted: Any = redact({"message": "Pa55-one is wrong"})
    assert "Pa55-one" not in str(redacted)
