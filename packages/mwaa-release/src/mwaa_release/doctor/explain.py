"""The check of the project's SQL: the warehouse explains every query, and creates every view.

dbt compiles the project as in production. Then every query is explained, in the order of the dependencies, and its view
or an empty table with its columns is created in a scratch schema. The queries read these instead of the production
tables, which need not exist yet. No hook runs, no query reads rows, and nothing outside of the scratch schema changes.
A superuser creates it for the pipeline's user, and drops it at the end.
"""

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import redshift_connector

from audit_report.redshift import connect, error_text, named_warehouse, quote_identifier
from mwaa_release.build import find_projects
from mwaa_release.doctor.check import Account, Check, Finding, Result
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.run_dbt import clean_environment, run_dbt

# https://docs.getdbt.com/docs/build/snapshots#snapshot-meta-fields
_SNAPSHOT_COLUMNS = (
    "cast(null as varchar(32)) as dbt_scd_id, cast(null as timestamp) as dbt_updated_at, "
    "cast(null as timestamp) as dbt_valid_from, cast(null as timestamp) as dbt_valid_to"
)
_SEED_TYPES = {"Boolean": "boolean", "Integer": "bigint", "Number": "float8", "Date": "date"}
_SEED_TYPES |= {"DateTime": "timestamp", "ISODateTime": "timestamp"}


def require_superuser() -> None:
    """Raise SetupError unless REDSHIFT_* variables name a login, which must be a superuser's."""
    if not named_warehouse():
        raise SetupError(
            "--explain creates a scratch schema; set REDSHIFT_HOST, REDSHIFT_USER and REDSHIFT_PASSWORD of a superuser"
        )


def _sql(account: Account) -> Result:
    name = account.pipeline.project_name
    project = account.project or next((path for path in find_projects() if project_name(path) == name), None)
    if project is None:
        return Finding(f"the repository has no dbt project {name!r}", "run doctor in the repository of the project")
    account.progress("compiling the project", 0, 1)
    nodes = _compiled_nodes(account, project)
    with _scratch_schema(account) as schema:
        explained, problems = _explain(account, project, nodes, schema)
    if problems:
        skipped = len(nodes) - explained - len(problems)
        more = f"\nNot explained, because they read these: {skipped}" if skipped else ""
        refusals = "\n".join(problems)
        return Finding(
            f"the warehouse refuses {len(problems)} of {len(nodes)} queries:\n{refusals}{more}", "change these files"
        )
    return f"{explained} queries explained"


def _compiled_nodes(account: Account, project: Path) -> list[dict[str, Any]]:
    """Return the nodes of the compiled project that have a query or are seeds, each after the nodes that it reads."""
    install_packages(project)
    with tempfile.TemporaryDirectory(prefix="dbt-doctor-") as folder:
        environment = clean_environment() | account.warehouse_login
        done = run_dbt("compile", "--target", "prod", project=project, scratch=Path(folder), environment=environment)
        if done.returncode:
            raise DeployError(f"dbt cannot compile the project:\n{done.stdout}")
        nodes = json.loads((Path(folder) / "target" / "manifest.json").read_bytes())["nodes"]
    order = TopologicalSorter(
        {name: node["depends_on"].get("nodes", []) for name, node in nodes.items()}
    ).static_order()
    return [nodes[name] for name in order if name in nodes and _is_explained(nodes[name])]


def _is_explained(node: dict[str, Any]) -> bool:
    if node["resource_type"] == "seed":
        return True
    is_inlined = node["config"].get("materialized") == "ephemeral"
    return node["language"] == "sql" and not is_inlined and bool((node.get("compiled_code") or "").strip())


@contextmanager
def _scratch_schema(account: Account) -> Iterator[str]:
    schema = quote_identifier(f"doctor_{secrets.token_hex(8)}")
    superuser = connect({**os.environ, "REDSHIFT_DATABASE": account.pipeline.target_database})
    superuser.autocommit = True
    try:
        with superuser.cursor() as cursor:
            user = quote_identifier(account.warehouse_login["REDSHIFT_USER"])
            cursor.execute(f"create schema {schema} authorization {user}")
            try:
                yield schema
            finally:
                cursor.execute(f"drop schema {schema} cascade")
    finally:
        superuser.close()


def _explain(account: Account, project: Path, nodes: list[dict[str, Any]], schema: str) -> tuple[int, list[str]]:
    """Explain the queries of nodes, and create what they build in `schema`.

    Returns:
        The number of nodes whose query the warehouse accepts, and a line for each refused one.
    """
    names = {node["relation_name"]: node["unique_id"] for node in nodes if node.get("relation_name")}
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    pattern = re.compile(rf"(?:{'|'.join(longest_first)})(?![\w\"])")
    created: dict[str, str] = {}
    explained, problems = 0, []
    with account.warehouse.cursor() as cursor:
        # The default style treats every % outside of a string as a parameter.
        cursor.paramstyle = "qmark"
        for number, node in enumerate(nodes):
            account.progress("explaining queries", number, len(nodes))
            # An incremental model that has been built reads its own table.
            others = {name: unique_id for name, unique_id in names.items() if unique_id != node["unique_id"]}
            query = (node.get("compiled_code") or "").strip().removesuffix(";")
            if any(match[0] in others and others[match[0]] not in created for match in pattern.finditer(query)):
                continue
            query = pattern.sub(lambda match: created.get(others.get(match[0], ""), match[0]), query)  # noqa: B023
            relation = f'{schema}."n{number}"'
            try:
                for statement in _statements(node, query, relation, project):
                    cursor.execute(statement)
            except redshift_connector.Error as error:
                message = " ".join(error_text(error).split())
                problems.append(f"{node['original_file_path']}{_part_of_file(node)}: {message}")
            else:
                explained += 1
                created[node["unique_id"]] = relation
    return explained, problems


def _statements(node: dict[str, Any], query: str, relation: str, project: Path) -> list[str]:
    """Return the statements that explain a node's query, and create its view or an empty table at `relation`."""
    kind, materialized = node["resource_type"], node["config"].get("materialized")
    if kind == "seed":
        columns = ", ".join(_seed_columns(node, project))
        return [f"create table {relation} ({columns})"]
    statements = [f"explain {query}"]
    if kind == "snapshot":
        query = f"select q.*, {_SNAPSHOT_COLUMNS} from ({query}\n) as q"  # noqa: S608 - a query of the project
    if materialized == "view":
        unbound = " with no schema binding" if node["config"].get("bind") is False else ""
        statements.append(f"create view {relation} as {query}{unbound}")
    elif kind in ("model", "snapshot"):
        statements.append(f"create table {relation} as select * from ({query}\n) as q where false")  # noqa: S608
    return statements


def _seed_columns(node: dict[str, Any], project: Path) -> list[str]:
    from dbt_common.clients.agate_helper import from_csv

    types = node["config"].get("column_types") or {}
    root = Path(node["root_path"]) if node.get("root_path") else project
    table = from_csv(root / node["original_file_path"], text_columns=list(types))
    return [
        f"{quote_identifier(column.name)} "
        + (types.get(column.name) or _SEED_TYPES.get(type(column.data_type).__name__, "varchar(max)"))
        for column in table.columns
    ]


def _part_of_file(node: dict[str, Any]) -> str:
    """Return the name of a node that shares its file with others, such as a generic test."""
    return "" if Path(node["original_file_path"]).stem == node["name"] else f" ({node['name']})"


SQL = Check("SQL of the project", _sql, ("warehouse login", "live release"))
