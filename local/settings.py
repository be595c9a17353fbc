"""Where the stand-ins keep their state, which ports they take, and the passwords of this start.

Everything comes from `LOCAL_*` environment variables, so that two checkouts can run side by side.
"""

import errno
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
# The access key of the account's administrator at the stand-in.
ADMINISTRATOR_KEY = "local"
# The MWAA environment, as infra/ names it, and where its workers get their credentials.
ENVIRONMENT = "flights"
CREDENTIALS_PATH = "/local/credentials/"


class SetupError(Exception):
    """Something outside the pipeline is wrong. Its text says what, and which setting to change."""


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
        raise SetupError(f"{variable}={text!r} is not a port; set it to a number from 1 to 65535")
    return int(text)


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
        ports = {variable: _port(variable, default) for variable, default in defaults.items()}
        for variable, port in ports.items():
            if same := [other for other in ports if other != variable and ports[other] == port]:
                raise SetupError(f"{variable} and {same[0]} are both {port}; choose another port for one of them")
        # Set but empty is not set, as for the Makefile.
        return cls((REPOSITORY / (os.environ.get("LOCAL_DIR") or ".local")).resolve(), *ports.values())

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


def check_port(port: int, variable: str) -> None:
    """Fail early, and by name, when a port is taken.

    Raises:
        SetupError: something listens on `port`; the text names the variable that moves it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SetupError(
                    f"port {port} cannot be used ({error.strerror}); choose another: {variable}=<port>"
                ) from error
            raise SetupError(f"port {port} is busy; stop what uses it, or choose another: {variable}=<port>") from error


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
        # Redshift wants an upper-case letter, a lower-case letter and a digit in 8 to 64 characters.
        # https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html
        made = cls(*(f"Aa1{secrets.token_hex(16)}" for _ in range(5)))
        state.mkdir(parents=True, exist_ok=True)
        # A start that is killed half-way leaves the old file or the new one, never a part of it.
        half = state / "passwords.json.half"
        half.unlink(missing_ok=True)
        with os.fdopen(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(vars(made), file)
        half.replace(state / "passwords.json")
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
