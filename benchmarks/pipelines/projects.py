"""Generates dbt projects with the audit trail and simple models with one test each."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from audit_report import DBT_PACKAGE
from mwaa_local.aws.seed import FUNCTION
from mwaa_local.settings import HOST
from mwaa_local.target import ECS, SERVERLESS, SETTINGS
from mwaa_release.manifest import install_packages

PASSWORD = "BENCH_PASSWORD"  # noqa: S105 - a variable's name
_LAYERS = 4
# Projects that are large have folders of about this size.
_FOLDER_MODELS = 25
# Execution modes, and their settings in pipelines.yml.
WATCHER, SERVERLESS_MODELS = "watcher", "serverless_models"
MODES: dict[str, dict[str, object]] = {
    WATCHER: {},
    ECS: SETTINGS[ECS],
    SERVERLESS: SETTINGS[SERVERLESS],
    SERVERLESS_MODELS: {**SETTINGS[SERVERLESS], "serverless": {"tasks": "models"}},
}
# A function of PostgreSQL that Redshift lacks and the gateway accepts. It waits without using this machine's CPU, like
# a statement that runs on a cluster.
_PAUSE = "from (select pg_sleep({seconds}) as waited) as pause"


@dataclass(frozen=True)
class Size:
    """A project and its pipeline.

    Attributes:
        name: the name of the project and its pipeline, and the prefix of its models.
        models: the number of models.
        seconds: the run time of each model in the warehouse.
        threads: the number of models that dbt builds in parallel.
        tests: the number of tests of each model, 1 to 4.
        description: the number of characters of each model's description.
        fails: whether the last model fails.
        mode: a key of MODES. `serverless_models` has a task for each model.
    """

    name: str
    models: int
    seconds: float
    threads: int
    tests: int = 1
    description: int = 0
    fails: bool = False
    mode: str = WATCHER

    @property
    def is_workflow(self) -> bool:
        """Whether the pipeline is a workflow and not a DAG."""
        return self.mode in (SERVERLESS, SERVERLESS_MODELS)

    @property
    def schema(self) -> str:
        """The schema of the models, which all alternatives use."""
        return f"bench_{self.name}"


def write_project(folder: Path, size: Size, port: int, user: str) -> Path:
    """Write the project, with a profile for `port` whose password is the variable BENCH_PASSWORD.

    The models form four layers, which are folders. Each model reads one of the previous layer.
    """
    nodes = folder / "models" / "nodes"
    nodes.mkdir(parents=True)
    _write(folder / "dbt_project.yml", {"name": size.name, "version": "1.0.0", "profile": size.name})
    _write(folder / "packages.yml", {"packages": [{"local": str(DBT_PACKAGE)}]})
    install_packages(folder)
    target = {"type": "redshift", "host": HOST, "port": port, "user": user, "dbname": "dev", "sslmode": "disable"}
    target |= {
        "password": f"{{{{ env_var('{PASSWORD}', 'not set') }}}}",
        "schema": size.schema,
        "threads": size.threads,
    }
    _write(folder / "profiles.yml", {size.name: {"target": "prod", "outputs": {"prod": target}}})
    width = max(1, size.models // _LAYERS)
    properties = []
    for number in range(size.models):
        name, pause = f"{size.name}_{number}", _PAUSE.format(seconds=size.seconds) if size.seconds else ""
        after = f"-- depends_on: {{{{ ref('{size.name}_{number - width}') }}}}\n" if number >= width else ""
        head = "{{ config(materialized='table') }}\n"
        value = "1 / 0" if size.fails and number == size.models - 1 else number
        path = nodes / f"layer_{number // width}" / f"area_{number % width // _FOLDER_MODELS}" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{head}{after}select {value} as id, 1 as other {pause}\n")
        tests = [(column, test) for column in ("id", "other") for test in ("not_null", "unique")][: size.tests]
        columns = [
            {"name": column, "data_tests": [test for of, test in tests if of == column]}
            for column in dict.fromkeys(column for column, _ in tests)
        ]
        properties.append({"name": name, "description": "x" * size.description, "columns": columns})
    _write(nodes / "nodes.yml", {"models": properties})
    return folder


def entry(size: Size) -> dict[str, object]:
    """Return the pipeline's entry in pipelines.yml. Its connection and secret have the pipeline's name."""
    return {
        "dag_name": size.name,
        "project_name": size.name,
        "redshift_connection_id": size.name,
        "secret_name": f"{size.name}/login",
        "target_database": "dev",
        "target_schema": size.schema,
        "schedule": None,
        "threads": size.threads,
        "retries": 1,
        "retry_delay_seconds": 1,
        "sns_lambda_function_name": FUNCTION,
        **MODES[size.mode],
    }


def _write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content))
