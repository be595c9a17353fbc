"""Reads an Airflow connection from Secrets Manager, as Airflow's SecretsManagerBackend does."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.errors import PipelineError

# The names that the backend accepts in a secret.
# https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/secrets-backends/aws-secrets-manager.html
_WORDS = {
    "host": ("host", "remote_host", "server"),
    "port": ("port",),
    "schema": ("database", "schema"),
    "login": ("login", "user", "username", "user_name"),
    "password": ("password", "pass", "key"),
    "extra": ("extra",),
}


@dataclass
class Connection:
    """The fields of an Airflow connection that dbt needs."""

    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra_dejson: dict[str, Any] = field(default_factory=dict)


def read_connection(secretsmanager: Any, secret_name: str, conn_id: str) -> Connection:
    """Return the connection in a secret.

    Args:
        secretsmanager: boto3 client.
        secret_name: such as `airflow/connections/shop_redshift`.
        conn_id: the connection, for error messages.

    Raises:
        PipelineError: the secret cannot be read, or is not a connection.
    """
    try:
        text = secretsmanager.get_secret_value(SecretId=secret_name).get("SecretString", "")
    except (BotoCoreError, ClientError) as error:
        raise PipelineError(
            f"the Airflow connection {conn_id!r} (setting redshift_connection_id) cannot be read from the secret "
            f"{secret_name!r}: {error}. A task on ECS reads connections from Secrets Manager only"
        ) from None
    try:
        return _from_json(text) if text.strip().startswith("{") else _from_uri(text)
    except (ValueError, TypeError, AttributeError):
        # The cause could contain a password.
        raise PipelineError(
            f"the secret {secret_name!r} must have the Airflow connection {conn_id!r} as JSON, such as "
            '{"conn_type": "redshift", "host": "...", "port": 5439, "schema": "dev"}, or as a URI'
        ) from None


def _from_json(text: str) -> Connection:
    content = json.loads(text)
    values = {name: next((content[word] for word in words if word in content), None) for name, words in _WORDS.items()}
    extra = values.pop("extra") or {}
    port = values.pop("port")
    return Connection(
        **{name: value for name, value in values.items() if value is not None},
        port=int(port) if port else None,
        extra_dejson=dict(json.loads(extra) if isinstance(extra, str) else extra),
    )


def _from_uri(text: str) -> Connection:
    parts = urlsplit(text.strip())
    if not parts.scheme:
        raise ValueError("no URI")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    # Airflow writes an extra that is not flat into this parameter.
    extra = json.loads(query["__extra__"]) if "__extra__" in query else query
    return Connection(
        host=unquote(parts.hostname or ""),
        port=parts.port,
        schema=unquote(parts.path.removeprefix("/")),
        login=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        extra_dejson=extra,
    )
