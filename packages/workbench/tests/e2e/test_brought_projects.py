"""`make bring` adds third-party dbt projects, and their pipelines run on the stand-ins without another change."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlparse
from foreign_projects import ThirdPartyProject

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow, NoAnswerError
from mwaa_local.settings import Passwords
from mwaa_local.stack import connect, rows
from mwaa_local.testing.audit import audited, reported
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_local.testing.repository import committed_copy, git
from mwaa_release.bucket import Bucket
from mwaa_release.manifest import AUDIT_TRAIL

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


def dag(name: str) -> str:
    """Return the dag_name of a project's pipeline."""
    return f"{THIRD_PARTY[name].project_name if name in THIRD_PARTY else name}_pipeline"


@dataclass
class Scene:
    """The running stand-ins and one ended run of each pipeline."""

    checkout: Checkout
    airflow: Airflow
    runs: Mapping[str, str]

    def state(self, name: str) -> str | None:
        # A busy machine may take longer than a minute to answer; the test's own time-out ends the wait.
        with contextlib.suppress(NoAnswerError):
            return self.airflow.run_state(dag(name), self.runs[name])
        return None

    def tasks(self, name: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.tasks(dag(name), self.runs[name])}

    def query(self, text: str, *parameters: str) -> list[tuple[Any, ...]]:
        password = Passwords.load(self.checkout.state).awsuser
        with contextlib.closing(connect(self.checkout.settings, "awsuser", password)) as connection:
            return rows(connection, text, parameters)[1]

    def nodes(self, name: str) -> set[str]:
        """Return the IDs of the nodes that dbt builds or tests in a project's release."""
        bucket = Bucket(seed.DAGS_BUCKET, seed.client(self.checkout.settings, "s3"))
        folder = f"dags/dbt/{THIRD_PARTY[name].project_name}"
        release = (bucket.read(f"{folder}/CURRENT") or b"").decode().strip()
        manifest = json.loads(bucket.read(f"{folder}/{release}/manifest.json") or b"")
        nodes = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed", "test")]
        return {node["unique_id"] for node in nodes if node["config"]["materialized"] != "ephemeral"}


def bring(checkout: Checkout, name: str, project: Path) -> None:
    """Type `make bring`, and commit."""
    command = [sys.executable, "-m", "workbench", "bring", "--schema", name, str(project)]
    added = subprocess.run(command, cwd=checkout.repository, env=checkout.environment, capture_output=True, check=False)
    assert added.returncode == 0, added.stderr.decode()
    if name == "cafe":
        packages = checkout.repository / name / "packages.yml"
        packages.write_text(packages.read_text().replace(f"  - local: {AUDIT_TRAIL}\n", ""))
        assert AUDIT_TRAIL not in packages.read_text()
    assert git(checkout.repository, "commit", "--all", "--quiet", f"--message=Add {name}").returncode == 0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("projects")
    for name, content in CAFE.items():
        (folder / "cafe" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cafe" / name).write_text(content)
    projects = {name: other.fetch(folder / f"{name}.archive") for name, other in THIRD_PARTY.items()}
    repository = committed_copy(tmp_path_factory.mktemp("copy") / "repository")
    checkout = new_checkout(tmp_path_factory.mktemp("brought") / "state", repository)
    for name, project in {"cafe": folder / "cafe", **projects}.items():
        bring(checkout, name, project)
    try:
        up = checkout.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        passwords = Passwords.load(checkout.state)
        with contextlib.closing(connect(checkout.settings, "awsuser", passwords.awsuser)) as admin:
            admin.autocommit = True
            for statement in sqlparse.split((projects["sandbox"] / "postgres-initdb" / "init.sql").read_text()):
                admin.cursor().execute(statement)
        with contextlib.closing(Airflow(checkout.settings.airflow_port, passwords.airflow_admin)) as airflow:
            scene = Scene(checkout, airflow, {name: airflow.trigger(dag(name)) for name in PIPELINES})
            while not all(scene.state(name) in FINAL for name in PIPELINES):
                time.sleep(2)
            yield scene
    finally:
        checkout.command("down")


@pytest.mark.parametrize("name", PIPELINES)
def test_project_runs_without_a_change_to_the_dags(scene: Scene, name: str) -> None:
    assert scene.state(name) == "success", scene.tasks(name)


def test_missing_audit_trail_is_logged_once(scene: Scene) -> None:
    logs = (scene.checkout.state / "mwaa").rglob(f"dag_id=cafe_pipeline/run_id={scene.runs['cafe']}/**/*.log")
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
        assert audited(connection, name, run_id) == reported(scene.airflow, dag(name), run_id)


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
