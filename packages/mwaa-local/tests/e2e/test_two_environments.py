"""Two environments side by side: they share nothing, one is called from outside, and a pipeline moves to the other."""

import contextlib
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
from mwaa_local.mwaa.api import Airflow
from mwaa_local.settings import ENVIRONMENT, HOST, REPOSITORY, Passwords
from mwaa_local.testing.checkout import Checkout, copy_repository, new_checkout
from mwaa_local.testing.scene import DAG
from mwaa_release.bucket import Bucket

# Time for the stand-ins of both and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GREEN = "green"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Checkout]]:
    """Two checkouts with `make up`. The second one is another clone."""
    before = _files_of_the_repository()
    folders = [tmp_path_factory.mktemp(name) for name in ("blue", GREEN)]
    repositories = [REPOSITORY, copy_repository(folders[1] / "copy")]
    checkouts = [
        new_checkout(folder / "state", repository) for folder, repository in zip(folders, repositories, strict=True)
    ]
    try:
        for checkout in checkouts:
            up = checkout.command("up")
            assert up.returncode == 0, up.stdout + up.stderr
        yield checkouts
    finally:
        for checkout in checkouts:
            checkout.command("down")
    assert [checkout.leftovers() for checkout in checkouts] == [[], []]
    assert _files_of_the_repository() == before


def _files_of_the_repository() -> set[str]:
    """Return the names of its files and folders, without those that other tests can create at the same time."""
    return {path.name for path in REPOSITORY.iterdir()} - {".hypothesis", ".pytest_cache"}


@pytest.fixture
def checkout(pair: list[Checkout]) -> Checkout:
    return pair[0]


def test_two_checkouts_can_run_at_the_same_time(pair: list[Checkout]) -> None:
    blue, green = pair
    for stand_ins in pair:
        assert stand_ins.command("sql", "select count(*) from landing.flights").stdout == "count\n336776\n"
        password = Passwords.load(stand_ins.state).airflow_admin
        with contextlib.closing(Airflow(stand_ins.settings.airflow_port, password)) as airflow:
            assert airflow.call("GET", f"/dags/{DAG}")["is_paused"]
    assert green.command("sql", "create table analytics.mine as select 1 as a").returncode == 0
    assert "does not exist" in blue.command("sql", "select * from analytics.mine").stderr


# --- calls from outside: a release's smoke test, and a new file in the landing bucket ---------------------------------


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


# --- move -------------------------------------------------------------------------------------------------------------


def test_pipeline_moves_after_its_current_run_has_ended(pair: list[Checkout]) -> None:
    blue, green = pair
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


def test_stopping_one_checkout_leaves_the_other_running(pair: list[Checkout]) -> None:
    blue, green = pair
    assert "Stopped." in green.on_a_terminal("down")
    assert green.leftovers() == []
    assert blue.command("sql", "select 1 as one").stdout == "one\n1\n"
