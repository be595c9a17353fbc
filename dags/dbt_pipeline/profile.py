"""Credentials of a pipeline, fetched when a task runs and never when a DAG file is parsed."""

import json
from typing import Any

from cosmos.profiles import RedshiftUserPasswordProfileMapping

from dbt_pipeline.settings import PipelineError


class RedshiftSecretProfileMapping(RedshiftUserPasswordProfileMapping):
    """The dbt profile of an Airflow connection (host, port, database) with the login of a Secrets Manager secret.

    The password reaches dbt through the environment of its process; the profile only names the variable.
    """

    def __init__(self, conn_id: str, secret_name: str | None, profile_args: dict[str, Any]) -> None:
        """Keep the names; nothing is fetched.

        Args:
            conn_id: the Airflow connection.
            secret_name: the secret, `{"username": …, "password": …}`, or None: the connection's own login.
            profile_args: further keys of the dbt profile, `schema` among them.
        """
        super().__init__(conn_id=conn_id, profile_args=profile_args)
        self.secret_name = secret_name

    @property
    def conn(self) -> Any:
        """The Airflow connection, with the secret's login.

        Raises:
            PipelineError: the connection lacks a host or database, or the secret is missing or of another form.
        """
        if self._conn is None:
            connection = super().conn
            # Kept only when it is whole.
            self._conn = None
            if self.secret_name:
                connection.login, connection.password = _login(self.secret_name)
            for field, setting in (
                ("host", "host"),
                ("schema", "schema (the database)"),
                ("login", "login, and the pipeline has no secret_name"),
                ("password", "password, and the pipeline has no secret_name"),
            ):
                if not getattr(connection, field):
                    raise PipelineError(f"the Airflow connection {self.conn_id!r} has no {setting}")
            self._conn = connection
        return self._conn


def _login(secret_name: str) -> tuple[str, str]:
    # Imported here: a DAG file that is parsed has no use for boto3.
    import boto3
    from airflow.sdk.log import mask_secret
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        text = boto3.client("secretsmanager").get_secret_value(SecretId=secret_name).get("SecretString", "")
    except (BotoCoreError, ClientError) as error:
        raise PipelineError(
            f"the secret {secret_name!r} (setting secret_name) cannot be read from Secrets Manager: {error}"
        ) from None
    mask_secret(text)
    try:
        secret = json.loads(text)
        username, password = secret["username"], secret["password"]
    except (ValueError, KeyError, TypeError):
        username = password = None
    # What was found is not shown: it is a secret.
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        raise PipelineError(
            f'the secret {secret_name!r} (setting secret_name) must be JSON: {{"username": "...", "password": "..."}}'
        )
    mask_secret(password)
    return username, password
