"""The smoke test reports the cause of a failure. Airflow is fake here, and real in e2e/test_two_environments.py."""

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
    """A fake Airflow whose run ends in a configurable state."""

    def __init__(self) -> None:
        self.release: str | None = RELEASE
        # The state of the run, and the states before it.
        # Runs start with this release.
        self.stored = RELEASE
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
            details = {
                "tags": tags,
                "doc_md": f"Release: {self.stored}",
                "is_paused": self.paused,
                "next_dagrun_logical_date": self.due,
            }
            return (200, details) if self.release else (404, {"detail": "no"})
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
    fake = Airflow()

    Passwords.generate(tmp_path)
    with serving(fake.answer) as port, running_aws(tmp_path, port) as aws:
        yield fake, aws


@pytest.fixture
def run(airflow):
    """A function that runs the smoke test on a new environment."""
    _, aws = airflow
    mwaa = aws.client("mwaa", config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))
    name = f"mwaa-{secrets.token_hex(4)}"
    create_environment(mwaa, name)

    def go(environment: str = name, dag: str = "flights_pipeline", **options: float) -> str:
        return smoke(mwaa, environment, dag, RELEASE, poll_seconds=0.01, **options)

    return go


def test_smoke_test_triggers_one_run_and_reports_every_failure(airflow, run):
    fake, _ = airflow
    runs = "/api/v2/dags/flights_pipeline/dagRuns"
    run_id = run()
    assert fake.earlier_states == []
    # The smoke run replaces the scheduled run that is due, and starts before the DAG is unpaused.
    started = ("POST", runs, {"dag_run_id": run_id, "logical_date": fake.due})
    unpaused = ("PATCH", "/api/v2/dags/flights_pipeline", {"is_paused": False})
    assert fake.calls.index(started) < fake.calls.index(unpaused)
    fake.due, fake.calls = "2999-01-01T06:00:00Z", []
    assert ("POST", runs, {"dag_run_id": run(), "logical_date": None}) in fake.calls
    fake.paused, fake.due, fake.calls = False, "2026-01-01T06:00:00Z", []
    assert ("POST", runs, {"dag_run_id": run(), "logical_date": None}) in fake.calls
    assert unpaused not in fake.calls

    fake.state, fake.failed = "failed", ["transform_data.departures.run", "dbt_check"]
    with pytest.raises(DeployError, match=r"is failed; failed: dbt_check, transform_data\.departures\.run\."):
        run()
    fake.state = "running"
    with pytest.raises(DeployError, match="is still running after 0 minutes"):
        run(total_seconds=0.05)
    fake.state, fake.failed = None, []
    with pytest.raises(DeployError, match=r"is gone$"):
        run()
    fake.state = "refused"
    with pytest.raises(DeployError, match=r"POST /dags/flights_pipeline/dagRuns\): 409: .*exists"):
        run()
    for fake.release, details in (("another", "the tags dbt, release:another"), (None, "no such DAG")):
        with pytest.raises(DeployError, match=rf"(?s)Airflow shows {details}\n  pipelines\.py: PipelineError: no"):
            run(parsed_seconds=0.05)
    # Airflow has parsed the release, but runs still start with the earlier one.
    fake.release, fake.stored = RELEASE, "20251231T000001Z-abcdef0"
    with pytest.raises(DeployError, match=f"does not run {RELEASE}"):
        run(parsed_seconds=0.05)
    with pytest.raises(SetupError, match="no MWAA environment nobody"):
        run("nobody")
    with pytest.raises(SetupError, match="at most 64 characters; shorten the DAG's name"):
        run(dag="d" * 60)
