"""An MWAA environment on the laptop: Amazon's image, startup.sh, requirements.txt, and the Airflow components.

The bucket is its only input, as on MWAA. LocalExecutor runs the tasks; the metadata is in a PostgreSQL of its own.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from mwaa_local.mwaa.api import Airflow
from mwaa_local.mwaa.image import Image, read, run
from mwaa_local.mwaa.sync import DagsSync
from mwaa_local.processes import Child, base_environment, how_it_ended, spawn, tail
from mwaa_local.settings import HOST, Passwords, Settings, SetupError
from redshift_local.server.postgres import OWNER, PORT, Postgres

SYNC_SECONDS = 2.0  # MWAA: 30
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class Mwaa:
    """One environment.

    Args:
        settings: paths and ports.
        passwords: of this start.
        s3: boto3 client that reaches the bucket.
        bucket: the environment's bucket.
    """

    def __init__(self, settings: Settings, passwords: Passwords, s3: Any, bucket: str) -> None:
        self.home = settings.state / "mwaa"
        self.venv = settings.state / "venvs" / "mwaa"
        self._image = Image(self.venv, self.home / "logs")
        self._settings = settings
        self._passwords = passwords
        self._s3 = s3
        self._bucket = bucket
        self._database = Postgres(self.home / "database")
        self._sync = DagsSync(s3, bucket, self.home / "dags")
        self.children: list[Child] = []

    def install_image(self) -> None:
        """Make the virtual environment that stands for Amazon's image, unless it is there.

        Raises:
            SetupError: uv could not install it.
        """
        self._image.install()

    def install_requirements(self) -> None:
        """Install the bucket's requirements.txt as MWAA does: with pip, under the image's constraints.

        Raises:
            SetupError: pip failed. MWAA would only log it and start all the same, without the DAGs.
        """
        self._image.install_requirements(self._from_bucket("requirements.txt"))

    def start_database(self) -> None:
        """Start the metadata database and bring its tables to the image's version of Airflow."""
        self._database.start()
        marker = self.home / "database" / "migrated"
        if read(marker) == self._image.version:
            return
        import psycopg

        with psycopg.connect(self._database.conninfo("postgres"), autocommit=True) as connection:
            if not connection.execute("select 1 from pg_database where datname = 'airflow'").fetchone():
                connection.execute("create database airflow")
        run([str(self.venv / "bin" / "airflow"), "db", "migrate"], self._airflow_environment({}), self._log("migrate"))
        marker.write_text(self._image.version)

    def run_startup_script(self, component: str) -> dict[str, str]:
        """Source the bucket's startup.sh as MWAA does, and return the environment that it leaves.

        Args:
            component: value of MWAA_AIRFLOW_COMPONENT.
        """
        path = self._from_bucket("startup.sh")
        exported = self.home / f"startup.{component}.env"
        environment = {
            **base_environment(),
            "AIRFLOW_HOME": str(self.home),
            "MWAA_AIRFLOW_COMPONENT": component,
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        with self._log(f"startup.{component}").open("wb") as log:
            subprocess.run(
                ["/bin/bash", "-c", 'source "$1"; env -0 > "$2"', "startup", str(path), str(exported)],
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if not exported.exists():
            raise SetupError(
                f"startup.sh ended its shell; on MWAA the container would die. It said:\n{tail(Path(log.name))}"
            )
        pairs = (entry.partition("=") for entry in exported.read_text().split("\0") if entry)
        exported.unlink()
        return {name: value for name, _, value in pairs}

    def copy_dags(self) -> None:
        """Copy the bucket's dags/ once, then keep copying."""
        (self.home / "dags").mkdir(parents=True, exist_ok=True)
        self._sync.once()
        self._sync.start(SYNC_SECONDS)

    def start_airflow(self) -> None:
        """Start the Airflow components; they need up to 20 seconds until they work."""
        shutil.rmtree(self.home / "tmp", ignore_errors=True)
        (self.home / "tmp").mkdir(parents=True)
        worker = self._airflow_environment(self.run_startup_script("hybrid"))
        webserver = self._airflow_environment(self.run_startup_script("webserver"))
        for component in COMPONENTS:
            command = [str(self.venv / "bin" / "airflow"), component]
            if component in {"scheduler", "triggerer"}:
                command.append("--skip-serve-logs")
            environment = webserver if component == "api-server" else worker
            self.children.append(
                spawn(f"airflow {component}", command, environment, self._log(component), self.home / "tmp")
            )

    def wait_until_healthy(self, airflow: Airflow, seconds: float) -> None:
        """Wait until every component says it is healthy.

        Raises:
            SetupError: a component ended, or one was not healthy in time.
        """
        until = time.monotonic() + seconds
        wanted = {"metadatabase", "scheduler", "triggerer", "dag_processor"}
        while True:
            health = airflow.health()
            if all(health.get(part) == "healthy" for part in wanted):
                return
            self.check()
            if time.monotonic() > until:
                sick = ", ".join(sorted(part for part in wanted if health.get(part) != "healthy"))
                raise SetupError(
                    f"Airflow was not healthy after {seconds:.0f} s ({sick}); logs are in {self.home / 'logs'}"
                )
            time.sleep(0.25)

    def check(self) -> None:
        """Raise if a component or the metadata database has ended by itself.

        Raises:
            SetupError: one has; the text names it and shows the end of its log.
        """
        # Without it the components end too: it is to blame.
        database = self._database
        if database.process and database.process.poll() is not None:
            raise SetupError(how_it_ended("Airflow's metadata database", database.process.returncode, database.log))
        for child in self.children:
            child.check()

    def stop_copying(self) -> None:
        """Stop copying the bucket; before the bucket goes away."""
        self._sync.stop()

    def stop_database(self) -> None:
        """Stop the metadata database; after the components, which are stopped with all children."""
        self._database.stop()

    def _from_bucket(self, name: str) -> Path:
        path = self.home / name
        path.write_bytes(self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read())
        return path

    def _log(self, name: str) -> Path:
        folder = self.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def _airflow_environment(self, startup: dict[str, str]) -> dict[str, str]:
        users = self.home / "users.json"
        users.unlink(missing_ok=True)
        with os.fdopen(os.open(users, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump({"admin": self._passwords.airflow_admin}, file)
        database = f"postgresql+psycopg2://{OWNER}@/airflow?host={self._database.socket_folder}&port={PORT}"
        lookup = {
            "connections_prefix": "airflow/connections",
            "connections_lookup_pattern": "^(?!aws_default$).*$",
            "variables_prefix": None,
            "config_prefix": None,
        }
        address = f"http://{HOST}:{self._settings.airflow_port}"
        options = {
            # The environment's own, as infra/ sets them on MWAA.
            "AIRFLOW__SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(lookup),
            "AIRFLOW__DBT__KEPT_RESULTS": f"s3://{self._bucket}/kept_results",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # What MWAA decides: addresses, keys, the executor.
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": os.environ.get("LOCAL_PARALLELISM", "4"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": self._fernet_key(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users),
            "AIRFLOW__API__BASE_URL": address,
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(self._settings.airflow_port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": self._passwords.airflow_jwt,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs" / "tasks"),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.home / "logs" / "dag_processor"),
            # Shorter than on MWAA, so that a laptop need not wait.
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            # The image sets it after startup.sh, whatever startup.sh exports.
            "PYTHONPATH": "/python",
            "TMPDIR": str(self.home / "tmp"),
            "NO_PROXY": HOST,
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            **self._settings.worker_environment(),
        }
        return {**base_environment(), **startup, **options}

    def _fernet_key(self) -> str:
        """The key that Airflow encrypts with: one for all components, and as old as the database, as on MWAA."""
        path = self.home / "fernet.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
        return path.read_text()
