"""The credentials of a pipeline. They are fetched when a task runs, never when a DAG file is parsed."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from cosmos.profiles import RedshiftUserPasswordProfileMapping

from mwaa_pipelines.compatibility import AirflowNotFoundException, mask_secret
from mwaa_pipelines.settings import PipelineError

# The profile in the AWS config file that assumes the connection's role.
_AWS_PROFILE = "warehouse"


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
            "iam_profile": _AWS_PROFILE if extra.get("role_arn") else None,
            **{key: extra.get(key) for key in keys},
            **self.profile_args,
        }
        return self.filter_null(profile)

    @property
    def env_vars(self) -> dict[str, str]:
        """Environment variables for dbt: those of `secret_env`, and the password or the AWS config file with the role.

        Raises:
            PipelineError: a secret cannot be read, or has no text.
        """
        extra = self.conn.extra_dejson
        variables = {}
        for name, secret in self.secret_env.items():
            variables[name] = _secret_text(secret, f"secret_env.{name}", self.conn_id, extra)
            if not variables[name]:
                raise PipelineError(f"the secret {secret!r} (setting secret_env.{name}) has no text. Store one")
        if not extra.get("iam"):
            return variables | super().env_vars
        config = {"AWS_CONFIG_FILE": str(_aws_config(self.conn_id, extra))} if extra.get("role_arn") else {}
        return variables | config

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
        with _role_variables(self.conn_id, extra):
            return redshift_connector.connect(
                iam=True,
                user="",
                password="",
                is_serverless=is_serverless,
                profile=_AWS_PROFILE if extra.get("role_arn") else None,
                **arguments,
            )

    def _complete(self, connection: Any) -> None:
        extra = connection.extra_dejson
        needed = [("host", "host"), ("schema", "schema (the database)")]
        if extra.get("iam"):
            if self.secret_name:
                raise PipelineError(
                    f"the Airflow connection {self.conn_id!r} sets iam in its extra, and the pipeline sets secret_name "
                    f"to {self.secret_name!r}. Remove one of them"
                )
            if not (extra.get("is_serverless") or extra.get("cluster_identifier") or "serverless" in connection.host):
                raise PipelineError(
                    f"the Airflow connection {self.conn_id!r} sets iam in its extra, but no warehouse. Set "
                    "cluster_identifier, or is_serverless and serverless_work_group"
                )
        elif self.secret_name:
            connection.login, connection.password = _login(self.secret_name, self.conn_id, extra)
        elif extra.get("role_arn"):
            raise PipelineError(
                f"the Airflow connection {self.conn_id!r} sets role_arn, but nothing uses it: set iam in the "
                "connection's extra, or secret_name in the pipeline"
            )
        else:
            needed += [
                (word, f"{word}. Set it, or iam in its extra, or secret_name in the pipeline")
                for word in ("login", "password")
            ]
        for field, words in needed:
            if not getattr(connection, field):
                raise PipelineError(f"the Airflow connection {self.conn_id!r} has no {words}")


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


def _aws_config(conn_id: str, extra: dict[str, Any]) -> Path:
    """Write an AWS config file with which AWS's libraries assume the role, and assume it again when it expires.

    An assumed role expires after an hour at most, and dbt logs in for each model.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html
    """
    values = {"role_arn": extra["role_arn"], "external_id": extra.get("external_id")}
    # Other settings in such a file can start programs.
    for key, form in (
        ("role_arn", r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+"),
        ("external_id", r"[\w+=,.@:/-]*"),
    ):
        if not re.fullmatch(form, str(values[key] or ""), re.ASCII):
            raise PipelineError(
                f"the Airflow connection {conn_id!r} has the {key} {values[key]!r}, which must match {form}"
            )
    # The order in which AWS's libraries look for credentials.
    if "AWS_ACCESS_KEY_ID" in os.environ:
        source = "Environment"
    elif "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in os.environ or "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ:
        # MWAA's workers.
        source = "EcsContainer"
    else:
        source = "Ec2InstanceMetadata"
    values |= {"credential_source": source, "role_session_name": conn_id[:64]}
    lines = [f"[profile {_AWS_PROFILE}]", *(f"{key} = {value}" for key, value in values.items() if value)]
    text = "\n".join([*lines, ""])
    # Only this user can write to the folder. All tasks with the same role share one file.
    folder = Path(os.environ.get("AIRFLOW_HOME", "/usr/local/airflow")) / "warehouse_roles"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)
    return path


@contextlib.contextmanager
def _role_variables(conn_id: str, extra: dict[str, Any]) -> Iterator[None]:
    """Let AWS's libraries read the file with the connection's role. redshift_connector has no argument for it."""
    before = os.environ.get("AWS_CONFIG_FILE")
    if extra.get("role_arn"):
        os.environ["AWS_CONFIG_FILE"] = str(_aws_config(conn_id, extra))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("AWS_CONFIG_FILE", None)
        else:
            os.environ["AWS_CONFIG_FILE"] = before


def _secret_text(secret_name: str, setting: str, conn_id: str, extra: dict[str, Any]) -> str:
    # Imported here because parsing a DAG file does not need them.
    import boto3
    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError

    session, region = botocore.session.get_session(), None
    if extra.get("role_arn"):
        session.set_config_variable("config_file", str(_aws_config(conn_id, extra)))
        session.set_config_variable("profile", _AWS_PROFILE)
        region = extra.get("region")
    try:
        client = boto3.Session(botocore_session=session, region_name=region).client("secretsmanager")
        text = client.get_secret_value(SecretId=secret_name).get("SecretString", "")
    except (BotoCoreError, ClientError) as error:
        raise PipelineError(
            f"the secret {secret_name!r} (setting {setting}) cannot be read from Secrets Manager: {error}"
        ) from None
    mask_secret(text)
    return text


def _login(secret_name: str, conn_id: str, extra: dict[str, Any]) -> tuple[str, str]:
    text = _secret_text(secret_name, "secret_name", conn_id, extra)
    try:
        secret = json.loads(text)
        username, password = secret["username"], secret["password"]
    except (ValueError, KeyError, TypeError):
        username = password = None
    # The value is secret, so the message does not show it.
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        raise PipelineError(
            f'the secret {secret_name!r} (setting secret_name) must be JSON: {{"username": "...", "password": "..."}}'
        )
    mask_secret(password)
    return username, password
