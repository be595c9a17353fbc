"""Workflows of MWAA Serverless: definitions on the service's Airflow, by dag-factory, with the roles of their stacks.

The release, the code package with dbt, the secrets, the warehouse and the alert's function are real.
"""

import base64
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from mwaa_local.aws import seed
from mwaa_local.testing.serverless import PASSWORD, RELEASE, WorkflowAccount, workflow_account
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.settings import Pipeline
from mwaa_release.overdue_runs import _SUCCESSES
from mwaa_release.progress import no_progress
from mwaa_release.serverless.run import WorkflowRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _states(run: WorkflowRun) -> dict[str, str]:
    return {task["TaskId"]: task["Status"] for task in run.tasks}


@pytest.fixture(scope="module")
def account(redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowAccount]:
    """An account in which the service's Airflow is installed."""
    with workflow_account(redshift, tmp_path_factory.mktemp("serverless")) as account:
        yield account


def _reported(run: WorkflowRun) -> list[tuple[str, str, str]]:
    """Return sorted (invocation_id, unique_id, status) of the nodes that dbt reported, without hooks."""
    nodes = []
    for task in run.tasks:
        if text := task["Xcom"].get(RESULTS_KEY):
            process = json.loads(zlib.decompress(base64.b64decode(json.loads(text))))
            nodes += [(process["invocation_id"], node["unique_id"], node["status"]) for node in process["results"]]
    return sorted(node for node in nodes if not node[1].startswith("operation."))


@pytest.mark.parametrize("tasks", ["one", "models"])
def test_failed_model_ends_the_run_with_one_alert_that_names_it(account: WorkflowAccount, tasks: str) -> None:
    name = f"shop_{tasks}"
    pipeline = account.pipeline(name, serverless={"tasks": tasks})
    account.release(pipeline, "first", "second", "broken", audit=True)
    run = account.run(pipeline)
    log = account.log(pipeline)
    assert (run.state, run.error) == ("FAILED", "Workflow execution failed"), log
    models = {"first": "SUCCESS", "second": "SUCCESS", "broken": "FAILED"}
    transform = {f"transform_data.{model}": state for model, state in models.items()}
    assert _states(run) == {
        "audit_dbt_task": "SUCCESS",
        **(transform if tasks == "models" else {"transform_data": "FAILED"}),
        "dbt_check": "FAILED",
        "pipeline_succeeded": "UPSTREAM_FAILED",
        "sns_notification_for_failure": "SUCCESS",
    }, log
    (alert,) = seed.read_alerts(account.aws.settings)
    assert "broken" in alert["message"]
    assert "zero" in alert["message"].lower()
    columns = "invocation_id, unique_id, status, airflow_dag_id, release_id"
    rows = account.rows(f"select {columns} from {name}.audit_table where airflow_run_id = '{run.airflow_run_id}'")
    audited = sorted(row[:3] for row in rows)
    assert audited == _reported(run)
    statuses = {node: status for _, node, status in audited}
    for model, state in models.items():
        assert statuses[f"model.{name}.{model}"] == {"SUCCESS": "success", "FAILED": "error"}[state]
    assert {row[3:] for row in rows} == {(pipeline.dag_name, RELEASE)}
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


def _stop(account: WorkflowAccount, arn: str, run_id: str) -> None:
    account.serverless.stop_workflow_run(WorkflowArn=arn, RunId=run_id)


def _kill_dbt(account: WorkflowAccount, arn: str, run_id: str) -> None:
    """Kill dbt, as Linux does when a worker has no memory left."""
    program = "mwaa_pipelines.serverless.process"
    processes = [process for process in psutil.process_iter(["cmdline", "environ"]) if _belongs_to(process, run_id)]
    (runner,) = [process for process in processes if program in (process.info["cmdline"] or [])]
    (dbt,) = runner.children()
    dbt.kill()


@pytest.mark.parametrize(
    ("name", "end", "state"), [("stopped", _stop, "STOPPED"), ("killed", _kill_dbt, "FAILED")], ids=["stop", "kill"]
)
def test_ended_run_keeps_its_results_and_the_next_one_writes_them(
    account: WorkflowAccount, name: str, end: Callable[[WorkflowAccount, str, str], None], state: str
) -> None:
    pipeline = account.pipeline(name, threads=1)
    account.release(pipeline, "first", "slow", audit=True)
    arn = account.workflows.arns()[pipeline.dag_name]
    run_id = account.serverless.start_workflow_run(WorkflowArn=arn)["RunId"]
    _wait(account, pipeline, lambda: f"START sql table model {name}.slow" in account.log(pipeline))
    end(account, arn, run_id)
    _wait(account, pipeline, lambda: _run_state(account, arn, run_id) in ("STOPPED", "FAILED", "SUCCESS"))
    assert _run_state(account, arn, run_id) == state
    assert not [process for process in psutil.process_iter(["environ"]) if _belongs_to(process, run_id)]
    alerts = [alert["message"] for alert in seed.read_alerts(account.aws.settings)]
    if end is _kill_dbt:
        (message,) = alerts
        assert "needs more than its memory. A task of the service has 3072 MiB. Lower threads, set" in message
    (key,) = _kept_results(account, pipeline)
    content = json.loads(account.s3.get_object(Bucket=seed.DAGS_BUCKET, Key=key)["Body"].read())
    assert {result["unique_id"]: result["status"] for result in content["results"]}[f"model.{name}.first"] == "success"
    # Another run builds everything, and writes the results of the ended one.
    account.release(pipeline, "first", audit=True)
    again = account.run(pipeline)
    assert again.succeeded, account.log(pipeline)
    query = f"select airflow_run_id, count(*) from {name}.audit_table where unique_id = 'model.{name}.first' group by 1"
    counts = dict(account.rows(query))
    assert (len(counts), set(counts.values())) == (2, {1})
    assert again.airflow_run_id in counts
    assert _kept_results(account, pipeline) == []
    assert account.rows(f"select id from {name}.first") == [(1,)]


def test_run_goes_on_with_its_release_after_a_rollback(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("rolled")
    with account.warehouse.connect() as admin, admin.cursor() as cursor:
        cursor.execute("create table rolled.gate as select 1 as a")
        cursor.execute("grant select on rolled.gate to rolled_user")
        admin.commit()
    earlier = account.release(pipeline, "first", audit=True)
    account.release(pipeline, "first", "gated", audit=True, release_id="20260102T000000Z-2222222")
    arn = account.workflows.arns()[pipeline.dag_name]
    with account.warehouse.connect() as admin, admin.cursor() as cursor:
        cursor.execute("lock rolled.gate")
        run_id = account.serverless.start_workflow_run(WorkflowArn=arn)["RunId"]
        _wait(account, pipeline, lambda: "START sql table model rolled.gated" in account.log(pipeline))
        # What a rollback does with workflows.
        account.workflows.deploy(earlier, no_progress)
        admin.rollback()
    _wait(account, pipeline, lambda: _run_state(account, arn, run_id) in ("FAILED", "SUCCESS"))
    assert _run_state(account, arn, run_id) == "SUCCESS", account.log(pipeline)
    again = account.run(pipeline)
    assert again.succeeded, account.log(pipeline)
    query = "select unique_id, release_id from rolled.audit_table where resource_type = 'model' and airflow_run_id"
    rows = {
        is_later: {row for row in account.rows(f"{query} {operator} '{again.airflow_run_id}'") if "rolled" in row[0]}
        for is_later, operator in ((False, "<>"), (True, "="))
    }
    first, gated = "model.rolled.first", "model.rolled.gated"
    assert rows[False] == {(first, "20260102T000000Z-2222222"), (gated, "20260102T000000Z-2222222")}
    assert rows[True] == {(first, RELEASE)}


def _wait(account: WorkflowAccount, pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not _holds(condition):
        assert time.monotonic() < until, account.log(pipeline)
        time.sleep(0.2)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except ValueError:
        # There is no log yet.
        return False


def _kept_results(account: WorkflowAccount, pipeline: Pipeline) -> list[str]:
    """Return the keys of the results that wait for the next run."""
    answer = account.s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix=f"kept_results/{pipeline.dag_name}/")
    return [entry["Key"] for entry in answer.get("Contents", [])]


def _run_state(account: WorkflowAccount, arn: str, run_id: str) -> str:
    return str(account.serverless.get_workflow_run(WorkflowArn=arn, RunId=run_id)["RunDetail"]["RunState"])


def _belongs_to(process: psutil.Process, run_id: str) -> bool:
    return run_id in (process.info["environ"] or {}).get("AIRFLOW_HOME", "") and process.pid != os.getpid()
