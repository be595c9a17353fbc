"""The sample pipeline on a real scheduler, from the release to the audit rows, without leftovers."""

import contextlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_report import DBT_PACKAGE
from mwaa_local.mwaa.api import Airflow
from mwaa_local.query import statement
from mwaa_local.settings import REPOSITORY, Passwords
from mwaa_local.stack import connect, rows
from mwaa_local.testing.audit import audited, reported
from mwaa_local.testing.checkout import Checkout, new_checkout
from redshift_local.server.postgres import Postgres

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    separate = new_checkout(tmp_path_factory.mktemp("pipeline") / "state")
    up = separate.command("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield separate
    separate.command("down")


@pytest.fixture(scope="module")
def run(checkout: Checkout) -> dict[str, Any]:
    # copier: if in_template
    from mwaa_local.aws import seed

    # A file with a header only.
    key, header = "nycflights13/airlines/later.csv", b"carrier,name\n"
    seed.client(checkout.settings, "s3").put_object(Bucket=seed.LANDING_BUCKET, Key=key, Body=header)
    # copier: endif
    completed = checkout.command("run")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    # copier: if in_template
    assert "Loaded: 1 new file, 0 rows" in completed.stdout
    # copier: endif
    for heading in ("Tasks", "Audit rows of this run", "Alerts: none", "success"):
        assert heading in completed.stdout
    return json.loads((checkout.state / "last-run.json").read_text())


@pytest.fixture(scope="module")
def manifest(checkout: Checkout) -> dict[str, Any]:
    (manifest_file,) = (checkout.state / "mwaa" / "dags" / "dbt" / "flights").glob("*/manifest.json")
    return json.loads(manifest_file.read_text())


def _airflow(checkout: Checkout) -> "contextlib.closing[Airflow]":
    passwords = Passwords.load(checkout.state)
    return contextlib.closing(Airflow(checkout.settings.airflow_port, passwords.airflow_admin))


def test_run_succeeds_with_a_task_for_every_model_and_its_tests(run: dict[str, Any], manifest: dict[str, Any]) -> None:
    assert run["dag_id"] == "flights_pipeline"
    assert run["state"] == "success"
    assert run["alerts"] == []
    assert run["wall_seconds"] > 0
    tasks = run["tasks"]
    assert tasks["dbt_check"] == "success"
    assert tasks["pipeline_succeeded"] == "success"
    assert tasks["sns_notification_for_failure"] == "skipped"
    nodes = manifest["nodes"].values()
    tested = {name for node in nodes if node["resource_type"] == "test" for name in node["depends_on"]["nodes"]}
    models = [node for node in nodes if node["resource_type"] == "model" and node["package_name"] != "audit_trail"]
    # A new copy of the template has no models.
    assert bool(models) == any((REPOSITORY / "dbt_project" / "models").rglob("*.sql"))
    for node in models:
        if node["unique_id"] in tested:
            assert tasks[f"transform_data.{node['name']}.run"] == "success"
            assert tasks[f"transform_data.{node['name']}.test"] == "success"
        else:
            assert tasks[f"transform_data.{node['name']}_run"] == "success"
    assert [task for task in tasks if task.startswith("audit_dbt_task.")] == ["audit_dbt_task.audit_table_model_build"]


def test_dbt_parses_the_project_once(checkout: Checkout, run: dict[str, Any]) -> None:
    logs = checkout.state / "mwaa" / "logs" / "tasks" / "dag_id=flights_pipeline" / f"run_id={run['run_id']}"
    parsed = {
        task_id: "Starting full parse" in (logs / f"task_id={task_id}" / "attempt=1.log").read_text()
        for task_id in ("audit_dbt_task.audit_table_model_build", "transform_data.dbt_producer_watcher")
    }
    assert list(parsed.values()) == [True, False], parsed


def test_run_uses_one_worker_slot_at_a_time(checkout: Checkout, run: dict[str, Any]) -> None:
    with _airflow(checkout) as airflow:
        tasks = airflow.tasks("flights_pipeline", run["run_id"])
    # All other tasks ran in the triggerer, or were empty.
    worker_tasks = sorted((task for task in tasks if task["hostname"]), key=lambda task: task["queued_when"])
    assert [task["task_id"] for task in worker_tasks] == [
        # copier: if in_template
        "load_sources.copy_files",
        # copier: endif
        "audit_dbt_task.audit_table_model_build",
        "transform_data.dbt_producer_watcher",
        "dbt_check",
        "pipeline_succeeded",
    ]
    for before, after in itertools.pairwise(worker_tasks):
        assert before["end_date"] <= after["queued_when"]


def check_audit(checkout: Checkout, run: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Assert that the run's audit rows equal dbt's results, and return them."""
    with _airflow(checkout) as airflow:
        expected = reported(airflow, "flights_pipeline", run["run_id"])
    passwords = Passwords.load(checkout.state)
    with contextlib.closing(connect(checkout.settings, "dbt_user", passwords.dbt_user)) as connection:
        audit_rows = audited(connection, "analytics", run["run_id"])
    assert audit_rows == expected
    assert run["audit_rows"] == len(audit_rows)
    return audit_rows


def test_audit_rows_match_dbts_results(checkout: Checkout, run: dict[str, Any]) -> None:
    assert len(check_audit(checkout, run)) > 20


def test_every_saved_question_runs_on_the_sample_data(checkout: Checkout, run: dict[str, Any]) -> None:
    assert run["state"] == "success"
    passwords = Passwords.load(checkout.state)
    questions = sorted(path.stem for path in (DBT_PACKAGE / "analyses").glob("*.sql"))
    with contextlib.closing(connect(checkout.settings, "dbt_user", passwords.dbt_user)) as connection:
        answers = {question: rows(connection, statement(question))[1] for question in questions}
    assert len(answers["what_takes_longest"]) == 20
    assert list(answers["what_failed_in_the_last_run"]) == []
    assert len(answers["how_long_do_runs_take"]) == 1
    completed = checkout.command("sql", "what_takes_longest")
    # The first line has the names of the columns.
    assert (completed.returncode, len(completed.stdout.splitlines())) == (0, 21), completed.stderr


# copier: if in_template
def test_sample_data_is_loaded_completely(checkout: Checkout) -> None:
    completed = checkout.command("sql", "select count(*) from landing.flights")
    assert (completed.returncode, completed.stdout.splitlines()[1:]) == (0, ["336776"])


def test_run_loads_only_files_that_up_has_not_loaded(checkout: Checkout, run: dict[str, Any]) -> None:
    query = "select airflow_run_id, count(*), sum(row_count) from analytics.loaded_files group by 1 order by 2"
    completed = checkout.command("sql", query)
    rows = [line.split() for line in completed.stdout.splitlines()[1:]]
    assert rows == [[run["run_id"], "1", "0"], ["local", "5", "367687"]], completed.stderr
    query = "select sum(rows_affected), max(bytes_loaded) from analytics.audit_table where resource_type = 'load'"
    assert checkout.command("sql", query).stdout.splitlines()[1].split()[0] == "0"


# copier: endif


def test_dbt_user_has_no_admin_permissions(checkout: Checkout, run: dict[str, Any]) -> None:
    for forbidden in (
        "create schema elsewhere",
        "create table landing.intruder (a integer)",
        # copier: if in_template
        "delete from landing.airlines",
        # copier: endif
        "create user intruder password 'Aa1aaaaaaaa'",
    ):
        completed = checkout.command("sql", forbidden)
        assert completed.returncode == 1, forbidden
        assert "denied" in completed.stderr, completed.stderr
    assert run["state"] == "success"


def test_no_secret_is_in_tracked_files_logs_dags_or_metadata(checkout: Checkout, run: dict[str, Any]) -> None:
    secrets = {name: value.encode() for name, value in vars(Passwords.load(checkout.state)).items()}
    assert run["state"] == "success"

    def files_with_secrets(paths: list[Path]) -> list[str]:
        files = []
        for path in paths:
            if path.is_file():
                content = path.read_bytes()
                files += [f"{name} in {path}" for name, value in secrets.items() if value in content]
        return files

    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert tracked
    assert files_with_secrets([REPOSITORY / name for name in tracked]) == []
    logs = list((checkout.state / "mwaa" / "logs").rglob("*.log"))
    assert any("task_id=" in str(path) for path in logs)
    assert files_with_secrets(logs) == []
    assert files_with_secrets(list((checkout.state / "mwaa" / "dags").rglob("*"))) == []

    database = Postgres(checkout.state / "mwaa" / "database")
    with psycopg.connect(database.conninfo("airflow")) as connection:
        for query in (
            "select data::text from serialized_dag",
            "select rendered_fields::text from rendered_task_instance_fields",
            "select value::text from xcom",
        ):
            texts = [row[0] or "" for row in connection.execute(query).fetchall()]
            assert texts, query
            for name, value in secrets.items():
                assert not [text for text in texts if value.decode() in text], f"{name}: {query}"


@pytest.mark.slow
def test_failed_run_is_reported_in_check_alert_and_audit_table(checkout: Checkout) -> None:
    completed = checkout.command("drill")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    last = json.loads((checkout.state / "last-run.json").read_text())
    assert last["state"] == "failed"
    assert last["tasks"]["dbt_check"] == "failed"
    assert last["tasks"]["sns_notification_for_failure"] == "success"
    assert "error" in {status for _, _, status in check_audit(checkout, last)}
    (alert,) = last["alerts"]
    assert "drill_fails" in alert["message"]
    assert "division by zero" in alert["message"].lower() or "divide by zero" in alert["message"].lower()
    # The node's own log has dbt's error, from before dbt ended.
    folder = f"*/run_id={last['run_id']}/task_id=transform_data.drill_fails_run"
    (log,) = (checkout.state / "mwaa" / "logs" / "tasks").glob(f"{folder}/attempt=1.log.trigger*")
    assert "division by zero" in log.read_text()


# copier: if in_template
@pytest.mark.slow
def test_broken_file_fails_the_run_and_is_named_in_alert_and_audit_table(checkout: Checkout) -> None:
    from mwaa_local.aws import seed

    s3, key = seed.client(checkout.settings, "s3"), "nycflights13/airlines/broken.csv"
    s3.put_object(Bucket=seed.LANDING_BUCKET, Key=key, Body=b"carrier,name\nTOO LONG,Airline\n")
    try:
        completed = checkout.command("run")
    finally:
        s3.delete_object(Bucket=seed.LANDING_BUCKET, Key=key)
    assert completed.returncode == 1, completed.stdout + completed.stderr
    last = json.loads((checkout.state / "last-run.json").read_text())
    assert last["tasks"]["load_sources.copy_files"] == "failed"
    assert last["tasks"]["transform_data.dbt_producer_watcher"] == "upstream_failed"
    (alert,) = last["alerts"]
    assert "load.flights.landing.airlines" in alert["subject"]
    assert f"s3://{seed.LANDING_BUCKET}/{key}: line 2, column carrier" in alert["message"]
    query = (
        "select status, rows_affected, message from analytics.audit_table where name = 'airlines' and status = 'error'"
    )
    _, output = checkout.command("sql", query).stdout.split("\n", 1)
    assert output.startswith("error\t0\ts3://"), output
    assert "value 'TOO LONG': String length exceeds DDL length" in output


# copier: endif


def test_down_leaves_no_processes_or_files(checkout: Checkout, run: dict[str, Any]) -> None:
    assert run["state"] == "success"
    assert checkout.leftovers()
    completed = checkout.command("down")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert checkout.leftovers() == []
