"""The check of the project's SQL: the cluster plans every query, and creates every table and view without rows.

A superuser creates a scratch schema that belongs to the pipeline's user and is dropped at the end. dbt builds the
project there with `--empty`, so the cluster sees the real DDL and reads no rows. Then the cluster explains each
compiled query, and creates each view from its own query.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redshift_connector

from audit_report.redshift import connect, error_text, named_warehouse, quote_identifier
from mwaa_release.build import find_projects
from mwaa_release.doctor.check import Account, Check, Finding, Result
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.run_dbt import clean_environment, run_dbt

_BUILT = ("model", "seed", "snapshot")
_EXPLAINED = ("model", "snapshot", "test", "analysis")


def require_superuser() -> None:
    """Raise SetupError unless REDSHIFT_* variables name a superuser's login."""
    if not named_warehouse():
        raise SetupError(
            "--explain creates a scratch schema; set REDSHIFT_HOST, REDSHIFT_USER and REDSHIFT_PASSWORD of a superuser"
        )


def _sql(account: Account) -> Result:
    name = account.pipeline.project_name
    project = account.project or next((path for path in find_projects() if project_name(path) == name), None)
    if project is None:
        return Finding(f"the repository has no dbt project {name!r}", "run doctor in the repository of the project")
    account.progress("installing dbt packages", 0, 3)
    install_packages(project)
    with _scratch_schema(account) as schema, tempfile.TemporaryDirectory(prefix="dbt-doctor-") as folder:
        scratch = Path(folder)
        environment = clean_environment() | account.warehouse_login | {"REDSHIFT_SCHEMA": schema}

        def dbt(*arguments: str) -> str:
            done = run_dbt(*arguments, "--target", "prod", project=project, scratch=scratch, environment=environment)
            if not (scratch / "target" / "run_results.json").is_file():
                raise DeployError(f"dbt {arguments[0]} failed:\n{done.stdout}")
            return done.stdout

        account.progress("creating all tables and views without rows", 1, 3)
        dbt("build", "--empty", *(f"--resource-type={kind}" for kind in _BUILT))
        results = json.loads((scratch / "target" / "run_results.json").read_bytes())["results"]
        problems = [
            f"{result['unique_id']}: {_one_line(result['message'])}"
            for result in results
            if result["status"] not in ("success", "skipped", "pass")
        ]
        account.progress("compiling the project", 2, 3)
        dbt("compile")
        manifest = json.loads((scratch / "target" / "manifest.json").read_bytes())
        nodes = [
            node
            for node in manifest["nodes"].values()
            if node["resource_type"] in _EXPLAINED and node.get("compiled_code", "").strip()
        ]
        problems += _planning_problems(account, nodes, schema)
    if problems:
        refusals = "\n".join(dict.fromkeys(problems)).replace(schema, account.pipeline.target_schema)
        return Finding(f"{len(problems)} statements are refused:\n{refusals}", "change these files of the dbt project")
    return f"{len(results)} tables and views created without rows, {len(nodes)} queries explained"


@contextmanager
def _scratch_schema(account: Account) -> Iterator[str]:
    schema = f"{account.pipeline.target_schema.lower()[:40]}_doctor_{secrets.token_hex(4)}"
    superuser = connect({**os.environ, "REDSHIFT_DATABASE": account.pipeline.target_database})
    superuser.autocommit = True
    try:
        with superuser.cursor() as cursor:
            user = quote_identifier(account.warehouse_login["REDSHIFT_USER"])
            cursor.execute(f"create schema {quote_identifier(schema)} authorization {user}")
            try:
                yield schema
            finally:
                cursor.execute(f"drop schema {quote_identifier(schema)} cascade")
    finally:
        superuser.close()


def _planning_problems(account: Account, nodes: list[dict[str, Any]], schema: str) -> list[str]:
    problems = []
    with account.warehouse.cursor() as cursor:
        # The default style treats every % outside of a string as a parameter.
        cursor.paramstyle = "qmark"
        for number, node in enumerate(nodes):
            account.progress("explaining queries", number, len(nodes))
            query = node["compiled_code"].strip().removesuffix(";")
            statements = [f"explain {query}"]
            if node["config"].get("materialized") == "view":
                view = f"{quote_identifier(schema)}.{quote_identifier(f'doctor_{number}')}"
                unbound = " with no schema binding" if node["config"].get("bind") is False else ""
                statements.append(f"create view {view} as {query}{unbound}")
            for statement in statements:
                try:
                    cursor.execute(statement)
                except redshift_connector.Error as error:
                    where = f"{node['unique_id']} ({node['original_file_path']})"
                    problems.append(f"{where}: {_one_line(error_text(error))}")
                    break
    return problems


def _one_line(text: str | None) -> str:
    return " ".join((text or "no message").split())[:300]


SQL = Check("SQL of the project", _sql, ("warehouse login", "live release"))
