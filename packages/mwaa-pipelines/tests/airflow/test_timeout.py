"""Callbacks alert about runs that timed out or are late, because no task of such a run can do so."""

import asyncio
import inspect
import json
import os
import uuid
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow import __version__
from conftest import DagBag, entries, serialized, write

from mwaa_pipelines.late_run import notify_late_run
from mwaa_pipelines.run_alerts import alert_of_timeout
from mwaa_pipelines.settings import Pipeline

ENTRY = {
    "dag_name": "flights_pipeline",
    "project_name": "flights",
    "redshift_connection_id": "flights_redshift",
    "target_database": "dev",
    "target_schema": "analytics",
}
# Stores its payload as a secret, so that the test can read it.
CODE = """
import boto3, json
def run(event, context):
    if event["run_id"] == "broken":
        raise RuntimeError("no such topic")
    boto3.client("secretsmanager").create_secret(Name=f"got/{event['run_id']}", SecretString=json.dumps(event))
"""
DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
HAS_DEADLINES = not __version__.startswith("3.0.")
CONTEXT = {"dag": SimpleNamespace(dag_id="flights_pipeline"), "reason": "timed_out"}


def callback(**settings: Any) -> Any:
    return alert_of_timeout(Pipeline.model_validate({**ENTRY, **settings}))


@pytest.fixture(scope="module")
def function() -> Iterator[str]:
    code = BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("task.py", CODE)
    iam = boto3.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName="timeouts", AssumeRolePolicyDocument=json.dumps({"Statement": trust}))
    statement = {"Effect": "Allow", "Action": "secretsmanager:CreateSecret", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_role_policy(RoleName="timeouts", PolicyName="tell", PolicyDocument=policy)
    client = boto3.client("lambda")
    arguments = {"Runtime": "python3.12", "Handler": "task.run", "Code": {"ZipFile": code.getvalue()}}
    client.create_function(FunctionName="timeouts", Role=role["Role"]["Arn"], **arguments)
    yield "timeouts"
    client.delete_function(FunctionName="timeouts")


@pytest.mark.parametrize("settings", [{}, {"run_timeout_minutes": 5}, {"sns_lambda_function_name": "alert"}])
def test_timeout_callback_needs_a_time_limit_and_an_alert_function(settings: dict[str, Any]) -> None:
    assert callback(**settings) is None


def test_timeout_alert_names_the_run_and_its_time_limit(function: str) -> None:
    run_id = uuid.uuid4().hex
    callback(run_timeout_minutes=5, sns_lambda_function_name=function)({**CONTEXT, "run_id": run_id})
    payload = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId=f"got/{run_id}")["SecretString"])
    words = "the run took longer than run_timeout_minutes: 5; Airflow ended its tasks"
    node = {"unique_id": "flights_pipeline", "status": "timed out", "message": words}
    assert payload == {"dag_name": "flights_pipeline", "run_id": run_id, "logical_date": None, "failed": [node]}


def test_failed_task_sends_no_timeout_alert() -> None:
    alert = callback(run_timeout_minutes=5, sns_lambda_function_name="nowhere")
    alert({**CONTEXT, "reason": "task_failure", "run_id": "one"})
    with pytest.raises(Exception, match="nowhere"):
        alert({**CONTEXT, "run_id": "one"})


def test_failed_timeout_alert_raises_an_error(function: str) -> None:
    alert = callback(run_timeout_minutes=5, sns_lambda_function_name=function)
    with pytest.raises(RuntimeError, match=r"the Lambda function timeouts failed: .*no such topic"):
        alert({**CONTEXT, "run_id": "broken"})


# --- late runs ----------------------------------------------------------------------------------------------------


def bag(tmp_path: Path, lines: str) -> Any:
    for name in ("pipelines.py", "pipelines_errors.py", ".airflowignore"):
        (tmp_path / name).write_bytes((DAGS / name).read_bytes())
    write(tmp_path, entries("one", "two", one=lines))
    return DagBag(str(tmp_path))


def late(**run: Any) -> dict[str, Any]:
    output = {"dag_id": "flights_pipeline", "dag_run_id": "manual__a+b", "logical_date": None, "state": "running"}
    return {"dag_run": {**output, **run}}


def test_deadline_is_set_on_the_dag_or_rejected_by_airflow_3_0(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, "sns_lambda_function_name: alert\n    deadline_minutes: 90")
    if not HAS_DEADLINES:
        assert list(dag_bag.dags) == ["two"]
        (error,) = dag_bag.import_errors.values()
        messages = (
            f"pipeline one: deadline_minutes: needs Airflow 3.1 or newer, but this is Airflow {__version__}. "
            "Remove the setting"
        )
        assert error.strip().endswith(messages)
        return
    assert dag_bag.import_errors == {}
    (deadline,) = dag_bag.dags["one"].deadline
    assert deadline.interval.total_seconds() == 5400
    assert deadline.reference.reference_name == "DagRunQueuedAtDeadline"
    assert deadline.callback.path == f"{notify_late_run.__module__}.{notify_late_run.__qualname__}"
    assert {"context", *deadline.callback.kwargs} == set(inspect.signature(notify_late_run).parameters)
    assert "90 minutes" in dag_bag.dags["one"].doc_md
    assert deadline.callback.path in json.dumps(serialized(dag_bag.dags["one"]))
    assert not serialized(dag_bag.dags["two"])["dag"].get("deadline")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("deadline_minutes: 90", "deadline_minutes needs sns_lambda_function_name, which sends the alert"),
        ("rows_change_percent: 9", "rows_change_percent needs sns_lambda_function_name, which sends the alert"),
        (
            "sns_lambda_function_name: alert\n    deadline_minutes: 90\n    run_timeout_minutes: 90",
            "deadline_minutes must be less than run_timeout_minutes, which ends the run",
        ),
    ],
)
def test_deadline_that_cannot_send_an_alert_is_rejected(tmp_path: Path, lines: str, words: str) -> None:
    (error,) = bag(tmp_path, lines).import_errors.values()
    assert error.strip().endswith(f"pipeline one: {words}")


def test_late_run_alert_names_the_run_and_its_deadline(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    run_id = f"manual__{uuid.uuid4().hex}"
    asyncio.run(notify_late_run(function, "one-release", 90, late(dag_run_id=run_id, state="queued")))
    payload = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId=f"got/{run_id}")["SecretString"])
    assert payload == {
        "dag_name": "flights_pipeline",
        "run_id": run_id,
        "logical_date": None,
        "release_id": "one-release",
        "log_url": f"https://airflow.example/dags/flights_pipeline/runs/{run_id}",
        "status": "late",
        "deadline_minutes": 90,
    }


def test_ended_run_sends_no_late_alert() -> None:
    # Airflow deletes the deadline of a successful run, but not of a failed run.
    for state in ("success", "failed"):
        asyncio.run(notify_late_run("nowhere", "one-release", 90, late(state=state)))
    with pytest.raises(Exception, match="nowhere"):
        asyncio.run(notify_late_run("nowhere", "one-release", 90, late()))


def test_failed_late_run_alert_raises_an_error(function: str) -> None:
    with pytest.raises(RuntimeError, match=r"the Lambda function timeouts failed: .*no such topic"):
        asyncio.run(notify_late_run(function, "one-release", 90, late(dag_run_id="broken")))
