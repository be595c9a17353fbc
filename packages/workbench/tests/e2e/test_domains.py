"""A second domain reads a public mart of the first one on a real scheduler, and a breaking change of it is caught."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redshift_connector

from mwaa_local.mwaa.api import FINAL, Airflow, NoAnswerError
from mwaa_local.settings import Passwords
from mwaa_local.stack import connect, rows
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_local.testing.repository import committed_copy, git

# Time for the stand-ins, and a run of each pipeline on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FLIGHTS, TRIPS = "flights_pipeline", "trips_pipeline"
MART = "flights.daily_performance"
COLUMN = "{name: carrier_code, description: Airline., data_type: varchar(8), data_tests: [unique, not_null]}"
MODELS = {
    "staging/sources.yml": f"""\
sources:
  - name: flights
    schema: analytics
    description: Public models of the project flights.
    config:
      meta:
        owner: analytics-engineering
        product: {MART}
    tables:
      - name: daily_performance
        description: As described there.
""",
    "staging/stg_daily_performance.sql": """\
select
    daily_performance_key,
    carrier_code,
    scheduled_flights
from {{ source('flights', 'daily_performance') }}
""",
    "staging/stg_daily_performance.yml": """\
models:
  - name: stg_daily_performance
    description: One row for each day, airline and airport.
    columns:
      - name: daily_performance_key
        description: Key of the row.
        data_tests: [unique, not_null]
      - name: carrier_code
        description: Airline.
      - name: scheduled_flights
        description: Number of flights.
""",
    "marts/airlines_flown.sql": """\
select
    carrier_code,
    cast(sum(scheduled_flights) as bigint) as flights
from {{ ref('stg_daily_performance') }}
group by 1
""",
    "marts/airlines_flown.yml": f"""\
models:
  - name: airlines_flown
    description: One row for each airline.
    constraints:
      - type: primary_key
        columns: [carrier_code]
        warn_unenforced: false
    columns:
      - {COLUMN}
      - name: flights
        description: Number of flights.
        data_type: bigint
""",
}


def workbench(checkout: Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workbench", *arguments],
        cwd=checkout.repository,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@dataclass
class Scene:
    """The running stand-ins, after a run of the first pipeline."""

    checkout: Checkout
    airflow: Airflow
    flights_run: str

    def rows_of(self, user: str, query: str) -> list[tuple[Any, ...]]:
        passwords = Passwords.load(self.checkout.state)
        password = passwords.awsuser if user == "awsuser" else passwords.dbt_user
        with contextlib.closing(connect(self.checkout.settings, user, password)) as connection:
            return [tuple(row) for row in rows(connection, query)[1]]


def wait(condition: Callable[[], Any]) -> Any:
    """Return the first true result. The tests' time-out ends the wait."""
    while True:
        # A busy machine may take longer than a minute to answer.
        with contextlib.suppress(NoAnswerError):
            if value := condition():
                return value
        time.sleep(1)


def runs(airflow: Airflow, dag_id: str) -> list[dict[str, Any]]:
    return airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A repository with a new domain that reads the first one's public mart, and waits for it."""
    repository = committed_copy(tmp_path_factory.mktemp("domains") / "repository")
    checkout = new_checkout(tmp_path_factory.mktemp("state") / "state", repository)
    created = workbench(checkout, "new-domain", "trips")
    assert created.returncode == 0, created.stderr
    assert "deploy warehouse-user --secret-name trips/dbt_user --target-schema trips" in created.stdout
    for example in (repository / "trips" / "models" / "marts").iterdir():
        example.unlink()
    for name, text in MODELS.items():
        path = repository / "trips" / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    pipelines = repository / "dags" / "pipelines.yml"
    replace(pipelines, "    schedule: null\n", f"    schedule: [{MART}]\n")
    # A scheduled run would start beside that of the test.
    replace(pipelines, '  schedule: "0 6 * * *"', "  schedule: null")
    git(repository, "add", "--all")
    assert git(repository, "commit", "--quiet", "--message=Add trips").returncode == 0
    return checkout


@pytest.fixture(scope="module")
def scene(checkout: Checkout) -> Iterator[Scene]:
    try:
        up = checkout.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        password = Passwords.load(checkout.state).airflow_admin
        with contextlib.closing(Airflow(checkout.settings.airflow_port, password)) as airflow:
            airflow.call("PATCH", f"/dags/{TRIPS}", {"is_paused": False})
            run = airflow.trigger(FLIGHTS)
            assert wait(lambda: (state := airflow.run_state(FLIGHTS, run)) in FINAL and state) == "success"
            yield Scene(checkout, airflow, run)
    finally:
        checkout.command("down")


def test_linters_accept_the_domain(checkout: Checkout) -> None:
    checked = workbench(checkout, "conventions")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_breaking_change_fails_the_pull_request_and_names_the_consumers(checkout: Checkout) -> None:
    properties = checkout.repository / "dbt_project" / "models" / "marts" / "daily_performance.yml"
    replace(properties, "data_type: date\n", "data_type: timestamp\n")
    checked = workbench(checkout, "slim-ci", "--base", "HEAD")
    assert git(checkout.repository, "checkout", "--", str(properties)).returncode == 0
    assert checked.returncode == 1
    (line,) = [line for line in checked.stderr.splitlines() if line.startswith(MART)]
    assert line.startswith(
        f"{MART}: column flight_date was date, and is timestamp now. "
        f"Consumers: trips.stg_daily_performance ({TRIPS}), schedule of {TRIPS}, exposure punctuality_report. "
    )


def test_read_of_a_private_mart_is_refused(checkout: Checkout) -> None:
    sources = checkout.repository / "trips" / "models" / "staging" / "sources.yml"
    text = sources.read_text()
    sources.write_text(f"{text}      - name: departures\n        description: Private.\n")
    built = workbench(checkout, "slim-ci", "--base", "HEAD")
    sources.write_text(text)
    assert built.returncode != 0
    assert "the source flights.departures is flights.departures, which is not public" in built.stderr


def test_changed_domain_is_built_with_the_public_mart_that_it_reads(checkout: Checkout) -> None:
    model = checkout.repository / "trips" / "models" / "marts" / "airlines_flown.sql"
    text = model.read_text()
    model.write_text(f"-- changed\n{text}")
    checked = workbench(checkout, "slim-ci", "--base", "HEAD")
    model.write_text(text)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "flights: nothing changed" in checked.stdout
    assert "Built from the base for the change: daily_performance, with their parents" in checked.stdout
    assert "table model dbt_change_trips.airlines_flown" in checked.stdout
    pages = (checkout.state / "change" / "docs").iterdir()
    assert [page.name for page in pages] == ["trips.html"]


def test_domain_runs_after_the_public_mart_that_it_waits_for(scene: Scene) -> None:
    (run,) = wait(lambda: [run for run in runs(scene.airflow, TRIPS) if run["state"] in FINAL])
    assert (run["run_type"], run["state"]) == ("asset_triggered", "success")
    events = scene.airflow.call("GET", "/assets/events", source_dag_id=FLIGHTS)["asset_events"]
    updated = {(event["name"], event["source_task_id"], event["source_run_id"]) for event in events}
    assert updated == {
        (MART, "dbt_check", scene.flights_run),
        (FLIGHTS, "pipeline_succeeded", scene.flights_run),
    }
    assert scene.rows_of("awsuser", "select count(*), sum(flights) from trips.airlines_flown") == [(16, 336776)]


def test_domain_reads_the_public_mart_and_is_denied_the_private_one(scene: Scene) -> None:
    assert scene.rows_of("trips_user", "select count(*) from analytics.daily_performance")[0][0] > 0
    for table in ("departures", "audit_table"):
        with pytest.raises(redshift_connector.Error, match="permission denied"):
            scene.rows_of("trips_user", f"select count(*) from analytics.{table}")
    # Nobody but the domain reads its marts.
    with pytest.raises(redshift_connector.Error, match="permission denied"):
        scene.rows_of("dbt_user", "select count(*) from trips.airlines_flown")


def test_catalog_lists_the_public_mart(scene: Scene) -> None:
    built = workbench(scene.checkout, "site")
    assert built.returncode == 0, built.stdout + built.stderr
    page = (scene.checkout.repository / "docs" / "reference" / "data-products.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| [{MART}]")]
    assert "| analytics-engineering |" in row
    assert "| 100.0 % of " in row
    assert f"trips.stg_daily_performance ({TRIPS}); schedule of {TRIPS}" in row


def test_run_without_the_mart_starts_no_run_of_the_domain(scene: Scene) -> None:
    wait(lambda: all(run["state"] in FINAL for run in runs(scene.airflow, TRIPS)))
    conf = {"logical_date": None, "conf": {"select": ["stg_airlines"]}}
    run = scene.airflow.call("POST", f"/dags/{FLIGHTS}/dagRuns", conf)["dag_run_id"]
    assert wait(lambda: (state := scene.airflow.run_state(FLIGHTS, run)) in FINAL and state) == "success"
    events = scene.airflow.call("GET", "/assets/events", source_dag_id=FLIGHTS)["asset_events"]
    assert [event["name"] for event in events if event["source_run_id"] == run] == [FLIGHTS]
    assert len(runs(scene.airflow, TRIPS)) == 1
