"""The credentials of a pipeline. They are fetched when a task runs, never when a DAG file is parsed."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from cosmos.profiles import RedshiftUserPasswordProfileMapping

from mwaa_pipelines.compatibility import AirflowNotFoundException, mask_secret
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.login import AWS_PROFILE, Login, iam_profile


class RedshiftProfileMapping(RedshiftUserPasswordProfileMapping):
    """The dbt profile of an Airflow connection (host, port, database). dbt logs in in one of three ways.

    - With the login of a Secrets Manager secret.
    - With temporary credentials of IAM, if the connection's extra sets `"iam": true`, as for Airflow's own
      hook, and `region`, and `cluster_identifier` or `is_serverless` and `serverless_work_group`. A connection
      with a login requests credentials of that database user, a connection without a login those of the task's role.
    - With the connection's own login, which can be in Airflow's secrets backend.

    If the connection's extra sets a `role_arn`, and the `external_id` that the role can require, this role reads the
    secret or gets the temporary credentials, in its account and the extra's `region`.

    A password reaches dbt through the environment of its process; the profile only names the variable.
    """

    def __init__(
        self,
        conn_id: str,
        secret_name: str | None,
        profile_args: dict[str, Any],
        secret_env: Mapping[str, str] | None = None,
    ) -> None:
        """Store the names. Nothing is fetched.

        Args:
            conn_id: the Airflow connection.
            secret_name: the secret, `{"username": …, "password": …}`; None if the connection has the login.
            profile_args: further keys of the dbt profile, `schema` among them.
            secret_env: further secrets, by the environment variable in which dbt gets the text.
        """
        super().__init__(conn_id=conn_id, profile_args=profile_args)
        self.secret_name = secret_name
        self.secret_env = dict(secret_env or {})

    @property
    def _login(self) -> Login:
        folder = Path(os.environ.get("AIRFLOW_HOME", "/usr/local/airflow")) / "warehouse_roles"
        return Login(self.conn_id, self.secret_name, self.secret_env, mask_secret, folder)

    @property
    def conn(self) -> Any:
        """The Airflow connection, with the secret's login.

        Raises:
            PipelineError: the connection is missing, or lacks a host, database or login; or the secret is missing or
                of another form.
        """
        if self._conn is None:
            try:
                connection = super().conn
            except AirflowNotFoundException:
                raise PipelineError(_missing_connection(self.conn_id)) from None
            # Cached only if it is complete.
            self._conn = None
            self._login.complete(connection)
            self._conn = connection
        return self._conn

    @property
    def profile(self) -> dict[str, Any]:
        """The dbt profile."""
        if not self.conn.extra_dejson.get("iam"):
            return super().profile
        return iam_profile(self.conn, self.profile_args)

    @property
    def env_vars(self) -> dict[str, str]:
        """Environment variables for dbt: those of `secret_env`, and the password or the AWS config file with the role.

        Raises:
            PipelineError: a secret cannot be read, or has no text.
        """
        variables = self._login.variables(self.conn.extra_dejson)
        return variables if self.conn.extra_dejson.get("iam") else variables | super().env_vars

    def connect(self) -> Any:
        """Connect to the warehouse as dbt does, with 30 seconds to wait for each answer.

        Raises:
            PipelineError: as `conn`.
            redshift_connector.Error, OSError: the warehouse does not accept the login, or does not answer.
        """
        # Imported here because parsing a DAG file does not need it.
        import redshift_connector

        connection, extra = self.conn, self.conn.extra_dejson
        sslmode = extra.get("sslmode")
        arguments = {
            "host": connection.host,
            "port": connection.port or 5439,
            "database": self.profile_args["dbname"],
            # redshift_connector has no other modes.
            "ssl": sslmode != "disable",
            "sslmode": "verify-full" if sslmode == "verify-full" else "verify-ca",
            "timeout": 30,
        }
        if not extra.get("iam"):
            return redshift_connector.connect(user=connection.login, password=connection.password, **arguments)
        is_serverless = bool(extra.get("is_serverless")) or "serverless" in connection.host
        names = ["region", "db_groups"]
        names += ["serverless_work_group", "serverless_acct_id"] if is_serverless else ["cluster_identifier"]
        arguments |= {name: extra[name] for name in names if extra.get(name)}
        if connection.login:
            arguments["db_user"] = connection.login
        else:
            arguments["group_federation"] = not is_serverless
        with self._login.role_variables(extra):
            return redshift_connector.connect(
                iam=True,
                user="",
                password="",
                is_serverless=is_serverless,
                profile=AWS_PROFILE if extra.get("role_arn") else None,
                **arguments,
            )


def _missing_connection(conn_id: str) -> str:
    backend = json.loads(conf.get("secrets", "backend_kwargs", fallback="") or "{}")
    prefix, pattern = backend.get("connections_prefix"), backend.get("connections_lookup_pattern")
    message = f"the Airflow connection {conn_id!r} (setting redshift_connection_id) does not exist"
    # Compare like Airflow's Secrets Manager backend.
    if pattern and not re.match(pattern, conn_id, re.IGNORECASE):
        return (
            f"{message}. Airflow does not look for it in Secrets Manager, because its name does not match "
            f"connections_lookup_pattern {pattern!r} of the option secrets.backend_kwargs (infra/environment.yml). "
            "Change the pattern, or create the connection in Airflow's UI"
        )
    return f"{message}. Create " + (f"the secret {prefix}/{conn_id}" if prefix else "it in Airflow's UI")
