"""Third-party dbt projects run with one entry in pipelines.yml each, by the documented steps."""

import contextlib
import json
import re
import secrets
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlparse
import yaml
from foreign_projects import ThirdPartyProject

from audit_report import DBT_PACKAGE
from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow, NoAnswerError
from mwaa_local.settings import HOST, REPOSITORY, Passwords
from mwaa_local.stack import PROJECT, connect, rows
from mwaa_local.testing.audit import audited, reported
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build
from mwaa_release.redshift import apply_grants
from mwaa_release.release import Artifact

# Time for the stand-ins, a release and a run of each project on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Licensed Apache-2.0, MIT and Apache-2.0. The projects were written for other databases and run unchanged.
THIRD_PARTY = {
    # The jaffle shop, with a model in two versions.
    "jaffles": ThirdPartyProject(
        distribution="dbt-osmosis",
        version="1.5.0",
        sha256="13f7fc15b6aa25a6e9c99a272bda7e55fc79088e2aa2ebd20b0a8de5f14e4e97",
        folder="demo_duckdb",
        project_name="jaffle_shop_duckdb",
    ),
    # Another jaffle shop: a model under an alias, keys, and a source in a separate schema.
    "sandbox": ThirdPartyProject(
        distribution="dbt-metabase",
        version="1.7.5",
        sha256="558ff77538745113737445e7631a55bc30a04c649e0a231ed7780b6d2a4e174e",
        folder="sandbox",
        project_name="sandbox",
        source_schema="inventory",
    ),
    # A small project with an ephemeral model between the layers.
    "orders": ThirdPartyProject(
        distribution="prefect-dbt",
        version="0.7.25",
        sha256="dae783c5fd97a98f6b6c16d7cc28b5205dc4d1d750594962279b45f421f88f12",
        folder="tests/dbt_test_project",
        project_name="test_project",
    ),
}
PIPELINES = ["cafe", *THIRD_PARTY]
# A project without the audit trail and with a local package.
CAFE = {
    "dbt_project.yml": """
name: cafe
version: "3.0.0"
profile: default
seeds: {cafe: {+schema: landing}}
models:
  cafe:
    staging: {+materialized: view}
    marts: {+materialized: table}
""",
    "packages.yml": "packages:\n  - local: packages/money\n",
    "packages/money/dbt_project.yml": "name: money\nversion: '1.0'\n",
    "packages/money/macros/dollars.sql": "{% macro dollars(c) %}({{ c }} / 100.0)::numeric(16, 2){% endmacro %}\n",
    "macros/schema.sql": "{% macro generate_schema_name(name, node) %}{{ target.schema }}{% endmacro %}\n",
    "seeds/raw_customers.csv": "id,name\n1,Ada\n2,Ben\n3,Cem\n",
    "seeds/raw_orders.csv": "id,customer,ordered,total\n1,1,2024-09-01,700\n2,1,2024-09-02,550\n3,2,2024-09-03,900\n",
    "models/staging/stg_customers.sql": "select id as customer_id, name from {{ ref('raw_customers') }}\n",
    "models/staging/stg_orders.sql": """
select id as order_id, customer as customer_id, ordered, {{ money.dollars('total') }} as total
from {{ ref('raw_orders') }}
""",
    "models/marts/customers.sql": """
select c.customer_id, c.name, count(o.order_id) as orders, coalesce(sum(o.total), 0) as spent
from {{ ref('stg_customers') }} c left join {{ ref('stg_orders') }} o on c.customer_id = o.customer_id
group by 1, 2
""",
    "models/marts/customers.yml": """
models:
  - name: customers
    columns:
      - {name: customer_id, data_tests: [unique, not_null]}
""",
}


def blocks(language: str) -> list[str]:
    """Return the code blocks in this language from docs/how-to/bring-a-project.md."""
    page = (REPOSITORY / "docs" / "how-to" / "bring-a-project.md").read_text()
    return [textwrap.dedent(block) for block in re.findall(rf"^ *```{language}\n(.*?)^ *```$", page, re.M | re.S)]


def bring(project: Path, schema: str, *, audit: bool) -> Path:
    """Set up a project as docs/how-to/bring-a-project.md describes."""
    profile, packages = (yaml.safe_load(block) for block in blocks("yaml"))
    settings = yaml.safe_load((project / "dbt_project.yml").read_text())
    profile["default"]["outputs"]["prod"]["schema"] = schema
    (project / "profiles.yml").write_text(yaml.safe_dump({settings["profile"]: profile["default"]}))
    if audit:
        assert not (project / "packages.yml").exists()
        (project / "packages.yml").write_text(yaml.safe_dump(packages))
        if not (link := project.parent / ".local" / "audit_trail").exists():
            link.parent.mkdir()
            link.symlink_to(DBT_PACKAGE)
    return project


def entry(name: str, project_name: str) -> dict[str, Any]:
    """Return the project's entry in pipelines.yml."""
    return {
        "dag_name": f"{name}_daily",
        "project_name": project_name,
        "redshift_connection_id": f"{name}_redshift",
        "secret_name": f"{name}/dbt_user",
        "target_database": "dev",
        "target_schema": name,
        "schedule": None,
    }


@dataclass
class Scene:
    """The running stand-ins and one ended run of each pipeline."""

    checkout: Checkout
    artifact: Artifact
    airflow: Airflow
    runs: Mapping[str, str]

    def state(self, name: str) -> str | None:
        # A busy machine may take longer than a minute to answer; the test's own time-out ends the wait.
        with contextlib.suppress(NoAnswerError):
            return self.airflow.run_state(f"{name}_daily", self.runs[name])
        return None

    def tasks(self, name: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.tasks(f"{name}_daily", self.runs[name])}

    def query(self, text: str, *parameters: str) -> list[tuple[Any, ...]]:
        password = Passwords.load(self.checkout.state).awsuser
        with contextlib.closing(connect(self.checkout.settings, "awsuser", password)) as connection:
            return rows(connection, text, parameters)[1]

    def nodes(self, name: str) -> set[str]:
        """Return the IDs of the nodes that dbt builds or tests in a project's release."""
        project = THIRD_PARTY[name].project_name
        (release,) = [item for item in self.artifact.releases if item.project_name == project]
        manifest = json.loads((self.artifact.folder / release.prefix / "manifest.json").read_bytes())
        nodes = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed", "test")]
        return {node["unique_id"] for node in nodes if node["config"]["materialized"] != "ephemeral"}


def prepare(checkout: Checkout, projects: Mapping[str, Path]) -> Artifact:
    """Create a user, a secret, a connection and an entry for each project, then release."""
    settings = checkout.settings
    manager = seed.client(settings, "secretsmanager")
    seed.let_tasks_read(settings, "*/dbt_user")
    address = {"conn_type": "redshift", "host": HOST, "port": settings.warehouse_port, "schema": "dev"}
    with contextlib.closing(connect(settings, "awsuser", Passwords.load(checkout.state).awsuser)) as admin:
        admin.autocommit = True
        for statement in sqlparse.split((projects["sandbox"] / "postgres-initdb" / "init.sql").read_text()):
            admin.cursor().execute(statement)
        for name in PIPELINES:
            password = f"Aa1{secrets.token_hex(16)}"
            source = THIRD_PARTY[name].source_schema if name in THIRD_PARTY else "landing"
            apply_grants(admin, f"{name}_user", password, source, name)
            login = {"username": f"{name}_user", "password": password}
            manager.create_secret(Name=f"{name}/dbt_user", SecretString=json.dumps(login))
            connection = json.dumps({**address, "extra": {"sslmode": "disable"}})
            manager.create_secret(Name=f"airflow/connections/{name}_redshift", SecretString=connection)
    folder = checkout.state / "artifact"
    build(folder, [PROJECT, *projects.values()])
    entries = [entry(name, THIRD_PARTY[name].project_name if name in THIRD_PARTY else "cafe") for name in PIPELINES]
    with (folder / "dags" / "pipelines.yml").open("a") as pipelines:
        pipelines.write(textwrap.indent(yaml.safe_dump(entries, sort_keys=False), "  "))
    apply(Artifact.read(folder), Bucket(seed.DAGS_BUCKET, seed.client(settings, "s3")))
    return Artifact.read(folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    checkout = new_checkout(tmp_path_factory.mktemp("second") / "state")
    folder = tmp_path_factory.mktemp("projects")
    for name, content in CAFE.items():
        (folder / "cafe" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cafe" / name).write_text(content)
    projects = {"cafe": bring(folder / "cafe", "cafe", audit=False)}
    for name, other in THIRD_PARTY.items():
        projects[name] = bring(other.fetch(folder / f"{name}.archive"), name, audit=True)
    try:
        up = checkout.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        artifact = prepare(checkout, projects)
        password = Passwords.load(checkout.state).airflow_admin
        with contextlib.closing(Airflow(checkout.settings.airflow_port, password)) as airflow:
            expected, deadline = {f"{name}_daily" for name in PIPELINES}, time.monotonic() + 300
            while not expected <= {dag["dag_id"] for dag in airflow.call("GET", "/dags")["dags"]}:
                assert time.monotonic() < deadline, airflow.call("GET", "/importErrors")["import_errors"]
                time.sleep(1)
            scene = Scene(checkout, artifact, airflow, {name: airflow.trigger(f"{name}_daily") for name in PIPELINES})
            while not all(scene.state(name) in FINAL for name in PIPELINES):
                time.sleep(2)
            yield scene
    finally:
        checkout.command("down")


@pytest.mark.parametrize("name", PIPELINES)
def test_project_runs_without_a_change_to_the_dags(scene: Scene, name: str) -> None:
    assert scene.state(name) == "success", scene.tasks(name)


def test_missing_audit_trail_is_logged_once(scene: Scene) -> None:
    logs = (scene.checkout.state / "mwaa").rglob(f"dag_id=cafe_daily/run_id={scene.runs['cafe']}/**/*.log")
    texts = {path: path.read_text() for path in logs}
    (log,) = [path for path, text in texts.items() if "This run wrote no audit rows" in text]
    assert "task_id=dbt_check" in str(log)
    assert texts[log].count("This run wrote no audit rows") == 1


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_audit_table_contains_every_node(scene: Scene, name: str) -> None:
    run_id, expected = scene.runs[name], scene.nodes(name)
    states = dict(
        scene.query(f"select unique_id, status from {name}.audit_table where airflow_run_id = %s", run_id),
    )
    assert len(expected) > 15
    assert set(states) == expected
    assert set(states.values()) <= {"success", "pass"}
    password = Passwords.load(scene.checkout.state).awsuser
    with contextlib.closing(connect(scene.checkout.settings, "awsuser", password)) as connection:
        assert audited(connection, name, run_id) == reported(scene.airflow, f"{name}_daily", run_id)


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_models_that_read_the_audit_table_are_views(scene: Scene, name: str) -> None:
    # As a table, such a model would keep the content of its build.
    tables = "select table_name from information_schema.tables where table_schema = %s and table_type = 'BASE TABLE'"
    assert [table for (table,) in scene.query(tables, name) if table.startswith("audit_")] == ["audit_table"]
    run = f"select airflow_run_id, outcome from {name}.audit_runs"
    assert scene.query(run) == [(scene.runs[name], "passed")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "select name, orders, spent::float from cafe.customers order by 1",
            [("Ada", 2, 12.5), ("Ben", 1, 9), ("Cem", 0, 0)],
        ),
        ("select count(*), sum(number_of_orders), count(first_order) from jaffles.customers", [(100, 99, 62)]),
        ("select count(*), min(payment_method) from sandbox.transactions", [(113, "bank_transfer")]),
        ("select count(*), sum(order_count) from orders.customer_summary", [(5, 10)]),
    ],
)
def test_marts_contain_the_expected_rows(scene: Scene, query: str, expected: list[tuple[Any, ...]]) -> None:
    assert [tuple(row) for row in scene.query(query)] == expected
