"""Checks the freshness of a pipeline's sources with `dbt source freshness`, as the pipeline's database user.

The pipeline's entry in `dags/pipelines.yml` names the secret, connection, database and schema.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from mwaa_pipelines.settings import Pipeline
from mwaa_release.build import find_projects
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.pipelines import PIPELINES, find_pipeline, pipeline_with_secret
from mwaa_release.run_dbt import clean_environment, run_dbt
from mwaa_release.secret import read_login, read_secret

CONNECTIONS = "airflow/connections"


def warehouse_environment(secretsmanager: Any, dag_name: str, pipelines: Path = PIPELINES) -> dict[str, str]:
    """Return the REDSHIFT_* variables with which dbt connects to a pipeline's warehouse as the pipeline's user.

    Args:
        secretsmanager: boto3 client.
        dag_name: the pipeline.
        pipelines: the file that describes it.

    Raises:
        SetupError: a setting is missing or wrong.
        DeployError: a secret cannot be read.
    """
    pipeline = pipeline_with_secret(dag_name, pipelines)
    connection = read_connection(secretsmanager, f"{CONNECTIONS}/{pipeline.redshift_connection_id}")
    if role := connection["extra"].get("role_arn"):
        raise SetupError(
            f"{dag_name} reads its secret with a role of another account ({role}), which only tasks can assume. Run "
            "dbt source freshness in that account, with REDSHIFT_* variables"
        )
    return login_variables(pipeline, connection, *read_login(secretsmanager, pipeline.secret_name))


def read_connection(secretsmanager: Any, name: str) -> dict[str, Any]:
    """Return the Airflow connection in a secret, with its extra as a dictionary.

    Raises:
        SetupError: the secret is not JSON with host and port.
        DeployError: the secret cannot be read.
    """
    connection = read_secret(secretsmanager, name, "host", "port")
    extra = connection.get("extra") or {}
    return connection | {"extra": json.loads(extra) if isinstance(extra, str) else extra}


def login_variables(pipeline: Pipeline, connection: dict[str, Any], username: str, password: str) -> dict[str, str]:
    """Return the REDSHIFT_* variables of a login to a pipeline's warehouse."""
    return {
        "REDSHIFT_HOST": str(connection["host"]),
        "REDSHIFT_PORT": str(connection["port"]),
        "REDSHIFT_USER": username,
        "REDSHIFT_PASSWORD": password,
        "REDSHIFT_DATABASE": pipeline.target_database,
        "REDSHIFT_SCHEMA": pipeline.target_schema,
        "REDSHIFT_SSLMODE": connection["extra"].get("sslmode", "verify-full"),
    }


def check_freshness(secretsmanager: Any, dag_name: str, pipelines: Path = PIPELINES) -> list[str]:
    """Run `dbt source freshness`, which also writes its results to the audit table.

    Args:
        secretsmanager: boto3 client.
        dag_name: the pipeline.
        pipelines: the file that describes it.

    Returns:
        A line for each source, stale or not.

    Raises:
        SetupError: a setting is missing or wrong.
        DeployError: a source is stale, or dbt failed. The message names the source or the error.
    """
    variables = warehouse_environment(secretsmanager, dag_name, pipelines)
    name = find_pipeline(dag_name, pipelines).project_name
    project = next((path for path in find_projects() if project_name(path) == name), None)
    if project is None:
        raise SetupError(f"there is no dbt project called {name!r} in the repository")
    install_packages(project)
    with tempfile.TemporaryDirectory(prefix="dbt-freshness-") as scratch:
        done = run_dbt(
            *("source", "freshness", "--target", "prod"),
            project=project,
            scratch=Path(scratch),
            environment=clean_environment() | variables,
        )
        results_file = Path(scratch) / "target" / "sources.json"
        results = json.loads(results_file.read_bytes())["results"] if results_file.is_file() else []
    lines = [f"{result['unique_id'].split('.', 2)[2]}: {_age(result)}" for result in results]
    if done.returncode:
        stale = [line for line, result in zip(lines, results, strict=True) if "error" in result["status"]]
        raise DeployError("\n  ".join([f"{dag_name}: sources are stale", *stale]) if stale else done.stdout)
    return lines


def _age(result: dict[str, Any]) -> str:
    if "max_loaded_at_time_ago_in_s" not in result:
        return f"{result['status']}: {result.get('error')}"
    return f"{result['status']}, newest row {result['max_loaded_at_time_ago_in_s'] / 3600:,.1f} hours old"
