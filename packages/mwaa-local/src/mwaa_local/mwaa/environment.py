"""An MWAA environment on the laptop: Amazon's image, startup.sh, requirements.txt, and the Airflow components.

The bucket is its only input, as on MWAA. LocalExecutor runs the tasks. The metadata database is a separate PostgreSQL.
"""

import base64
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mwaa_local.mwaa.api import Airflow
from mwaa_local.mwaa.image import Image, read, run
from mwaa_local.mwaa.metadata import DATABASE, prepare_metadata
from mwaa_local.mwaa.startup import merge_environment, run_startup_script
from mwaa_local.mwaa.sync import DagsSync
from mwaa_local.processes import Child, base_environment, how_it_ended, spawn
from mwaa_local.settings import HOST, Passwords, Settings, SetupError
from mwaa_local.templates import Template
from redshift_local.server.postgres import OWNER, PORT, Postgres

SYNC_SECONDS = 4.0  # MWAA: 30
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class Mwaa:
    """One environment.

    Args:
        settings: paths and ports.
        passwords: the passwords of this start.
        s3: boto3 client with access to the bucket.
        bucket: the environment's bucket.
        parameters: of `infra/environment.yml`, if they differ from its defaults.
    """

    def __init__(
        self,
        settings: Settings,
        passwords: Passwords,
        s3: Any,
        bucket: str,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.home = settings.state / "mwaa"
        # Tests share it by symbolic links, which end before it.
        self.venv = (settings.state / "venvs" / "mwaa").resolve()
        self._image = Image(self.venv, self.home / "logs")
        self._settings = settings
        self._passwords = passwords
        self._s3 = s3
        self._bucket = bucket
        self._options = configuration_options(bucket, parameters or {})
        self._database = Postgres(self.home / "database")
        self._sync = DagsSync(s3, bucket, self.home / "dags")
        self.children: list[Child] = []

    def install_image(self) -> None:
        """Create the virtual environment with the packages of Amazon's image, if it is missing.

        Raises:
            SetupError: uv could not install it.
        """
        self._image.install()

    def install_requirements(self, environment: dict[str, str]) -> None:
        """Install the bucket's requirements.txt by pip with the image's constraints, as MWAA does.

        Args:
            environment: what `run_startup_script` returned.

        Raises:
            SetupError: pip failed. MWAA would only log the error and start without the packages.
        """
        self._image.install_requirements(self._from_bucket("requirements.txt"), environment)

    def start_database(self) -> None:
        """Start the metadata database, and migrate it to the image's version of Airflow."""
        self._database.start()
        marker = self.home / "database" / "migrated"
        if read(marker) == self._image.version:
            return
        command = [str(self.venv / "bin" / "airflow"), "db", "migrate"]
        prepare_metadata(
            self._database,
            self.venv / "metadata.sql",
            lambda: run(command, self._airflow_environment("migrate-db"), self._log("migrate")),
        )
        marker.write_text(self._image.version)

    def run_startup_script(self, component: str) -> dict[str, str]:
        """Run the bucket's startup.sh as MWAA does, and return the environment of the component's processes.

        Args:
            component: value of MWAA_AIRFLOW_COMPONENT.

        Raises:
            SetupError: startup.sh would stop the container on MWAA.
        """
        script, log = self._from_bucket("startup.sh"), self._log(f"startup.{component}")
        exported = run_startup_script(script, self._airflow_environment(component), log)
        return self._airflow_environment(component, exported)

    def copy_dags(self) -> None:
        """Copy the bucket's dags/ once, then keep copying."""
        (self.home / "dags").mkdir(parents=True, exist_ok=True)
        self._sync.once()
        self._sync.start(SYNC_SECONDS)

    def start_airflow(self) -> None:
        """Run startup.sh, install requirements.txt and start Airflow. It is ready after up to 20 seconds.

        Raises:
            SetupError: startup.sh would stop the container on MWAA, or pip failed.
        """
        shutil.rmtree(self.home / "tmp", ignore_errors=True)
        (self.home / "tmp").mkdir(parents=True)
        worker = self.run_startup_script("hybrid")
        self.install_requirements(worker)
        webserver = self.run_startup_script("webserver")
        for component in COMPONENTS:
            command = [str(self.venv / "bin" / "airflow"), component]
            if component in {"scheduler", "triggerer"}:
                command.append("--skip-serve-logs")
            environment = {**(webserver if component == "api-server" else worker), "PGAPPNAME": component}
            self.children.append(
                spawn(f"airflow {component}", command, environment, self._log(component), self.home / "tmp")
            )

    def wait_until_healthy(self, airflow: Airflow, seconds: float) -> None:
        """Wait until every component is healthy.

        Raises:
            SetupError: a component has ended, or is not healthy in time.
        """
        until = time.monotonic() + seconds
        components = {"metadatabase", "scheduler", "triggerer", "dag_processor"}
        while True:
            health = airflow.health()
            if all(health.get(part) == "healthy" for part in components):
                return
            self.check()
            if time.monotonic() > until:
                unhealthy = ", ".join(sorted(part for part in components if health.get(part) != "healthy"))
                raise SetupError(
                    f"Airflow was not healthy after {seconds:.0f} s ({unhealthy}); logs are in {self.home / 'logs'}"
                )
            time.sleep(0.25)

    def check(self) -> None:
        """Raise if a component or the metadata database has ended by itself.

        Raises:
            SetupError: one has ended; the text names it and shows the end of its log.
        """
        # Check the database first, because the components end without it.
        database = self._database
        if database.process and database.process.poll() is not None:
            raise SetupError(how_it_ended("Airflow's metadata database", database.process.returncode, database.log))
        for child in self.children:
            child.check()

    def end_sessions(self, component: str) -> None:
        """End a killed component's sessions in the metadata database.

        Its workers survive it and hold its sockets open. A transaction of it would keep the scheduler's lock forever.
        On MWAA, no process outside the component's container has its sockets.
        """
        import psycopg

        end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
        with psycopg.connect(self._database.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(end, [component])

    def stop_copying(self) -> None:
        """Stop copying the bucket. Call this before AWS stops."""
        self._sync.stop()

    def stop_database(self) -> None:
        """Stop the metadata database. Call this after the components have ended."""
        self._database.stop()

    def _from_bucket(self, name: str) -> Path:
        path = self.home / name
        path.write_bytes(self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read())
        return path

    def _log(self, name: str) -> Path:
        folder = self.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def _airflow_environment(self, component: str, startup: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a component, with the variables that startup.sh has left."""
        users = self.home / "users.json"
        users.unlink(missing_ok=True)
        with os.fdopen(os.open(users, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump({"admin": self._passwords.airflow_admin}, file)
        database = f"postgresql+psycopg2://{OWNER}@/{DATABASE}?host={self._database.socket_folder}&port={PORT}"
        address = f"http://{HOST}:{self._settings.airflow_port}"
        container = {
            **base_environment(),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": address,
            # Where the image keeps its own Python modules.
            "PYTHONPATH": "/python",
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        essential = {
            # The image sets these on MWAA.
            "MWAA_AIRFLOW_COMPONENT": component,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": self._fernet_key(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__API_AUTH__JWT_SECRET": self._passwords.airflow_jwt,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            # Only the stand-in needs these.
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__PARALLELISM": os.environ.get("LOCAL_PARALLELISM", "4"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users),
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(self._settings.airflow_port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs" / "tasks"),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.home / "logs" / "dag_processor"),
            # Shorter than on MWAA, to shorten the wait on a laptop.
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "TMPDIR": str(self.home / "tmp"),
            "NO_PROXY": HOST,
            **self._settings.worker_environment(),
        }
        return merge_environment(container, startup or {}, self._options, essential)

    def _fernet_key(self) -> str:
        """Return Airflow's encryption key, which is kept as long as the database, as on MWAA."""
        path = self.home / "fernet.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
        return path.read_text()


def configuration_options(bucket: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the Airflow options that `infra/environment.yml` sets, as environment variables."""
    template = Template("environment.yml", {"DagsBucketName": bucket, **parameters})
    properties = template.content["Resources"]["Environment"]["Properties"]
    options = template.evaluate(properties["AirflowConfigurationOptions"])
    return {f"AIRFLOW__{name.replace('.', '__').upper()}": str(value) for name, value in options.items()}
