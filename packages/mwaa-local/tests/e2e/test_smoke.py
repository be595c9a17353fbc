"""Runs that are triggered with MWAA's InvokeRestApi: a release's smoke test, and a new file in the landing bucket."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mwaa_local.aws import roles, seed
from mwaa_local.settings import ENVIRONMENT
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_release.bucket import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    # The path of PostgreSQL's socket can have at most 107 bytes, and tmp_path is long.
    separate = new_checkout(tmp_path_factory.mktemp("smoke") / "state")
    try:
        up = separate.command("up")
        assert up.returncode == 0, up.stdout + up.stderr
        yield separate
    finally:
        separate.command("down")
    assert separate.leftovers() == []


def test_smoke_test_runs_the_pipeline_from_the_applied_release(checkout: Checkout) -> None:
    s3 = seed.client(checkout.settings, "s3")
    # Use the release role, as the workflow does.
    credentials = roles.keys(roles.job_session(checkout.settings, seed.RELEASE_ROLE_ARN))
    release = (Bucket(seed.DAGS_BUCKET, s3).read("dags/dbt/flights/CURRENT") or b"").decode().strip()
    completed = subprocess.run(
        [sys.executable, "-m", "mwaa_release", "smoke", "--environment", ENVIRONMENT, "--release", release],
        cwd=checkout.repository,
        env={**checkout.environment, **checkout.settings.aws_environment(), **credentials, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"of release {release} succeeded" in completed.stdout
    run_id = completed.stdout.split(" run ")[1].split()[0]
    rows = checkout.command("sql", f"select count(*) from analytics.audit_table where airflow_run_id = '{run_id}'")
    assert int(rows.stdout.split()[-1]) > 20


def test_other_users_reach_no_port_and_no_password(checkout: Checkout) -> None:
    assert checkout.exposed() == []


def test_new_file_starts_one_run_whose_note_names_the_file(checkout: Checkout, tmp_path: Path) -> None:
    functions, mwaa = (seed.client(checkout.settings, service) for service in ("lambda", "mwaa"))
    code = Path(shutil.make_archive(str(tmp_path / "lambda"), "zip", checkout.repository / "lambda")).read_bytes()
    key, where = "arn:aws:kms:us-east-1:123456789012:key/x", "arn:aws:sqs:us-east-1:123456789012"
    variables = {"ENVIRONMENT_NAME": ENVIRONMENT, "DAG_NAME": "flights_pipeline"}
    others = {"KeyArn": key, "Queue.Arn": f"{where}:flights-landing", "Logs.Arn": f"{where}:log"}
    functions.create_function(
        FunctionName="start_pipeline",
        Runtime="python3.12",
        Handler="start_pipeline.lambda_handler",
        Role=roles.make(seed.client(checkout.settings, "iam"), "landing.yml", **others)["Role"],
        Timeout=30,
        Environment={"Variables": variables},
        Code={"ZipFile": code},
    )
    landed = {"bucket": {"name": "landing"}, "object": {"key": "flights/2013 05.csv", "version-id": "v1"}}
    body = json.dumps({"detail-type": "Object Created", "detail": landed})
    event = json.dumps({"Records": [{"body": body}]})
    answers = []
    for _ in range(2):
        response = functions.invoke(FunctionName="start_pipeline", Payload=event)
        answers.append(json.loads(response["Payload"].read()))
        assert "FunctionError" not in response, answers[-1]
    (first,), (second,) = answers
    assert (first["new"], second["new"]) == (True, False)
    assert first["run_id"] == second["run_id"]

    def runs() -> list[dict[str, Any]]:
        call = {"Name": ENVIRONMENT, "Method": "GET", "Path": "/dags/flights_pipeline/dagRuns"}
        runs_of_dag = mwaa.invoke_rest_api(**call)["RestApiResponse"]["dag_runs"]
        return [run for run in runs_of_dag if run["dag_run_id"] == first["run_id"]]

    deadline = time.monotonic() + 300
    while (run := runs()[0])["state"] not in ("success", "failed") and time.monotonic() < deadline:
        time.sleep(2)
    assert run["state"] == "success"
    assert run["note"] == "s3://landing/flights/2013 05.csv (version v1)"
    assert run["conf"]["files"] == ["s3://landing/flights/2013 05.csv"]
