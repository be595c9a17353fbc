"""A run that took too long tells people by a callback, for none of its tasks is left to do so."""

import json
import uuid
import zipfile
from collections.abc import Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from dbt_pipeline.settings import Pipeline
from dbt_pipeline.timeout import alert_of_timeout

ENTRY = {
    "dag_name": "flights_pipeline",
    "project_name": "flights",
    "redshift_connection_id": "flights_redshift",
    "target_database": "dev",
    "target_schema": "analytics",
}
# Tells what it got by leaving it where the test can read it.
CODE = """
import boto3, json
def run(event, context):
    if event["run_id"] == "broken":
        raise RuntimeError("no such topic")
    boto3.client("secretsmanager").create_secret(Name=f"got/{event['run_id']}", SecretString=json.dumps(event))
"""
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
    right = {"Effect": "Allow", "Action": "secretsmanager:CreateSecret", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": right})
    iam.put_role_policy(RoleName="timeouts", PolicyName="tell", PolicyDocument=policy)
    client = boto3.client("lambda")
    arguments = {"Runtime": "python3.12", "Handler": "task.run", "Code": {"ZipFile": code.getvalue()}}
    client.create_function(FunctionName="timeouts", Role=role["Role"]["Arn"], **arguments)
    yield "timeouts"
    client.delete_function(FunctionName="timeouts")


@pytest.mark.parametrize("settings", [{}, {"run_timeout_minutes": 5}, {"sns_lambda_function_name": "alert"}])
def test_without_a_limit_or_an_alert_there_is_nothing_to_call(settings: dict[str, Any]) -> None:
    assert callback(**settings) is None


def test_the_alert_says_what_the_run_was_given(function: str) -> None:
    run_id = uuid.uuid4().hex
    callback(run_timeout_minutes=5, sns_lambda_function_name=function)({**CONTEXT, "run_id": run_id})
    got = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId=f"got/{run_id}")["SecretString"])
    words = "the run took longer than run_timeout_minutes: 5; Airflow ended its tasks"
    node = {"unique_id": "flights_pipeline", "status": "timed out", "message": words}
    assert got == {"dag_name": "flights_pipeline", "run_id": run_id, "logical_date": None, "failed": [node]}


def test_a_failure_of_another_kind_has_its_alert_already() -> None:
    made = callback(run_timeout_minutes=5, sns_lambda_function_name="nowhere")
    made({**CONTEXT, "reason": "task_failure", "run_id": "one"})
    with pytest.raises(Exception, match="nowhere"):
        made({**CONTEXT, "run_id": "one"})


def test_an_alert_that_fails_is_no_silent_one(function: str) -> None:
    made = callback(run_timeout_minutes=5, sns_lambda_function_name=function)
    with pytest.raises(RuntimeError, match=r"the Lambda function timeouts failed: .*no such topic"):
        made({**CONTEXT, "run_id": "broken"})
