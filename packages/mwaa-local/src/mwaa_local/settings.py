"""State folder and ports of the stand-ins, from `LOCAL_*` environment variables, and the passwords of a start.

With other values, two checkouts run side by side.
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
# The access key of the account's administrator.
ADMINISTRATOR_KEY = "local"
# The MWAA environment of infra/, and the path from which its workers get their credentials.
ENVIRONMENT = "local"
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
            SetupError: a port is not a number from 1 to 65535, or is used twice.
        """
        defaults = {"LOCAL_WAREHOUSE_PORT": 5439, "LOCAL_AWS_PORT": 4566, "LOCAL_AIRFLOW_PORT": 8080}
        ports = {variable: read_port(variable, default) for variable, default in defaults.items()}
        for variable, port in ports.items():
            if same := [other for other in ports if other != variable and ports[other] == port]:
                raise SetupError(f"{variable} and {same[0]} are both {port}; choose another port for one of them")
        return cls(state_folder(), *ports.values())

    @property
    def parse_cache(self) -> Path:
        """The folder with the results of dbt's parses."""
        return self.state / "parsed"

    @property
    def aws_url(self) -> str:
        """The value of `AWS_ENDPOINT_URL`."""
        return f"http://{HOST}:{self.aws_port}"

    def aws_environment(self) -> dict[str, str]:
        """Return variables that point boto3 to the AWS stand-in, and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ADMINISTRATOR_KEY,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            # The stand-in has one host for all of MWAA's endpoints.
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def worker_environment(self, name: str = ENVIRONMENT) -> dict[str, str]:
        """Return variables that give boto3 the execution role of an environment, as on MWAA's workers."""
        variables = self.aws_environment()
        del variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
        return {**variables, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.aws_url}{CREDENTIALS_PATH}{name}"}


@dataclass(frozen=True)
class Passwords:
    """The passwords of a start. They are only in `passwords.json` in the state folder (mode 0600)."""

    awsuser: str
    dbt_user: str
    airflow_database: str
    airflow_admin: str
    airflow_jwt: str

    @classmethod
    def generate(cls, state: Path) -> "Passwords":
        """Generate new passwords, and replace the stored ones of an earlier start."""
        passwords = cls(*(generate_password() for _ in range(5)))
        write_passwords(state, vars(passwords))
        return passwords

    @classmethod
    def load(cls, state: Path) -> "Passwords":
        """Read the passwords of the running start.

        Raises:
            SetupError: no stand-ins are running, or passwords.json is damaged.
        """
        path = state / "passwords.json"
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise SetupError("no stand-ins are running in this checkout; start them with: make up") from error
        except (ValueError, TypeError):
            # The cause could contain a password.
            raise SetupError(f"{path} is damaged; restart the stand-ins with: make down up") from None
