"""The dbt profile: the connection's address with the secret's login, both asked for when a task runs."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from cosmos.config import ProfileConfig
from dbt_pipeline.profile import RedshiftSecretProfileMapping
from dbt_pipeline.settings import PipelineError

PROFILE = {"dbname": "dev", "schema": "analytics", "threads": 4}


def mapping(*secret_name: str | None) -> RedshiftSecretProfileMapping:
    (name,) = secret_name or ("flights/dbt_user",)
    return RedshiftSecretProfileMapping("flights_redshift", name, dict(PROFILE))


def put(text: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId="flights/dbt_user", SecretString=text)


def test_address_and_login_are_joined_and_the_password_is_only_in_the_environment(
    redshift: str, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_making_one_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    made = mapping()
    assert (made.conn_id, made.secret_name) == ("flights_redshift", "flights/dbt_user")


def test_a_rotated_secret_reaches_the_next_task(redshift: str) -> None:
    assert list(mapping().env_vars.values()) == ["Pa55-one"]
    put('{"username": "dbt_user_clone", "password": "Pa55-two"}')
    # Every task parses the DAG file anew.
    after = mapping()
    assert list(after.env_vars.values()) == ["Pa55-two"]
    assert after.profile["user"] == "dbt_user_clone"


def test_without_a_secret_the_connection_logs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", "redshift://somebody:Pa55-own@cluster.example:5439/dev")
    made = mapping(None)
    assert made.profile["user"] == "somebody"
    assert list(made.env_vars.values()) == ["Pa55-own"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("redshift://:5439/dev", "the Airflow connection 'flights_redshift' has no host"),
        ("redshift://cluster.example:5439", "the Airflow connection 'flights_redshift' has no schema (the database)"),
    ],
)
def test_half_a_connection_is_named(monkeypatch: pytest.MonkeyPatch, redshift: str, uri: str, words: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLIGHTS_REDSHIFT", uri)
    made = mapping()
    for _ in range(2):
        with pytest.raises(PipelineError) as raised:
            _ = made.profile
        assert words in str(raised.value)


def test_a_connection_without_a_login_and_no_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_secret_of_another_form_is_named_and_not_shown(redshift: str, text: str) -> None:
    put(text or " ")
    with pytest.raises(PipelineError) as raised:
        _ = mapping().profile
    assert "the secret 'flights/dbt_user' (setting secret_name) must be JSON" in str(raised.value)
    assert "Pa55-one" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_secret_is_named(redshift: str) -> None:
    with pytest.raises(PipelineError, match=r"the secret 'flights/none' \(setting secret_name\) cannot be read.*find"):
        _ = mapping("flights/none").profile


def test_a_binary_secret_is_named(redshift: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId="flights/dbt_user", SecretBinary=b"\xff")
    with pytest.raises(PipelineError, match=r"'flights/dbt_user' \(setting secret_name\) must be JSON"):
        _ = mapping().profile


def test_without_a_way_to_secrets_manager_the_secret_is_named(redshift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PipelineError, match="cannot be read from Secrets Manager: Could not connect"):
        _ = mapping().profile


def test_characters_of_every_kind_survive(redshift: str) -> None:
    password = "'\"\\ä{{x}}%$ #:"
    put(json.dumps({"username": "dbt_user", "password": password}))
    assert list(mapping().env_vars.values()) == [password]


def test_the_password_is_masked_in_logs(redshift: str) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    _ = mapping().profile
    shown: Any = redact({"message": "Pa55-one is wrong"})
    assert "Pa55-one" not in str(shown)
