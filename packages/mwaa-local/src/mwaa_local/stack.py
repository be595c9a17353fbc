"""Starts all stand-ins, in parallel where possible, and stops them without leftovers."""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import IO, Any

import redshift_connector

from audit_report.redshift import quote_identifier
from mwaa_local.aws import roles, seed
from mwaa_local.aws.seed_ecs import seed_ecs
from mwaa_local.mwaa.api import Airflow
from mwaa_local.mwaa.environment import Mwaa
from mwaa_local.processes import (
    STACK_LOCK,
    Child,
    base_environment,
    mark_this_command,
    spawn,
    stop,
    sweep,
    take_lock,
    wait_for_line,
)
from mwaa_local.serverless.releases import Releases
from mwaa_local.serverless.service_airflow import install_airflow
from mwaa_local.settings import ENVIRONMENT, HOST, REPOSITORY, Passwords, Settings, SetupError, check_port
from mwaa_local.signals import uninterrupted
from mwaa_local.target import ECS, SERVERLESS, use_ecs
from mwaa_pipelines.load_files import RECORDS, Loader
from mwaa_pipelines.settings import Pipeline
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build, find_projects
from mwaa_release.manifest import schemas
from mwaa_release.pipelines import all_pipelines, first_pipeline
from mwaa_release.progress import Steps, console
from mwaa_release.redshift import apply_grants
from mwaa_release.release import MANIFEST_FILE, Artifact
from mwaa_release.sample_data import create_tables, upload_sample

DATABASE = "dev"
PROJECT = REPOSITORY / "dbt_project"


def connect(settings: Settings, user: str, password: str) -> redshift_connector.Connection:
    """Connect to the warehouse."""
    return redshift_connector.connect(
        host=HOST, port=settings.warehouse_port, database=DATABASE, user=user, password=password, ssl=False
    )


def clean(settings: Settings) -> int:
    """Stop leftover processes of a checkout, and remove passwords and working directories.

    Returns:
        The number of leftover processes.
    """
    stopped = sweep(settings.state)
    for name in ("passwords.json", "stack.json"):
        (settings.state / name).unlink(missing_ok=True)
    for name in ("mwaa/tmp", "release.partial"):
        shutil.rmtree(settings.state / name, ignore_errors=True)
    return stopped


class Stack:
    """The warehouse, AWS and MWAA of one checkout.

    Args:
        settings: paths and ports.
        parameters: of `infra/environment.yml`, if they differ from its defaults.
        target: `ecs` to run dbt in ECS, `serverless` for workflows instead of DAGs; empty: as the pipelines say.
    """

    def __init__(self, settings: Settings, parameters: Mapping[str, str] | None = None, target: str = "") -> None:
        self.settings = settings
        self._target = target
        self._parameters = parameters
        self.children: list[Child] = []
        self._lock: IO[str] | None = None
        self._mwaa: Mwaa | None = None
        # Of each released project: of its sources, and those that it builds in.
        self._schemas: dict[str, tuple[set[str], set[str]]] = {}
        mark_this_command(settings.state)

    def take_lock(self) -> None:
        """Make this process the only one that starts stand-ins in this checkout.

        Raises:
            SetupError: another command has the lock.
        """
        self._lock = take_lock(
            self.settings.state / STACK_LOCK,
            "another command is running the stand-ins of this checkout; wait for it, or stop it with: make down",
        )

    def start(self, steps: Steps, project: Path = PROJECT, load: bool = False) -> dict[str, str]:
        """Start everything, upload the sample data, and release the repository.

        Args:
            steps: where progress is shown.
            project: released instead of `dbt_project/`.
            load: also load the sample data, for work on models before the first run of the pipeline.

        Returns:
            The release_id of each project.

        Raises:
            SetupError: a stand-in could not start; the text says which, and why.
        """
        settings = self.settings
        # This process holds the lock, so other processes are leftovers of a killed command.
        clean(settings)
        for port, variable in (
            (settings.warehouse_port, "LOCAL_WAREHOUSE_PORT"),
            (settings.aws_port, "LOCAL_AWS_PORT"),
            (settings.airflow_port, "LOCAL_AIRFLOW_PORT"),
        ):
            check_port(port, variable)
        passwords = Passwords.generate(settings.state)
        is_serverless = self._target == SERVERLESS
        if not is_serverless:
            self._mwaa = self._new_mwaa(passwords)
        with ThreadPoolExecutor(max_workers=8) as pool:

            def begin(work: Callable[..., Any], *arguments: Any, after: Sequence[Future[Any]] = ()) -> Future[Any]:
                def work_in_turn() -> Any:
                    for earlier in after:
                        earlier.result()
                    return work(steps, *arguments)

                return pool.submit(work_in_turn)

            image = begin(self._service if is_serverless else self._image)
            aws = begin(self._aws, passwords)
            warehouse = begin(self._warehouse)
            release = begin(self.release, project, after=(aws,))
            # A workflow loads no files.
            data = begin(self._data, passwords, project, load or is_serverless, after=(aws, warehouse))
            grants = begin(self.grant, after=(release, data))
            everything = [image, aws, warehouse, release, data, grants]
            if not is_serverless:
                everything.append(begin(self._airflow, after=(image, release)))
            try:
                for ended in as_completed(everything):
                    ended.result()
            except BaseException:
                steps.abandon()
                # The other steps may start more processes before they end.
                while True:
                    self._stop_processes()
                    if not wait(everything, timeout=0.5).not_done:
                        break
                raise
            return release.result()

    def _new_mwaa(self, passwords: Passwords) -> Mwaa:
        s3 = roles.client_of(roles.worker_session(self.settings), self.settings, "s3")
        parameters = {
            "PipelinesEnvironment": first_pipeline().environment or "",
            "LandingBucketName": seed.LANDING_BUCKET,
        }
        return Mwaa(self.settings, passwords, s3, seed.DAGS_BUCKET, parameters | dict(self._parameters or {}))

    def start_warehouse(self) -> None:
        """Start the warehouse alone, and return when it accepts connections.

        Raises:
            SetupError: the warehouse ended, or did not start in time.
        """
        options = [f"--port={self.settings.warehouse_port}", f"--folder={self.settings.state}"]
        child = self._python("warehouse", "redshift_local", "serve", "--with-parent", *options)
        wait_for_line(child, "accepts connections", 120)

    def start_for_models(self, steps: Steps) -> None:
        """Start the warehouse for work on models, without Airflow. AWS starts only to load the sample data.

        Raises:
            SetupError: a stand-in could not start; the text says which, and why.
        """
        clean(self.settings)
        check_port(self.settings.warehouse_port, "LOCAL_WAREHOUSE_PORT")
        passwords = Passwords.generate(self.settings.state)
        self._warehouse(steps)
        with contextlib.closing(connect(self.settings, "awsuser", passwords.awsuser)) as connection:
            connection.autocommit = True
            _, tables = rows(connection, "select 1 from svv_tables where table_schema = 'landing'")
            # Without records, the tables were created for a run that has not loaded anything.
            records = (first_pipeline().target_schema, RECORDS)
            query = "select 1 from svv_tables where table_schema = %s and table_name = %s"
            is_loaded = tables and (not first_pipeline().load or rows(connection, query, records)[1])
            if is_loaded:
                _grant_first_pipeline(connection, passwords)
        if not is_loaded:
            check_port(self.settings.aws_port, "LOCAL_AWS_PORT")
            self._aws(steps, passwords)
            self._data(steps, passwords, load=True)

    def check(self) -> None:
        """Raise if a stand-in has ended by itself.

        Raises:
            SetupError: a stand-in has ended; the text names it and shows the end of its log.
        """
        for child in self.children:
            child.check()
        if self._mwaa:
            self._mwaa.check()

    def release(self, steps: Steps, project: Path = PROJECT) -> dict[str, str]:
        """Release the repository to the bucket, and return the release_id of each project.

        Args:
            steps: where progress is shown.
            project: released instead of `dbt_project/`.
        """
        with steps.step("Release: build the manifest, upload to S3") as step:
            folder = self.settings.state / "release"
            projects = [project, *(other for other in find_projects() if other != PROJECT)]

            def say(what: str, *_: int, **__: int) -> None:
                step.say(what)

            serverless = Releases(self.settings) if self._target == SERVERLESS else None
            if serverless:
                artifact = serverless.build(folder, projects, say)
            else:
                artifact = build(folder, projects, progress=say, cache=self.settings.parse_cache)
            for release in artifact.releases:
                manifest = json.loads((folder / release.prefix / MANIFEST_FILE).read_bytes())
                self._schemas[release.project_name] = schemas(manifest)
            if self._target == ECS:
                seed_ecs(self.settings)
                use_ecs(folder)
                artifact = Artifact.read(folder)
            # With the role of infra/github.yml, as in a GitHub workflow.
            session = roles.job_session(self.settings, seed.RELEASE_ROLE_ARN)
            s3, mwaa = (roles.client_of(session, self.settings, service) for service in ("s3", "mwaa"))
            applied = apply(
                artifact,
                Bucket(seed.DAGS_BUCKET, s3),
                say,
                mwaa_client=mwaa,
                environment=None if serverless else ENVIRONMENT,
                workflows=serverless.workflows(session) if serverless else None,
            )
            shutil.rmtree(folder, ignore_errors=True)
            return applied.releases

    def update(self, steps: Steps, project: Path = PROJECT) -> dict[str, str]:
        """Release the repository to running stand-ins, with the logins of pipelines that are new. See `release`."""
        seed.seed(self.settings, Passwords.load(self.settings.state), HOST, self.settings.warehouse_port)
        releases = self.release(steps, project)
        self.grant(steps)
        return releases

    def grant(self, steps: Steps) -> None:
        """Create the users of all pipelines but the first, as `make bring` prints it for a superuser.

        Args:
            steps: where progress is shown.
        """
        others = [pipeline for pipeline in all_pipelines()[1:] if pipeline.project_name in self._schemas]
        if not others:
            return
        passwords = Passwords.load(self.settings.state)
        with (
            steps.step(f"Users of {', '.join(pipeline.dag_name for pipeline in others)}"),
            contextlib.closing(connect(self.settings, "awsuser", passwords.awsuser)) as connection,
        ):
            for pipeline in others:
                make_user(connection, passwords, pipeline, *self._schemas[pipeline.project_name])

    def stop(self) -> None:
        """Stop everything, and ignore Ctrl-C until the end. Without the lock, stop nothing."""
        if not self._lock:
            return
        with uninterrupted():
            try:
                with console.status("Stopping ...") if console.is_terminal else contextlib.nullcontext():
                    self._stop_processes()
            finally:
                self._lock.close()

    def _stop_processes(self) -> None:
        if self._mwaa:
            self._mwaa.stop_copying()
            # The scheduler would wait for its tasks.
            stop(self._mwaa.children, seconds=1)
            self._mwaa.stop_database()
        stop(self.children)
        clean(self.settings)

    def _python(self, name: str, module: str, *arguments: str) -> Child:
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
            child = self._python("aws", "mwaa_local", "aws", "--with-parent")
            wait_for_line(child, "ready", 60)
            seed.seed(self.settings, passwords, HOST, self.settings.warehouse_port)

    def _warehouse(self, steps: Steps) -> None:
        with steps.step("Warehouse"):
            self.start_warehouse()

    def _data(self, steps: Steps, passwords: Passwords, project: Path = PROJECT, load: bool = False) -> None:
        pipeline, s3 = first_pipeline(), seed.client(self.settings, "s3")
        with contextlib.closing(connect(self.settings, "awsuser", passwords.awsuser)) as connection:
            if _reads_sample(project):
                with steps.step("Sample data: files to S3, tables to schema landing") as step:

                    def show(what: str, *_: int, **__: int) -> None:
                        step.say(what)

                    upload_sample(s3, seed.LANDING_BUCKET, self.settings.state / "sample-data", show)
                    create_tables(connection, pipeline.target_schema)
            with steps.step("Grants of dbt_user"):
                connection.autocommit = True
                rows(connection, "create schema if not exists landing")
                _grant_first_pipeline(connection, passwords)
        if load and pipeline.load:
            user = seed.database_user(pipeline)
            with (
                steps.step("Files of the landing bucket: S3 to Redshift by COPY"),
                contextlib.closing(connect(self.settings, user, passwords.dbt_user)) as connection,
            ):
                # As the first task of a run does it.
                loader = Loader(connection, s3, pipeline.target_schema, run_id="local")
                for table in pipeline.load:
                    if problems := loader.load(table, table.bucket or seed.LANDING_BUCKET).problems:
                        raise SetupError("\n".join(problems))

    def _image(self, steps: Steps) -> None:
        with steps.step("MWAA: image and metadata database"):
            self._mwaa.install_image()
            self._mwaa.start_database()

    def _service(self, steps: Steps) -> None:
        with steps.step("MWAA Serverless: its Airflow"):
            install_airflow(self.settings.state)

    def _airflow(self, steps: Steps) -> None:
        with steps.step("MWAA: startup.sh (dbt's virtual environment), requirements.txt"):
            self._mwaa.copy_dags()
            self._mwaa.start_airflow()
        with steps.step("MWAA: scheduler, DAG processor, triggerer, API server"), self.airflow() as airflow:
            self._mwaa.wait_until_healthy(airflow, 180)

    def airflow(self) -> "contextlib.closing[Airflow]":
        """Return a context manager with a client of the local Airflow."""
        return contextlib.closing(
            Airflow(self.settings.airflow_port, Passwords.load(self.settings.state).airflow_admin)
        )


def make_user(
    connection: redshift_connector.Connection,
    passwords: Passwords,
    pipeline: Pipeline,
    sources: Collection[str],
    built: Collection[str],
) -> None:
    """Create or update the database user of a pipeline that is not the first, and the schemas that it builds in.

    Args:
        connection: a superuser's.
        passwords: the current ones.
        pipeline: of the user.
        sources: schemas of the sources of its project.
        built: schemas that its project builds in.
    """
    own = {*built, pipeline.target_schema}
    public = sorted({other.target_schema for other in all_pipelines()}.intersection(sources) - {pipeline.target_schema})
    readable = sorted(set(sources) - own - set(public)) or ["landing"]
    user = seed.database_user(pipeline)
    apply_grants(connection, user, passwords.dbt_user, readable, pipeline.target_schema, public_schemas=public)
    connection.autocommit = True
    for schema in sorted(own - {pipeline.target_schema}):
        owner = quote_identifier(user)
        rows(connection, f"create schema if not exists {quote_identifier(schema)} authorization {owner}")


def _grant_first_pipeline(connection: redshift_connector.Connection, passwords: Passwords) -> None:
    """Create or update the first pipeline's user, which can load files into the tables that exist."""
    pipeline = first_pipeline()
    _, existing = rows(connection, "select table_schema || '.' || table_name from svv_tables")
    loaded = [table.table for table in pipeline.load if (table.table,) in existing]
    apply_grants(connection, "dbt_user", passwords.dbt_user, "landing", pipeline.target_schema, loaded_tables=loaded)


def _reads_sample(project: Path) -> bool:
    """Whether the project declares the sample's sources. `make start-fresh` removes them."""
    return any("nycflights13" in path.read_text() for path in project.glob("models/**/*.yml"))


def rows(connection: Any, query: str, parameters: tuple[Any, ...] = ()) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a query, and return its column names and rows."""
    cursor = connection.cursor()
    cursor.execute(query, parameters)
    if cursor.description is None:
        return [], []
    return [column[0] for column in cursor.description], [tuple(row) for row in cursor.fetchall()]
