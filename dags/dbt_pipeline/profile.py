"""Credentials of a pipeline, fetched when a task runs and never when a DAG file is parsed."""

import json
from typing import Any

from cosmos.profiles import RedshiftUserPasswordProfileMapping

from dbt_pipeline.compatibility import mask_secret
from dbt_pipeline.settings import PipelineError


class RedshiftProfileMapping(RedshiftUserPasswordProfileMapping):
    """The dbt profile of an Airflow connection (host, port, database), which dbt logs in to in one of three ways.

    - With the login of a Secrets Manager secret.
    - With temporary credentials of IAM, if the connection's extra says `"iam": true`, as it does for Airflow's own
      hook, with `cluster_identifier`, or with `is_serverless` and `serverless_work_group`; and `region`. A connection
      with a login asks for that database user; one without, for the user of the task's own role.
    - With the connection's own login; Airflow's secrets backend may keep it.

    A password reaches dbt through the environment of its process; the profile only names the variable.
    """

    def __init__(self, conn_id: str, secret_name: str | None, profile_args: dict[str, Any]) -> None:
        """Keep the names; nothing is fetched.

        Args:
            conn_id: the Airflow connection.
            secret_name: the secret, `{"username": …, "password": …}`, or None: the connection says how to log in.
            profile_args: further keys of the dbt profile, `schema` among them.
        """
        super().__init__(conn_id=conn_id, profile_args=profile_args)
        self.secret_name = secret_name

    @property
    def conn(self) -> Any:
        """The Airflow connection, with the secret's login.

        Raises:
            PipelineError: the connection lacks a host, database or login, or the secret is missing or of another form.
        """
        if self._conn is None:
            connection = super().conn
            # Kept only when it is whole.
            self._conn = None
            self._complete(connection)
            self._conn = connection
        return self._conn

    @property
    def profile(self) -> dict[str, Any]:
        """The dbt profile."""
        extra = self.conn.extra_dejson
        if not extra.get("iam"):
            return super().profile
        # https://docs.getdbt.com/docs/core/connect-data-platform/redshift-setup
        keys = ("region", "sslmode", "is_serverless", "serverless_work_group", "serverless_acct_id", "db_groups")
        profile = {
            "type": "redshift",
            "method": "iam" if self.conn.login else "iam_role",
            "host": self.conn.host,
            "port": self.conn.port or 5439,
            "user": self.conn.login,
            "cluster_id": extra.get("cluster_identifier"),
            **{key: extra.get(key) for key in keys},
            **self.profile_args,
        }
        return self.filter_null(profile)

    @property
    def env_vars(self) -> dict[str, str]:
        """What dbt's environment holds: the password, if there is one."""
        return {} if self.conn.extra_dejson.get("iam") else super().env_vars

    def _complete(self, connection: Any) -> None:
        extra = connection.extra_dejson
        needed = [("host", "host"), ("schema", "schema (the database)")]
        if extra.get("iam"):
            if self.secret_name:
                raise PipelineError(
                    f"the Airflow connection {self.conn_id!r} says iam, and the pipeline names the secret "
                    f"{self.secret_name!r} (setting secret_name): leave one of them out"
                )
            if not (extra.get("is_serverless") or extra.get("cluster_identifier") or "serverless" in connection.host):
                raise PipelineError(
                    f"the Airflow connection {self.conn_id!r} says iam; its extra must name the cluster_identifier, or "
                    "is_serverless and the serverless_work_group"
                )
        elif self.secret_name:
            connection.login, connection.password = _login(self.secret_name)
        else:
            needed += [
                (word, f"{word}, its extra no iam, the pipeline no secret_name") for word in ("login", "password")
            ]
        for field, words in needed:
            if not getattr(connection, field):
                raise PipelineError(f"the Airflow connection {self.conn_id!r} has no {words}")


def _login(secret_name: str) -> tuple[str, str]:
    # Imported here: a DAG file that is parsed has no use for boto3.
    import boto3
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
