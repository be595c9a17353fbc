"""Four pipelines on two databases from one pipelines.yml, two invalid entries, and runs with parameters."""

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redshift_connector

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow
from mwaa_local.settings import Passwords
from mwaa_local.stack import connect, rows
from mwaa_local.testing.audit import audited, reported
from mwaa_local.testing.checkout import Checkout, copy_repository, new_checkout
from mwaa_local.testing.project import sample_project
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import build
from mwaa_release.redshift import apply_grants
from mwaa_release.release import Artifact
from mwaa_release.run_dbt import clean_environment
from redshift_local.pytest_plugin import Warehouse, start_warehouse, stop_warehouse
from redshift_local.testing.preloaded_dbt import run_preloaded_dbt

# Time for the stand-ins, a second warehouse and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FLIGHTS, SMALL, HASTY = "flights_pipeline", "small_pipeline", "hasty_pipeline"
AIRLINES = "airlines_pipeline"
ENTRIES = """
  - dag_name: small_pipeline
    project_name: small
    redshift_connection_id: small_redshift
    secret_name: small/dbt_user
    target_database: dev
    target_schema: small_marts
    schedule: [flights_pipeline]
    execution_mode: local
    test_behavior: build
    vars: {answer: 42}
    rows_change_percent: 50
    sns_lambda_function_name: sns_notification
  - dag_name: hasty_pipeline
    project_name: small
    redshift_connection_id: hasty_redshift
    secret_name: hasty/not_there
    target_database: dev
    target_schema: small_marts
    schedule: null
    retry_delay_seconds: 3600
    deadline_minutes: 1
    run_timeout_minutes: 2
    sns_lambda_function_name: sns_notification
  - dag_name: airlines_pipeline
    project_name: flights
    redshift_connection_id: flights_redshift
    secret_name: flights/dbt_user
    target_database: dev
    target_schema: analytics
    schedule: null
    # Cosmos would select nothing by a wildcard.
    select: [stg_air*]
"""
INVALID_ENTRIES = """
  - dag_name: wrong_pipeline
    project_name: flights
    redshift_connection_id: flights_redshift
    target_database: dev
    target_schema: analytics
  - dag_name: long_tag_pipeline
    project_name: small
    redshift_connection_id: long_tag_redshift
    target_database: dev
    target_schema: small_marts
    tags: [TOO_LONG]
"""
INVALID_ENTRIES = INVALID_ENTRIES.replace("TOO_LONG", "x" * 101)
# Each run adds as many rows as there are.
MODEL = """{{ config(materialized='incremental') }}
select {{ var('answer', 0) }} as id {{ 'from ' ~ this if is_incremental() }}"""
PROPERTIES = "models: [{name: one, columns: [{name: id, data_tests: [not_null]}]}]\n"


def small_project(folder: Path) -> Path:
    """The sample project under another name, with one model and the audit trail."""
    sample_project(folder)
    for name in ("models", "seeds", "snapshots"):
        shutil.rmtree(folder / name)
    (folder / "models").mkdir()
    for test in (folder / "tests").glob("*.sql"):
        test.unlink()
    settings = folder / "dbt_project.yml"
    text = (
        settings.read_text().replace("flights", "small").replace("prod_schema: analytics", "prod_schema: small_marts")
    )
    settings.write_text(text)
    profiles = folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("flights:", "small:"))
    (folder / "models" / "one.sql").write_text(MODEL)
    (folder / "models" / "one.yml").write_text(PROPERTIES)
    return folder


class Scene:
    """The running stand-ins, a second warehouse and a client of Airflow."""

    def __init__(self, checkout: Checkout, second: Warehouse, airflow: Airflow) -> None:
        self.checkout, self.second, self.airflow = checkout, second, airflow
        self.passwords = Passwords.load(checkout.state)
        self.small_password = f"Aa1{secrets.token_hex(16)}"

    def prepare(self) -> None:
        settings = self.checkout.settings
        with contextlib.closing(self.second.connect()) as admin:
            admin.autocommit = True
            admin.cursor().execute("create schema landing")
            apply_grants(admin, "small_user", self.small_password, "landing", "small_marts")
        login = {"username": "small_user", "password": self.small_password}
        address = {"conn_type": "redshift", "host": self.second.host, "port": self.second.port, "schema": "dev"}
        manager = seed.client(settings, "secretsmanager")
        seed.let_tasks_read(settings, "*/dbt_user")
        manager.create_secret(Name="small/dbt_user", SecretString=json.dumps(login))
        connection = json.dumps({**address, "extra": {"sslmode": "disable"}})
        for name in ("small_redshift", "hasty_redshift"):
            manager.create_secret(Name=f"airflow/connections/{name}", SecretString=connection)
        repository = copy_repository(self.checkout.state / "repository")
        pipelines = repository / "dags" / "pipelines.yml"
        # A scheduled run would start before the runs of these tests.
        text = pipelines.read_text().replace(
            f"dag_name: {FLIGHTS}\n", f"dag_name: {FLIGHTS}\n    schedule: null\n    deadline_minutes: 2\n"
        )
        assert "schedule: null" in text
        pipelines.write_text(text + ENTRIES)
        folder = self.checkout.state / "artifact"
        build(folder, [repository / "dbt_project", small_project(self.checkout.state / "small")], repository)
        # A build refuses them.
        (folder / "dags" / "pipelines.yml").write_text(text + ENTRIES + INVALID_ENTRIES)
        apply(Artifact.read(folder), Bucket(seed.DAGS_BUCKET, seed.client(settings, "s3")))

    def wait(self, condition: Callable[[], Any], seconds: float = 1200) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline
            time.sleep(1)
        return value

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        with contextlib.suppress(httpx.HTTPStatusError):
            return self.airflow.call("GET", f"/dags/{dag_id}/details")
        return None

    def start(self, dag_id: str, **conf: Any) -> str:
        run = self.airflow.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        self.airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        return run["dag_run_id"]

    def end(self, dag_id: str, run_id: str) -> dict[str, Any]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        return self.wait(lambda: (run := self.airflow.call("GET", path))["state"] in FINAL and run)

    def audited(self, connection: redshift_connector.Connection, schema: str, run_id: str) -> list[str]:
        query = f"select distinct name from {schema}.audit_table where airflow_run_id = %s and resource_type <> 'load'"
        return [name for (name,) in rows(connection, query, (run_id,))[1]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    checkout = new_checkout(tmp_path_factory.mktemp("two") / "state")
    second = start_warehouse(tmp_path_factory.mktemp("second"))
    try:
        up = checkout.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        passwords = Passwords.load(checkout.state)
        with contextlib.closing(Airflow(checkout.settings.airflow_port, passwords.airflow_admin)) as airflow:
            scene = Scene(checkout, second, airflow)
            scene.prepare()
            scene.wait(lambda: scene.dag(SMALL), 120)
            yield scene
    finally:
        stop_warehouse(second)
        checkout.command("down")


@pytest.fixture(scope="module")
def runs(scene: Scene) -> dict[str, dict[str, Any]]:
    """One run of each pipeline, started together. The flights run builds one view."""
    for dag_id in (FLIGHTS, SMALL):
        scene.airflow.end_open_runs(dag_id)
    started = {FLIGHTS: scene.start(FLIGHTS, select=["stg_airlines"]), SMALL: scene.start(SMALL)}
    return {dag_id: scene.end(dag_id, run_id) for dag_id, run_id in started.items()}


def test_invalid_entries_are_an_import_error_and_other_dags_keep_running(scene: Scene) -> None:
    errors = scene.wait(lambda: scene.airflow.call("GET", "/importErrors")["import_errors"], 120)
    (error,) = errors
    assert error["filename"] == "pipelines_errors.py"
    reason = "redshift_connection_id: 'flights_redshift' is already used by pipeline flights_pipeline"
    assert f": pipeline wrong_pipeline: {reason}. Pipelines can share it if" in error["stack_trace"]
    last = error["stack_trace"].strip().splitlines()[-1]
    assert last.startswith("  pipeline long_tag_pipeline: its DAG cannot be created: ValueError: tag cannot be longer")
    assert scene.dag("wrong_pipeline") is None
    assert scene.dag("long_tag_pipeline") is None
    for dag_id in (FLIGHTS, SMALL):
        dag = scene.dag(dag_id)
        assert (dag["is_stale"], dag["has_import_errors"]) == (False, False)


def test_pipelines_run_at_the_same_time(runs: dict[str, dict[str, Any]]) -> None:
    assert {dag_id: run["state"] for dag_id, run in runs.items()} == {FLIGHTS: "success", SMALL: "success"}
    first_run, second_run = runs.values()
    assert first_run["start_date"] < second_run["end_date"]
    assert second_run["start_date"] < first_run["end_date"]


def test_pipeline_writes_only_to_its_own_database(scene: Scene, runs: dict[str, dict[str, Any]]) -> None:
    first = connect(scene.checkout.settings, "awsuser", scene.passwords.awsuser)
    with contextlib.closing(first), contextlib.closing(scene.second.connect()) as second:
        assert "one" in scene.audited(second, "small_marts", runs[SMALL]["dag_run_id"])
        assert rows(second, "select distinct id from small_marts.one")[1] == [(42,)]
        assert scene.audited(second, "small_marts", runs[FLIGHTS]["dag_run_id"]) == []
        assert scene.audited(first, "analytics", runs[SMALL]["dag_run_id"]) == []
        users = "select distinct usename from pg_user where usename like '%user' order by 1"
        assert [name for (name,) in rows(first, users)[1]] == ["awsuser", "dbt_user"]
        assert [name for (name,) in rows(second, users)[1]] == ["awsuser", "small_user"]


def test_audit_rows_match_dbts_results_in_local_execution_mode(scene: Scene, runs: dict[str, dict[str, Any]]) -> None:
    run_id = runs[SMALL]["dag_run_id"]
    expected = reported(scene.airflow, SMALL, run_id)
    # The audit task needed dbt in an earlier run only.
    assert len({invocation for invocation, _, _ in expected}) >= 2
    with contextlib.closing(scene.second.connect()) as connection:
        assert audited(connection, "small_marts", run_id) == expected


def test_run_with_a_selection_builds_only_the_selected_models(scene: Scene, runs: dict[str, dict[str, Any]]) -> None:
    with contextlib.closing(connect(scene.checkout.settings, "awsuser", scene.passwords.awsuser)) as connection:
        names = scene.audited(connection, "analytics", runs[FLIGHTS]["dag_run_id"])
    assert "stg_airlines" in names
    assert not {"departures", "stg_flights", "airports"} & set(names)


def test_successful_run_triggers_the_pipeline_that_waits_for_its_asset(
    scene: Scene, runs: dict[str, dict[str, Any]]
) -> None:
    assert runs[FLIGHTS]["state"] == "success"
    path = f"/dags/{SMALL}/dagRuns"
    by_asset = scene.wait(
        lambda: [r for r in scene.airflow.call("GET", path)["dag_runs"] if r["run_type"] == "asset_triggered"], 120
    )
    assert scene.end(SMALL, by_asset[0]["dag_run_id"])["state"] == "success"


def test_pipelines_of_one_schema_take_turns(scene: Scene) -> None:
    started = {AIRLINES: scene.start(AIRLINES), FLIGHTS: scene.start(FLIGHTS, select=["stg_airlines"])}
    tasks = {}
    for dag_id, run_id in started.items():
        assert scene.end(dag_id, run_id)["state"] == "success"
        tasks[dag_id] = {task["task_id"]: task for task in scene.airflow.tasks(dag_id, run_id)}
    first, second = sorted(tasks, key=lambda dag_id: tasks[dag_id]["wait_for_turn"]["end_date"])
    assert tasks[first]["dbt_check"]["end_date"] < tasks[second]["wait_for_turn"]["end_date"]
    path = f"/dags/{second}/dagRuns/{started[second]}/taskInstances/wait_for_turn/logs/1"
    log = json.dumps(scene.airflow.call("GET", path, full_content="true"))
    assert f"Waiting for {first}, which builds in the same schema" in log


def test_alert_names_a_model_that_wrote_many_more_rows(scene: Scene) -> None:
    def runs_by_asset() -> list[dict[str, Any]]:
        return scene.airflow.call("GET", f"/dags/{SMALL}/dagRuns", run_type="asset_triggered")["dag_runs"]

    # Each of the two flights runs started one. dbt does not report the rows of the run that created the table.
    scene.wait(lambda: len(runs_by_asset()) == 2, 120)
    assert {scene.end(SMALL, run["dag_run_id"])["state"] for run in runs_by_asset()} == {"success"}
    (alert,) = seed.read_alerts(scene.checkout.settings)
    assert alert["subject"] == f"WARNED {SMALL}: model.small.one"
    assert "wrote 2 rows, 1 the last time: more than 50 % apart" in alert["message"]


def test_entry_builds_what_its_selector_means(scene: Scene) -> None:
    (run,) = scene.airflow.call("GET", f"/dags/{AIRLINES}/dagRuns")["dag_runs"]
    with contextlib.closing(connect(scene.checkout.settings, "awsuser", scene.passwords.awsuser)) as connection:
        query = "select name from analytics.audit_table where airflow_run_id = %s and resource_type = 'model'"
        built = {name for (name,) in rows(connection, query, (run["dag_run_id"],))[1] if not name.startswith("audit_")}
    project = scene.checkout.state / "repository" / "dbt_project"
    places = ["--profiles-dir", str(project)]
    arguments = ["ls", "--quiet", "--select", "stg_air*", "--resource-type", "model", "--output", "name"]
    listed = run_preloaded_dbt(*arguments, *places, cwd=project, env=clean_environment())
    assert built == set(listed.stdout.split())
    assert built == {"stg_airlines", "stg_airports"}


def test_database_user_can_write_only_to_its_own_schema(scene: Scene) -> None:
    with contextlib.closing(scene.second.connect()) as admin:
        apply_grants(admin, "neighbour", scene.small_password, "landing", "neighbours_marts")
    for user, other_schema in (("neighbour", "small_marts"), ("small_user", "neighbours_marts")):
        with contextlib.closing(scene.second.connect(user, scene.small_password)) as connection:
            connection.autocommit = True
            for statement in (
                f"create table {other_schema}.mine (id integer)",
                f"select * from {other_schema}.audit_table",
                f"drop schema {other_schema} cascade",
                "create schema mine",
                "create table landing.mine (id integer)",
            ):
                with pytest.raises(redshift_connector.Error, match=r"permission denied|must be owner"):
                    connection.cursor().execute(statement)
    # The password of one database does not work for the other.
    with pytest.raises(redshift_connector.Error):
        connect(scene.checkout.settings, "small_user", scene.small_password)
    with pytest.raises(redshift_connector.Error):
        scene.second.connect("dbt_user", scene.passwords.dbt_user)


def test_sql_in_a_run_parameter_is_rejected_before_the_run_starts(scene: Scene) -> None:
    for conf in (
        {"start": "2013-01-01'; drop schema landing; --"},
        {"select": ["x; drop schema landing"]},
        {"select": "x"},
    ):
        with pytest.raises(httpx.HTTPStatusError) as raised:
            scene.start(FLIGHTS, **conf)
        assert raised.value.response.status_code == httpx.codes.BAD_REQUEST
        assert "Invalid input for param" in raised.value.response.text


def test_invalid_date_range_fails_the_run_and_sends_an_alert(scene: Scene) -> None:
    seed.read_alerts(scene.checkout.settings)
    run = scene.end(FLIGHTS, scene.start(FLIGHTS, start="2013-02-01", end="2013-01-01"))
    assert run["state"] == "failed"
    (alert,) = seed.read_alerts(scene.checkout.settings)
    assert "the run parameter start=2013-02-01 must be before end=2013-01-01" in alert["message"]
    tasks = {task["task_id"]: task["state"] for task in scene.airflow.tasks(FLIGHTS, run["dag_run_id"])}
    assert tasks["transform_data.dbt_producer_watcher"] == "upstream_failed"


def test_slow_run_sends_one_late_alert_and_then_times_out(scene: Scene) -> None:
    failed_flights_run = scene.airflow.call("GET", f"/dags/{FLIGHTS}/dagRuns", state="failed", order_by="-run_after")[
        "dag_runs"
    ][0]
    seed.read_alerts(scene.checkout.settings)
    alerts: list[dict[str, str]] = []
    run = scene.end(HASTY, scene.start(HASTY))
    assert run["state"] == "failed"
    scene.wait(lambda: alerts.extend(seed.read_alerts(scene.checkout.settings)) or len(alerts) > 1, 120)
    # Airflow keeps the deadline of a failed run. The deadline of the failed flights run has passed by now.
    assert (datetime.now(UTC) - datetime.fromisoformat(failed_flights_run["queued_at"])).total_seconds() > 120
    late, failed = alerts
    assert late["subject"] == f"LATE {HASTY}"
    assert f"/dags/{HASTY}/runs/{quote(run['dag_run_id'])}" in late["message"]
    assert "The run is not finished after 1 minutes. It continues;" in late["message"]
    assert run["dag_run_id"] in failed["message"]
    assert "the run took longer than run_timeout_minutes: 2" in failed["message"]
