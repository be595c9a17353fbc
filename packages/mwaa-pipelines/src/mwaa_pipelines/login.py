"""How dbt logs in to the warehouse, from an Airflow connection and Secrets Manager. Needs no Airflow."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mwaa_pipelines.errors import PipelineError

# The profile in the AWS config file that assumes the connection's role.
AWS_PROFILE = "warehouse"


@dataclass(frozen=True)
class Login:
    """The login of a pipeline. AWS is called only by the methods.

    Args:
        conn_id: the Airflow connection, for error messages.
        secret_name: secret with username and password; None if the connection has the login.
        secret_env: further secrets, by the environment variable in which dbt gets the text.
        mask: called with each secret text, to hide it in logs.
        folder: for the AWS config file of a connection with a role. Only this user can write to it.
    """

    conn_id: str
    secret_name: str | None
    secret_env: Mapping[str, str]
    mask: Callable[[str], None]
    folder: Path

    def complete(self, connection: Any) -> None:
        """Set login and password of a connection that has neither, and check it.

        Raises:
            PipelineError: the connection lacks a host, database or login; or the secret is missing or of another form.
        """
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
            connection.login, connection.password = self._username_and_password(self.secret_name, extra)
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

    def variables(self, extra: Mapping[str, Any]) -> dict[str, str]:
        """Return environment variables for dbt: those of `secret_env`, and the AWS config file with the role.

        Args:
            extra: of the connection.

        Raises:
            PipelineError: a secret cannot be read, or has no text.
        """
        variables = {}
        for name, secret in self.secret_env.items():
            variables[name] = self._secret_text(secret, f"secret_env.{name}", extra)
            if not variables[name]:
                raise PipelineError(f"the secret {secret!r} (setting secret_env.{name}) has no text. Store one")
        if extra.get("iam") and extra.get("role_arn"):
            variables["AWS_CONFIG_FILE"] = str(self._aws_config(extra))
        return variables

    @contextlib.contextmanager
    def role_variables(self, extra: Mapping[str, Any]) -> Iterator[None]:
        """Let AWS's libraries read the file with the connection's role. redshift_connector has no argument for it."""
        before = os.environ.get("AWS_CONFIG_FILE")
        if extra.get("role_arn"):
            os.environ["AWS_CONFIG_FILE"] = str(self._aws_config(extra))
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("AWS_CONFIG_FILE", None)
            else:
                os.environ["AWS_CONFIG_FILE"] = before

    def _aws_config(self, extra: Mapping[str, Any]) -> Path:
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
                    f"the Airflow connection {self.conn_id!r} has the {key} {values[key]!r}, which must match {form}"
                )
        # The order in which AWS's libraries look for credentials.
        if "AWS_ACCESS_KEY_ID" in os.environ:
            source = "Environment"
        elif (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in os.environ or "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ
        ):
            # MWAA's workers, and tasks of ECS.
            source = "EcsContainer"
        else:
            source = "Ec2InstanceMetadata"
        values |= {"credential_source": source, "role_session_name": self.conn_id[:64]}
        lines = [f"[profile {AWS_PROFILE}]", *(f"{key} = {value}" for key, value in values.items() if value)]
        text = "\n".join([*lines, ""])
        # All tasks with the same role share one file.
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
        return path

    def _secret_text(self, secret_name: str, setting: str, extra: Mapping[str, Any]) -> str:
        # Imported here because parsing a DAG file does not need them.
        import boto3
        import botocore.session
        from botocore.exceptions import BotoCoreError, ClientError

        session, region = botocore.session.get_session(), None
        if extra.get("role_arn"):
            session.set_config_variable("config_file", str(self._aws_config(extra)))
            session.set_config_variable("profile", AWS_PROFILE)
            region = extra.get("region")
        try:
            client = boto3.Session(botocore_session=session, region_name=region).client("secretsmanager")
            text = client.get_secret_value(SecretId=secret_name).get("SecretString", "")
        except (BotoCoreError, ClientError) as error:
            raise PipelineError(
                f"the secret {secret_name!r} (setting {setting}) cannot be read from Secrets Manager: {error}"
            ) from None
        self.mask(text)
        return text

    def _username_and_password(self, secret_name: str, extra: Mapping[str, Any]) -> tuple[str, str]:
        text = self._secret_text(secret_name, "secret_name", extra)
        try:
            secret = json.loads(text)
            username, password = secret["username"], secret["password"]
        except (ValueError, KeyError, TypeError):
            username = password = None
        # The value is secret, so the message does not show it.
        if not (isinstance(username, str) and username and isinstance(password, str) and password):
            raise PipelineError(
                f"the secret {secret_name!r} (setting secret_name) must be JSON: "
                '{"username": "...", "password": "..."}'
            )
        self.mask(password)
        return username, password


def iam_profile(connection: Any, profile_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dbt profile of a connection whose extra sets `iam`.

    Args:
        connection: a complete one.
        profile_args: further keys of the profile, `schema` among them.
    """
    extra = connection.extra_dejson
    # https://docs.getdbt.com/docs/core/connect-data-platform/redshift-setup
    keys = ("region", "sslmode", "is_serverless", "serverless_work_group", "serverless_acct_id", "db_groups")
    profile = {
        "type": "redshift",
        "method": "iam" if connection.login else "iam_role",
        "host": connection.host,
        "port": connection.port or 5439,
        "user": connection.login,
        "cluster_id": extra.get("cluster_identifier"),
        "iam_profile": AWS_PROFILE if extra.get("role_arn") else None,
        **{key: extra.get(key) for key in keys},
        **profile_args,
    }
    return {key: value for key, value in profile.items() if value is not None}
