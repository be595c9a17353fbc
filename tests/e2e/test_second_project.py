"""A project that is not ours (its own names, seeds, package, no audit) runs by one more entry of pipelines.yml."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.apply import apply
from deploy.bucket import Bucket
from deploy.build import build
from deploy.redshift import apply_grants
from deploy.release import Artefact
from local.aws import seed
from local.mwaa.api import FINAL, Airflow, NoAnswerError
from local.settings import HOST, Passwords
from local.stack import PROJECT, connect, rows
from tests.fixtures.checkout import Checkout, new_checkout

# Stand-ins, a release and a run, beside whatever else the machine does.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ENTRY = """
  - dag_name: cafe_daily
    project_name: cafe
    redshift_connection_id: cafe_redshift
    secret_name: cafe/dbt_user
    target_database: dev
    target_schema: cafe
    schedule: null
"""
# As dbt's own starter projects are: a seed for each source, views over them, tables on top, a package for the macros.
FILES = {
    "dbt_project.yml": """
name: cafe
version: "3.0.0"
profile: default
seeds: {cafe: {+schema: raw}}
models:
  cafe:
    staging: {+materialized: view}
    marts: {+materialized: table}
""",
    "profiles.yml": """
default:
  target: prod
  outputs:
    prod: {type: redshift, host: h, port: 5439, user: u, password: not-set, dbname: dev, schema: cafe}
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


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = new_checkout(tmp_path_factory.mktemp("second") / "state")
    try:
        up = made.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        yield made
    finally:
        made.command("down")


def prepare(checkout: Checkout, project: Path) -> None:
    """What a person does: a user, a secret and a connection for the project, the entry, a release of the repository."""
    settings = checkout.settings
    password = f"Aa1{secrets.token_hex(16)}"
    with contextlib.closing(connect(settings, "awsuser", Passwords.load(checkout.state).awsuser)) as admin:
        apply_grants(admin, "cafe_user", password, "raw", "cafe")
    manager = seed.client(settings, "secretsmanager")
    login = {"username": "cafe_user", "password": password}
    manager.create_secret(Name="cafe/dbt_user", SecretString=json.dumps(login))
    address = {"conn_type": "redshift", "host": HOST, "port": settings.warehouse_port, "schema": "dev"}
    connection = json.dumps({**address, "extra": {"sslmode": "disable"}})
    manager.create_secret(Name="airflow/connections/cafe_redshift", SecretString=connection)
    folder = checkout.state / "artefact"
    build(folder, [PROJECT, project])
    with (folder / "dags" / "pipelines.yml").open("a") as pipelines:
        pipelines.write(ENTRY)
    apply(Artefact.read(folder), Bucket(seed.DAGS_BUCKET, seed.client(settings, "s3")))


def test_it_runs_without_a_change_to_the_dags(checkout: Checkout, tmp_path: Path) -> None:
    project = tmp_path / "cafe"
    for name, content in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    prepare(checkout, project)
    passwords = Passwords.load(checkout.state)
    with contextlib.closing(Airflow(checkout.settings.airflow_port, passwords.airflow_admin)) as airflow:
        until = time.monotonic() + 300
        while "cafe_daily" not in {dag["dag_id"] for dag in airflow.call("GET", "/dags")["dags"]}:
            assert time.monotonic() < until, airflow.call("GET", "/importErrors")["import_errors"]
            time.sleep(1)
        run_id = airflow.trigger("cafe_daily")
        state = None
        while state not in FINAL:
            # A busy machine may take longer than a minute to answer; the test's own time-out ends the wait.
            with contextlib.suppress(NoAnswerError):
                state = airflow.run_state("cafe_daily", run_id)
            time.sleep(2)
        tasks = {task["task_id"]: task["state"] for task in airflow.tasks("cafe_daily", run_id)}
    assert state == "success", tasks
    assert tasks["transform_data.customers.test"] == "success"
    with contextlib.closing(connect(checkout.settings, "awsuser", passwords.awsuser)) as connection:
        found = rows(connection, "select name, orders, spent from cafe.customers order by customer_id")[1]
    assert [(name, orders, float(spent)) for name, orders, spent in found] == [
        ("Ada", 2, 12.5),
        ("Ben", 1, 9.0),
        ("Cem", 0, 0.0),
    ]
