"""A pipeline moves from one running Airflow to another while it runs."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mwaa_local.aws import seed
from mwaa_local.settings import ENVIRONMENT, HOST, Passwords
from mwaa_local.testing.checkout import Checkout, new_checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG, GREEN = "flights_pipeline", "green"


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Checkout]]:
    pair = [new_checkout(tmp_path_factory.mktemp(name) / "state") for name in ("blue", "green")]
    try:
        for checkout in pair:
            up = checkout.command("up")
            assert up.returncode == 0, up.stdout + up.stderr
        yield pair
    finally:
        for checkout in pair:
            checkout.command("down")
    assert [checkout.leftovers() for checkout in pair] == [[], []]


def test_pipeline_moves_after_its_current_run_has_ended(checkouts: list[Checkout]) -> None:
    blue, green = checkouts
    mwaa = seed.client(blue.settings, "mwaa")
    password = Passwords.load(green.state).airflow_admin
    blue_environment = mwaa.get_environment(Name=ENVIRONMENT)["Environment"]
    mwaa.create_environment(
        Name=GREEN,
        **{
            name: blue_environment[name]
            for name in ("DagS3Path", "ExecutionRoleArn", "SourceBucketArn", "NetworkConfiguration")
        },
        Tags={"local-airflow": f"http://admin:{password}@{HOST}:{green.settings.airflow_port}"},
    )

    def call(environment: str, method: str, path: str, **more: Any) -> Any:
        return mwaa.invoke_rest_api(Name=environment, Method=method, Path=path, **more)["RestApiResponse"]

    assert call(GREEN, "GET", f"/dags/{DAG}")["is_paused"] is True
    call(ENVIRONMENT, "POST", f"/dags/{DAG}/dagRuns", Body={"dag_run_id": "last", "logical_date": None})
    call(ENVIRONMENT, "PATCH", f"/dags/{DAG}", Body={"is_paused": False})
    command = [sys.executable, "-m", "mwaa_release", "move", DAG, "--from", ENVIRONMENT, "--to", GREEN]
    completed = subprocess.run(
        command,
        cwd=blue.repository,
        env={**blue.environment, **blue.settings.aws_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"{DAG} is off in {ENVIRONMENT} and on in {GREEN}" in completed.stdout
    assert "waiting for run" in completed.stderr
    runs = call(ENVIRONMENT, "GET", f"/dags/{DAG}/dagRuns")["dag_runs"]
    assert {run["state"] for run in runs} == {"success"}
    assert [call(name, "GET", f"/dags/{DAG}")["is_paused"] for name in (ENVIRONMENT, GREEN)] == [True, False]
