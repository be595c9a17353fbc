"""Workflows of MWAA Serverless: definitions on the service's Airflow, by dag-factory, with the roles of their stacks.

The release, the code package with dbt, the secrets, the warehouse and the alert's function are real.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from mwaa_local.aws import seed
from mwaa_local.serverless.service_airflow import install_airflow
from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.aws import running_aws
from mwaa_local.testing.serverless import PASSWORD, RELEASE, WorkflowAccount
from mwaa_pipelines.settings import Pipeline
from mwaa_release.overdue_runs import _SUCCESSES
from mwaa_release.serverless.run import WorkflowRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _states(run: WorkflowRun) -> dict[str, str]:
    return {task["TaskId"]: task["Status"] for task in run.tasks}


@pytest.fixture(scope="module")
def account(redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowAccount]:
    """An account in which the service's Airflow is installed."""
    state = tmp_path_factory.mktemp("serverless")
    installed = install_airflow(REPOSITORY / ".local")
    (state / "venvs").mkdir()
    (state / "venvs" / installed.name).symlink_to(installed)
    with running_aws(state) as aws:
        yield WorkflowAccount(aws, redshift, tmp_path_factory.mktemp("artifact"))


def test_failed_model_ends_the_run_with_one_alert_that_names_it(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("shop")
    account.release(pipeline, "first", "second", "broken", audit=True)
    run = account.run(pipeline)
    log = account.log(pipeline)
    assert (run.state, run.error) == ("FAILED", "Workflow execution failed"), log
    assert _states(run) == {
        "audit_dbt_task": "SUCCESS",
        "transform_data": "FAILED",
        "dbt_check": "FAILED",
        "pipeline_succeeded": "UPSTREAM_FAILED",
        "sns_notification_for_failure": "SUCCESS",
    }, log
    (alert,) = seed.read_alerts(account.aws.settings)
    assert "broken" in alert["message"]
    assert "zero" in alert["message"].lower()
    query = "select unique_id, status, airflow_dag_id, release_id, airflow_task_id from shop.audit_table where "
    rows = account.rows(f"{query} airflow_run_id = '{run.airflow_run_id}' and resource_type in ('model', 'test')")
    built = {row[0]: row[1] for row in rows if row[4] == "transform_data"}
    statuses = {"first": "success", "second": "success", "broken": "error"}
    assert {node: status for node, status in built.items() if node.startswith("model.")} == {
        f"model.shop.{model}": status for model, status in statuses.items()
    }
    assert {row[2:4] for row in rows} == {("shop_pipeline", RELEASE)}
    assert PASSWORD not in log


def test_task_per_model_follows_the_order_of_the_models(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("split", serverless={"tasks": "models"})
    account.release(pipeline, "first", "second", audit=True)
    run = account.run(pipeline)
    assert run.succeeded, account.log(pipeline)
    assert _states(run) == {
        "audit_dbt_task": "SUCCESS",
        "transform_data.first": "SUCCESS",
        "transform_data.second": "SUCCESS",
        "dbt_check": "SUCCESS",
        "pipeline_succeeded": "SUCCESS",
        # Skipped; the service has no such status.
        "sns_notification_for_failure": "NONE",
    }
    tasks = {task["TaskId"]: task for task in run.tasks}
    assert tasks["transform_data.first"]["EndedAt"] <= tasks["transform_data.second"]["StartedAt"]
    assert account.rows("select id from split.second") == [(1,)]
    # What alerts about missing runs look for.
    query = _SUCCESSES.format(schema="split").replace(":dag_name", "'split_pipeline'").replace(":after", "'2026-01-01'")
    assert account.rows(query)[0][1] is not None
    assert "PASS not_null_first_id" in account.log(pipeline)
    assert seed.read_alerts(account.aws.settings) == []


def test_workflow_is_denied_the_secret_of_another(account: WorkflowAccount) -> None:
    own, other = account.pipeline("own"), account.pipeline("other")
    account.release(own, "first")
    # A release that names the other secret, such as one by a team that can change its own pipeline only.
    path = f"dags/dbt/own/{RELEASE}/workflows/own_pipeline.json"
    text = account.s3.get_object(Bucket=seed.DAGS_BUCKET, Key=path)["Body"].read().decode()
    account.s3.put_object(Bucket=seed.DAGS_BUCKET, Key=path, Body=text.replace("own/dbt_user", "other/dbt_user"))
    run = account.run(own)
    assert run.state == "FAILED"
    assert run.failed_tasks == ["dbt_check", "transform_data"]
    (alert,) = seed.read_alerts(account.aws.settings)
    assert "'other/dbt_user' (setting secret_name) cannot be read" in alert["message"]
    assert "role/local-workflow-own_pipeline" in account.log(own).replace("assumed-role", "role")
    denied = (account.aws.settings.state / "aws.log").read_text()
    assert "local-workflow-own_pipeline" in denied
    assert "is not authorized to perform: secretsmanager:GetSecretValue" in denied
    # With its own role, the other workflow can read it.
    account.release(other, "first")
    assert account.run(other).succeeded, account.log(other)


def test_stopped_run_ends_dbt_and_keeps_its_results(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("stopped", threads=1)
    account.release(pipeline, "first", "slow", audit=True)
    arn = account.workflows.arns()[pipeline.dag_name]
    run_id = account.serverless.start_workflow_run(WorkflowArn=arn)["RunId"]
    until = time.monotonic() + 120
    while not _is_building_slow(account, pipeline):
        assert time.monotonic() < until, account.log(pipeline)
        time.sleep(0.2)
    account.serverless.stop_workflow_run(WorkflowArn=arn, RunId=run_id)
    while (state := _run_state(account, arn, run_id)) not in ("STOPPED", "FAILED", "SUCCESS"):
        assert time.monotonic() < until, account.log(pipeline)
        time.sleep(0.2)
    assert state == "STOPPED"
    assert not [process for process in psutil.process_iter(["environ"]) if _belongs_to(process, run_id)]
    (key,) = _kept_results(account, pipeline)
    content = json.loads(account.s3.get_object(Bucket=seed.DAGS_BUCKET, Key=key)["Body"].read())
    assert {result["unique_id"]: result["status"] for result in content["results"]}["model.stopped.first"] == "success"
    # Another run builds everything, and writes the results of the stopped one.
    account.release(pipeline, "first", audit=True)
    again = account.run(pipeline)
    assert again.succeeded, account.log(pipeline)
    query = (
        "select airflow_run_id, count(*) from stopped.audit_table where unique_id = 'model.stopped.first' group by 1"
    )
    counts = dict(account.rows(query))
    assert (len(counts), set(counts.values())) == (2, {1})
    assert again.airflow_run_id in counts
    assert _kept_results(account, pipeline) == []
    assert account.rows("select id from stopped.first") == [(1,)]


def _kept_results(account: WorkflowAccount, pipeline: Pipeline) -> list[str]:
    """Return the keys of the results that wait for the next run."""
    answer = account.s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix=f"kept_results/{pipeline.dag_name}/")
    return [entry["Key"] for entry in answer.get("Contents", [])]


def _is_building_slow(account: WorkflowAccount, pipeline: Pipeline) -> bool:
    try:
        return "START sql table model stopped.slow" in account.log(pipeline)
    except ValueError:
        return False


def _run_state(account: WorkflowAccount, arn: str, run_id: str) -> str:
    return str(account.serverless.get_workflow_run(WorkflowArn=arn, RunId=run_id)["RunDetail"]["RunState"])


def _belongs_to(process: psutil.Process, run_id: str) -> bool:
    return run_id in (process.info["environ"] or {}).get("AIRFLOW_HOME", "") and process.pid != os.getpid()
