"""On a real scheduler, a model that passes on its second try lets all downstream tasks succeed."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mwaa_local.aws import seed
from mwaa_local.dag_run import audit
from mwaa_local.mwaa.api import FINAL, Airflow
from mwaa_local.settings import Passwords
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_local.testing.project import sample_project
from mwaa_local.testing.scene import DAG
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build
from mwaa_release.pipelines import first_pipeline
from mwaa_release.release import Artifact

# Time for the stand-ins, a release and a run with slow models on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODELS = {
    # Fails until the audit table has a row of its first try.
    "flaky": """{{ config(materialized='table') }}
select 1 / count(*) as id from {{ ref('audit_table') }}
where name = 'flaky' and airflow_run_id = '{{ env_var("AIRFLOW_CTX_DAG_RUN_ID", "") }}'""",
    "reader": "{{ config(bind=false) }} select id from {{ ref('flaky') }}",
    "steady": "{{ config(materialized='table') }} select 1 as id",
    # Keeps dbt busy while the retry of `flaky` waits.
    "slow": """{{ config(materialized='table') }}
select count(*) as id from {{ source('landing', 'weather') }}
cross join {{ source('landing', 'airports') }}
cross join (select carrier from {{ source('landing', 'airlines') }} limit 14)""",
}
PROPERTIES = """
models:
  - {name: flaky, columns: [{name: id, data_tests: [not_null]}]}
  - {name: reader, columns: [{name: id, data_tests: [not_null]}]}
  - name: steady
    columns:
      - name: id
        data_tests: [not_null, {relationships: {arguments: {to: ref('flaky'), field: id}}}]
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    separate = new_checkout(tmp_path_factory.mktemp("retries") / "state")
    up = separate.command("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield separate
    separate.command("down")


@pytest.fixture(scope="module")
def run(checkout: Checkout) -> dict[str, Any]:
    """The result of a run with MODELS: state, task instances by task_id, tries of `flaky`, audit rows and alerts."""
    project = checkout.state / "project"
    sample_project(project)
    (project / "models" / "retries").mkdir()
    for name, sql in MODELS.items():
        (project / "models" / "retries" / f"{name}.sql").write_text(sql)
    (project / "models" / "retries" / "retries.yml").write_text(PROPERTIES)
    build(checkout.state / "artifact", [project])
    pipelines = checkout.state / "artifact" / "dags" / "pipelines.yml"
    before = pipelines.read_text()
    pipelines.write_text(before.replace("retry_delay_seconds: 30", "retry_delay_seconds: 1"))
    assert pipelines.read_text() != before
    settings = checkout.settings
    artifact = Artifact.read(checkout.state / "artifact")
    applied = apply(artifact, Bucket(seed.DAGS_BUCKET, seed.client(settings, "s3")))
    password = Passwords.load(checkout.state).airflow_admin
    with contextlib.closing(Airflow(settings.airflow_port, password)) as airflow:
        airflow.wait_for_dag(DAG, applied.releases["flights"], 120)
        run_id = airflow.trigger(DAG)
        deadline = time.monotonic() + 600
        while (state := airflow.run_state(DAG, run_id)) not in FINAL and time.monotonic() < deadline:
            time.sleep(2)
        airflow.end_open_runs(DAG)
        path = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/transform_data.flaky.run/tries"
        return {
            "state": state,
            "tasks": {task["task_id"]: task for task in airflow.tasks(DAG, run_id)},
            "tries": airflow.call("GET", path)["task_instances"],
            "audit": [
                dict(zip(columns, row, strict=True))
                for columns, rows in [audit(settings, first_pipeline(), run_id)]
                for row in rows
            ],
            "variables": airflow.call("GET", "/variables")["variables"],
            "alerts": seed.read_alerts(settings),
        }


def test_node_is_retried_within_its_task(run: dict[str, Any]) -> None:
    producer = run["tasks"]["transform_data.dbt_producer_watcher"]
    (only,) = run["tries"]
    assert (only["state"], producer["state"]) == ("success", "failed")
    assert only["start_date"] < producer["start_date"]
    assert only["end_date"] > producer["end_date"]


def test_run_succeeds_without_an_alert(run: dict[str, Any]) -> None:
    states = {task_id: task["state"] for task_id, task in run["tasks"].items()}
    assert run["state"] == "success"
    assert run["alerts"] == []
    assert states["dbt_check"] == "success"
    assert states["sns_notification_for_failure"] == "skipped"
    unsuccessful_tasks = {task_id for task_id, state in states.items() if state != "success"}
    producer_tasks = {"transform_data.dbt_producer_watcher", "transform_data.dbt_producer_watcher_done"}
    assert unsuccessful_tasks == producer_tasks | {"sns_notification_for_failure"}


def test_only_the_failed_model_is_retried(run: dict[str, Any]) -> None:
    on_workers = {(row["airflow_task_id"], row["airflow_try_number"]) for row in run["audit"]}
    retried_tasks = {task_id for task_id, try_number in on_workers if try_number > 1}
    assert retried_tasks == {"transform_data.flaky.run"}
    assert ("transform_data.reader.run", 1) in on_workers


def test_audit_table_contains_both_tries_and_every_test(run: dict[str, Any]) -> None:
    statuses: dict[str, set[str]] = {}
    for row in run["audit"]:
        statuses.setdefault(row["name"], set()).add(row["status"])
    assert statuses["flaky"] == {"error", "success"}
    assert statuses["reader"] == {"skipped", "success"}
    assert statuses["steady"] == {"success"}
    tries = [row for row in run["audit"] if row["name"] == "flaky"]
    results = [(row["status"], row["airflow_task_id"], row["airflow_try_number"]) for row in tries]
    assert results == [("error", "transform_data.dbt_producer_watcher", 1), ("success", "transform_data.flaky.run", 2)]
    for name in ("not_null_flaky_id", "not_null_reader_id", "relationships_steady_id__id__ref_flaky_"):
        assert statuses[name] == {"skipped", "pass"}, name


def test_run_leaves_no_airflow_variables(run: dict[str, Any]) -> None:
    assert run["variables"] == []
