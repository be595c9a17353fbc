"""A smoke test tells what went wrong. Airflow's answers are forced here; a real one runs in tests/e2e/test_smoke.py."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config

from mwaa_local.settings import Passwords
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.fake_airflow import create_environment, serving
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.smoke import smoke

RELEASE = "20260101T000001Z-abcdef1"


class Airflow:
    """Answers as Airflow would whose run ends in a given state."""

    def __init__(self) -> None:
        self.release: str | None = RELEASE
        # The state of the run, and the states before it.
        self.state: str | None = "success"
        self.earlier_states = ["queued", "running"]
        self.paused = True
        self.failed: list[str] = []
        self.due = "2026-01-01T06:00:00Z"
        self.calls: list[tuple[str, str, Any]] = []

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls.append((method, path, body))
        if path.endswith("/details"):
            tags = [{"name": "dbt"}, {"name": f"release:{self.release}"}]
            displayed = {"tags": tags, "is_paused": self.paused, "next_dagrun_logical_date": self.due}
            return (200, displayed) if self.release else (404, {"detail": "no"})
        if path.endswith("/importErrors"):
            return 200, {"import_errors": [{"filename": "pipelines.py", "stack_trace": "Traceback\nPipelineError: no"}]}
        if path.endswith("/taskInstances/list"):
            return 200, {"task_instances": [{"task_id": task} for task in self.failed]}
        if method == "GET":
            state = self.earlier_states.pop(0) if self.earlier_states else self.state
            return (200, {"state": state}) if state else (404, {"detail": "no"})
        return (409, {"detail": "exists"}) if self.state == "refused" and method == "POST" else (200, {})


@pytest.fixture
def airflow(tmp_path) -> Iterator[tuple[Airflow, Aws]]:
    played = Airflow()

    Passwords.generate(tmp_path)
    with serving(played.answer) as port, running_aws(tmp_path, port) as aws:
        yield played, aws


@pytest.fixture
def run(airflow):
    """Runs the smoke test on an environment of its own."""
    _, aws = airflow
    mwaa = aws.client("mwaa", config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))
    name = f"mwaa-{secrets.token_hex(4)}"
    create_environment(mwaa, name)

    def go(environment: str = name, dag: str = "flights_pipeline", **options: float) -> str:
        return smoke(mwaa, environment, dag, RELEASE, poll_seconds=0.01, **options)

    return go


def test_the_ways_in_which_it_ends(airflow, run):
    played, _ = airflow
    runs = "/api/v2/dags/flights_pipeline/dagRuns"
    run_id = run()
    assert played.earlier_states == []
    # It takes the place of the run that is due, and is there before the DAG is switched on.
    started = ("POST", runs, {"dag_run_id": run_id, "logical_date": played.due})
    switched_on = ("PATCH", "/api/v2/dags/flights_pipeline", {"is_paused": False})
    assert played.calls.index(started) < played.calls.index(switched_on)
    played.due, played.calls = "2999-01-01T06:00:00Z", []
    assert ("POST", runs, {"dag_run_id": run(), "logical_date": None}) in played.calls
    played.paused, played.due, played.calls = False, "2026-01-01T06:00:00Z", []
    assert ("POST", runs, {"dag_run_id": run(), "logical_date": None}) in played.calls
    assert switched_on not in played.calls

    played.state, played.failed = "failed", ["transform_data.departures.run", "dbt_check"]
    with pytest.raises(DeployError, match=r"is failed; failed: dbt_check, transform_data\.departures\.run\."):
        run()
    played.state = "running"
    with pytest.raises(DeployError, match="is still running after 0 minutes"):
        run(total_seconds=0.05)
    played.state, played.failed = None, []
    with pytest.raises(DeployError, match=r"is gone$"):
        run()
    played.state = "refused"
    with pytest.raises(DeployError, match=r"POST /dags/flights_pipeline/dagRuns\): 409: .*exists"):
        run()
    for played.release, displayed in (("another", "the tags dbt, release:another"), (None, "no such DAG")):
        with pytest.raises(DeployError, match=rf"(?s)Airflow shows {displayed}\n  pipelines\.py: PipelineError: no"):
            run(parsed_seconds=0.05)
    with pytest.raises(SetupError, match="no MWAA environment nobody"):
        run("nobody")
    with pytest.raises(SetupError, match="at most 64 characters; shorten the DAG's name"):
        run(dag="d" * 60)
