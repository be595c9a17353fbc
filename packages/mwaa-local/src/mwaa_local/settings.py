"""Where the stand-ins keep their state, which ports they take, and the passwords of this start.

Everything comes from `LOCAL_*` environment variables, so that two checkouts can run side by side.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from mwaa_release.repository import REPOSITORY, state_folder
from redshift_local.settings import HOST, SetupError, check_port, generate_password, read_port, write_passwords

__all__ = ["HOST", "REPOSITORY", "Passwords", "Settings", "SetupError", "check_port"]

REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
# The access key of the account's administrator at the stand-in.
ADMINISTRATOR_KEY = "local"
# The MWAA environment, as infra/ names it, and where its workers get their credentials.
ENVIRONMENT = "flights"
CREDENTIALS_PATH = "/local/credentials/"


@dataclass(frozen=True)
class Settings:
    """Paths and ports of one checkout's stand-ins."""

    state: Path
    warehouse_port: int
    aws_port: int
    airflow_port: int

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read `LOCAL_DIR`, `LOCAL_WAREHOUSE_PORT`, `LOCAL_AWS_PORT` and `LOCAL_AIRFLOW_PORT`.

        Raises:
            SetupError: a port is not a number from 1 to 65535, or stands there twice.
        """
        defaults = {"LOCAL_WAREHOUSE_PORT": 5439, "LOCAL_AWS_PORT": 4566, "LOCAL_AIRFLOW_PORT": 8080}
        ports = {variable: read_port(variable, default) for variable, default in defaults.items()}
        for variable, port in ports.items():
            if same := [other for other in ports if other != variable and ports[other] == port]:
                raise SetupError(f"{variable} and {same[0]} are both {port}; choose another port for one of them")
        return cls(state_folder(), *ports.values())

    @property
    def aws_url(self) -> str:
        """The address that `AWS_ENDPOINT_URL` is set to."""
        return f"http://{HOST}:{self.aws_port}"

    def aws_environment(self) -> dict[str, str]:
        """The variables with which boto3, anywhere, reaches the AWS stand-in and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ADMINISTRATOR_KEY,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            # The stand-in has one address for all of MWAA's.
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def worker_environment(self, name: str = ENVIRONMENT) -> dict[str, str]:
        """The variables with which boto3 reaches it as the execution role of an environment, as on MWAA's workers."""
        kept = self.aws_environment()
        del kept["AWS_ACCESS_KEY_ID"], kept["AWS_SECRET_ACCESS_KEY"]
        return {**kept, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.aws_url}{CREDENTIALS_PATH}{name}"}


@dataclass(frozen=True)
class Passwords:
    """The passwords of this start, kept only in `passwords.json` under the state folder (mode 0600)."""

    awsuser: str
    dbt_user: str
    airflow_database: str
    airflow_admin: str
    airflow_jwt: str

    @classmethod
    def generate(cls, state: Path) -> "Passwords":
        """Make new passwords and keep them under `state`, replacing those of an earlier start."""
        made = cls(*(generate_password() for _ in range(5)))
        write_passwords(state, vars(made))
        return made

    @classmethod
    def load(cls, state: Path) -> "Passwords":
        """Read the passwords of the running start.

        Raises:
            SetupError: nothing runs in this checkout, or the file was changed by hand.
        """
        path = state / "passwords.json"
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise SetupError("nothing runs here; start it with: make up") from error
        except (ValueError, TypeError):
            # Without the cause: it could show a password.
            raise SetupError(f"{path} was damaged; start anew with: make down up") from None
