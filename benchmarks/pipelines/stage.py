"""Starts a separate stack on free ports with all measured pipelines, and removes it at the end."""

import contextlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from benchmarks.pipelines.dag_files import write_dag_files, write_pipelines
from benchmarks.pipelines.projects import Size, entry, write_project
from benchmarks.pipelines.scene import USER, Scene, find_workflows
from mwaa_local.aws import seed
from mwaa_local.aws.seed_ecs import seed_ecs
from mwaa_local.aws.seed_serverless import seed_workflow
from mwaa_local.processes import mark_this_command
from mwaa_local.serverless.service_airflow import install_airflow
from mwaa_local.settings import HOST, Passwords, Settings
from mwaa_local.stack import Stack, connect
from mwaa_local.target import ECS
from mwaa_pipelines.settings import Pipeline
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build
from mwaa_release.progress import Steps
from mwaa_release.redshift import apply_grants
from mwaa_release.release import Artifact

# Pattern of the secrets of all pipelines.
_SECRETS = "*/login"


@contextlib.contextmanager
def staged(projects_and_alternatives: list[tuple[Size, list[str]]]) -> Iterator[Scene]:
    """Start a stack, release the projects, and wait for their DAGs. The end of the context removes everything.

    Args:
        projects_and_alternatives: the projects, each with the alternatives (`watcher`, `local`) to measure.

    Raises:
        SetupError, DeployError: a stand-in did not start, or a project does not parse.
    """
    checkout = Settings.from_environment()
    settings = _settings(checkout)
    before = dict(os.environ)
    # The stand-ins read each other's addresses from the environment.
    os.environ.update(_environment(settings))
    stack = Stack(settings)
    try:
        stack.take_lock()
        projects = settings.state / "projects"
        folders = {
            size.name: write_project(projects / size.name, size, settings.warehouse_port, USER)
            for size, _ in projects_and_alternatives
        }
        # Steps are not entered, because the benchmark shows its own progress.
        stack.start(Steps(), folders[projects_and_alternatives[0][0].name])
        password = f"Aa1{secrets.token_hex(16)}"
        _create_logins(settings, [size for size, _ in projects_and_alternatives], password)
        _release(settings, projects_and_alternatives, folders)
        with stack.airflow() as airflow:
            scene = Scene(settings, airflow, folders, password)
            scene.wait_for_dags(_dag_ids(projects_and_alternatives))
            yield scene
    finally:
        stack.stop()
        shutil.rmtree(settings.state, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)
        mark_this_command(checkout.state)


def _settings(checkout: Settings) -> Settings:
    state = checkout.state / "bench-pipelines"
    shutil.rmtree(state, ignore_errors=True)
    (state / "mwaa").mkdir(parents=True)
    # The code packages of workflows are beside the tools, because pip needs a minute for dbt.
    for name in ("venvs", "serverless"):
        (checkout.state / name).mkdir(exist_ok=True)
        (state / name).symlink_to(checkout.state / name)
    # startup.sh always installs the same packages, which takes a minute.
    installed = checkout.state / "mwaa" / "dbt_venv"
    if (installed / ".ready").exists():
        (state / "mwaa" / "dbt_venv").symlink_to(installed)
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
        return Settings(state, *(probe.getsockname()[1] for probe in probes))


def _environment(settings: Settings) -> dict[str, str]:
    ports = {"WAREHOUSE": settings.warehouse_port, "AWS": settings.aws_port, "AIRFLOW": settings.airflow_port}
    named = {f"LOCAL_{name}_PORT": str(port) for name, port in ports.items()}
    return {**settings.aws_environment(), **named, "LOCAL_DIR": str(settings.state)}


def _dag_ids(projects_and_alternatives: list[tuple[Size, list[str]]]) -> list[str]:
    return [
        name
        for size, alternatives in projects_and_alternatives
        for name in (*([] if size.is_workflow else [size.name]), *(f"{size.name}_{other}" for other in alternatives))
    ]


def _create_logins(settings: Settings, sizes: list[Size], password: str) -> None:
    """Create the database user, and the connections and secrets of all DAGs."""
    admin = Passwords.load(settings.state).awsuser
    with contextlib.closing(connect(settings, "awsuser", admin)) as connection:
        for size in sizes:
            apply_grants(connection, USER, password, "landing", size.schema)
    manager = seed.client(settings, "secretsmanager")
    seed.let_tasks_read(settings, _SECRETS)
    address = {"conn_type": "redshift", "host": HOST, "port": settings.warehouse_port, "schema": "dev"}
    address |= {"extra": {"sslmode": "disable"}}
    for size in sizes:
        login = {"login": USER, "password": password}
        for name, value in (
            (f"{size.name}/login", {"username": USER, "password": password}),
            (f"airflow/connections/{size.name}", address),
            (f"airflow/connections/{size.name}_plain", {**address, **login}),
        ):
            manager.create_secret(Name=name, SecretString=json.dumps(value))


def _release(
    settings: Settings, projects_and_alternatives: list[tuple[Size, list[str]]], folders: dict[str, Path]
) -> None:
    sizes = [size for size, _ in projects_and_alternatives]
    workflows = [Pipeline.model_validate(entry(size)) for size in sizes if size.is_workflow]
    if workflows:
        install_airflow(settings.state)
    for pipeline in workflows:
        seed_workflow(settings, pipeline)
    if any(size.mode == ECS for size in sizes):
        seed_ecs(settings, _SECRETS)
    folder, pipelines_file = settings.state / "artifact", settings.state / "pipelines.yml"
    write_pipelines(pipelines_file, sizes)
    build(folder, list(folders.values()), platforms=(), pipelines_file=pipelines_file)
    write_dag_files(folder / "dags", projects_and_alternatives, folders)
    bucket = Bucket(seed.DAGS_BUCKET, seed.client(settings, "s3"))
    apply(Artifact.read(folder), bucket, workflows=find_workflows(settings) if workflows else None)
