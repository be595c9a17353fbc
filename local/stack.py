"""All stand-ins together: started in the right order, side by side where possible, stopped without leftovers."""

import contextlib
import fcntl
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import redshift_connector

from deploy.apply import apply
from deploy.bucket import Bucket, aws_client
from deploy.build import build
from deploy.redshift import apply_grants
from deploy.sample_data import load_sample, upload_sample
from local.aws import seed
from local.mwaa.api import Airflow
from local.mwaa.environment import Mwaa
from local.processes import Child, base_environment, spawn, stop, sweep, wait_for_line
from local.progress import Steps
from local.settings import HOST, REPOSITORY, Passwords, Settings, SetupError, check_port

DATABASE = "dev"
TARGET_SCHEMA = "analytics"
PROJECT = REPOSITORY / "dbt_project"


def connect(settings: Settings, user: str, password: str) -> redshift_connector.Connection:
    """Open a connection to the warehouse, as a client of Redshift does."""
    return redshift_connector.connect(
        host=HOST, port=settings.warehouse_port, database=DATABASE, user=user, password=password, ssl=False
    )


class Stack:
    """The warehouse, AWS and MWAA of one checkout.

    Args:
        settings: paths and ports.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.children: list[Child] = []
        self._lock: IO[str] | None = None
        self._mwaa: Mwaa | None = None

    def take_lock(self) -> None:
        """Make this process the only one that starts stand-ins in this checkout.

        Raises:
            SetupError: another command has them.
        """
        self.settings.state.mkdir(parents=True, exist_ok=True)
        self._lock = (self.settings.state / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise SetupError(
                "another command runs the stand-ins of this checkout; wait for it, or stop it with: make down"
            ) from None

    def start(self, steps: Steps, project: Path = PROJECT) -> str:
        """Start everything, load the sample data, release the repository, and return the release_id.

        Args:
            steps: where progress is shown.
            project: the dbt project to release.

        Raises:
            SetupError: something could not be started; the text says what and why.
        """
        settings = self.settings
        for port, variable in (
            (settings.warehouse_port, "LOCAL_WAREHOUSE_PORT"),
            (settings.aws_port, "LOCAL_AWS_PORT"),
            (settings.airflow_port, "LOCAL_AIRFLOW_PORT"),
        ):
            check_port(port, variable)
        passwords = Passwords.generate(settings.state)
        self._mwaa = Mwaa(settings, passwords, seed.client(settings, "s3"), seed.DAGS_BUCKET)
        with ThreadPoolExecutor() as pool:
            try:
                image = pool.submit(self._image, steps)
                aws = pool.submit(self._aws, steps, passwords)
                warehouse = pool.submit(self._warehouse, steps)
                aws.result()
                release = pool.submit(self.release, steps, project)
                warehouse.result()
                data = pool.submit(self._data, steps, passwords)
                release.result()
                image.result()
                self._airflow(steps, passwords)
                data.result()
                return release.result()
            except BaseException:
                # What the other steps have started must end, or they would be waited for.
                self._stop_processes()
                raise

    def check(self) -> None:
        """Raise if a stand-in has ended by itself.

        Raises:
            SetupError: one has; the text names it and shows the end of its log.
        """
        for child in self.children + (self._mwaa.children if self._mwaa else []):
            child.check()

    def release(self, steps: Steps, project: Path = PROJECT) -> str:
        """Release the repository to the bucket, and return the release_id.

        Args:
            steps: where progress is shown.
            project: the dbt project to release; a drill gives an altered copy.
        """
        with steps.step("Release: build the manifest, upload to S3") as step:
            folder = self.settings.state / "release"
            artefact = build(folder, [project], progress=lambda what, *_, **__: step.say(what))
            applied = apply(artefact, Bucket(seed.DAGS_BUCKET, aws_client("s3")), lambda what, *_, **__: step.say(what))
            shutil.rmtree(folder, ignore_errors=True)
            return applied.releases[artefact.releases[0].project_name]

    def stop(self) -> None:
        """Stop everything. A further Ctrl-C is not heard meanwhile, so that nothing is left."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._stop_processes()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._lock:
                self._lock.close()

    def _stop_processes(self) -> None:
        if self._mwaa:
            self._mwaa.stop_copying()
        stop((self._mwaa.children if self._mwaa else []) + self.children)
        if self._mwaa:
            self._mwaa.stop_database()
        sweep(self.settings.state)
        for name in ("passwords.json", "stack.json"):
            (self.settings.state / name).unlink(missing_ok=True)

    def _python(self, module: str, *arguments: str) -> Child:
        name = module.removeprefix("local.")
        environment = {**base_environment(), **self.settings.aws_environment()}
        child = spawn(
            name,
            [sys.executable, "-m", module, *arguments],
            environment,
            self.settings.state / "logs" / f"{name}.log",
            REPOSITORY,
        )
        self.children.append(child)
        return child

    def _aws(self, steps: Steps, passwords: Passwords) -> None:
        with steps.step("AWS: S3, Secrets Manager, SNS, Lambda"):
            child = self._python("local.aws")
            wait_for_line(child, "ready", 60)
            seed.seed(self.settings, passwords, HOST, self.settings.warehouse_port)

    def _warehouse(self, steps: Steps) -> None:
        with steps.step("Warehouse"):
            wait_for_line(self._python("local.warehouse", "--with-parent"), "accepts connections", 120)

    def _data(self, steps: Steps, passwords: Passwords) -> None:
        with steps.step("Sample data: S3 to schema raw by COPY, grants of dbt_user") as step:
            s3 = seed.client(self.settings, "s3")

            def show(what: str, *_: int, **__: int) -> None:
                step.say(what)

            upload_sample(s3, seed.LANDING_BUCKET, self.settings.state / "sample-data", show)
            with contextlib.closing(connect(self.settings, "awsuser", passwords.awsuser)) as connection:
                load_sample(s3, connection, seed.LANDING_BUCKET, progress=show)
                apply_grants(connection, "dbt_user", passwords.dbt_user, "raw", TARGET_SCHEMA)

    def _image(self, steps: Steps) -> None:
        with steps.step("MWAA: image and metadata database"):
            self._mwaa.install_image()
            self._mwaa.start_database()

    def _airflow(self, steps: Steps, passwords: Passwords) -> None:
        with steps.step("MWAA: requirements.txt, startup.sh (dbt's virtual environment)"):
            self._mwaa.install_requirements()
            self._mwaa.copy_dags()
            self._mwaa.start_airflow()
        with steps.step("MWAA: scheduler, DAG processor, triggerer, API server"), self.airflow(passwords) as airflow:
            self._mwaa.wait_until_healthy(airflow, 180)

    def airflow(self, passwords: Passwords) -> "contextlib.closing[Airflow]":
        """A client of the local Airflow, as a context manager."""
        return contextlib.closing(Airflow(self.settings.airflow_port, passwords.airflow_admin))


def rows(connection: Any, query: str, parameters: tuple[Any, ...] = ()) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a query; return the names of its columns, and its rows."""
    cursor = connection.cursor()
    cursor.execute(query, parameters)
    if cursor.description is None:
        return [], []
    return [column[0] for column in cursor.description], [tuple(row) for row in cursor.fetchall()]
