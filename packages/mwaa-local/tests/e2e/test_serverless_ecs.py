"""Workflows of MWAA Serverless that run dbt in tasks of ECS: results, alerts and audit rows are as without ECS."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mwaa_local.aws import seed, seed_ecs
from mwaa_local.testing.serverless import PASSWORD, RELEASE, WorkflowAccount, workflow_account
from mwaa_pipelines.ecs_task import find_task
from mwaa_pipelines.settings import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ECS = {"cluster": seed_ecs.CLUSTER, "cpu": 256, "memory": 1024}


@pytest.fixture(scope="module")
def account(redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowAccount]:
    """An account in which the service's Airflow is installed, with the stack of ECS."""
    with workflow_account(redshift, tmp_path_factory.mktemp("serverless")) as account:
        account.use_ecs(tmp_path_factory.mktemp("image"))
        yield account


def test_failed_model_in_ecs_ends_the_run_with_one_alert(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("far", ecs=ECS)
    account.release(pipeline, "first", "second", "broken", audit=True)
    run = account.run(pipeline)
    log = account.log(pipeline)
    assert (run.state, run.failed_tasks) == ("FAILED", ["dbt_check", "transform_data"]), log
    (alert,) = seed.read_alerts(account.aws.settings)
    assert "broken" in alert["message"]
    assert "zero" in alert["message"].lower()
    query = "select unique_id, status, airflow_try_number, release_id from far.audit_table where airflow_run_id = "
    where = f"'{run.airflow_run_id}' and airflow_task_id = 'transform_data' and resource_type in ('model', 'test')"
    rows = sorted((unique_id.split(".")[2], *others) for unique_id, *others in account.rows(f"{query}{where}"))
    assert rows == [
        ("broken", "error", 1, RELEASE),
        ("first", "success", 1, RELEASE),
        ("not_null_first_id", "pass", 1, RELEASE),
        ("second", "success", 1, RELEASE),
    ]
    assert [task["stopCode"] for task in _tasks(account, "STOPPED")] == ["EssentialContainerExited"] * 2
    assert "ECS task arn:aws:ecs:" in log
    assert "of 1024 MiB of memory" in log
    assert PASSWORD not in log


def test_retry_after_a_stopped_task_has_audit_rows_of_its_own(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("again", ecs=ECS, retries=1, retry_delay_seconds=0, threads=1)
    account.release(pipeline, "first", "gated", audit=True)
    with _locked(account, "again.gate"):
        arn, run_id = _start(account, pipeline)
        _wait(account, pipeline, lambda: "START sql table model again.gated" in account.log(pipeline))
        (task,) = _tasks(account, "RUNNING")
        ecs = account.aws.client("ecs")
        ecs.stop_task(cluster=seed_ecs.CLUSTER, task=task["taskArn"], reason="Patching")
        _wait(account, pipeline, lambda: (find_task(ecs, task["taskArn"]) or {})["lastStatus"] == "STOPPED")
    _wait(account, pipeline, lambda: _state(account, arn, run_id) in ("SUCCESS", "FAILED"))
    log = account.log(pipeline)
    assert _state(account, arn, run_id) == "SUCCESS", log
    assert "somebody stopped the task: Patching" in log
    assert account.rows("select id from again.gated") == [(1,)]
    assert seed.read_alerts(account.aws.settings) == []
    # The next run writes what the stopped try could not.
    assert account.run(pipeline).succeeded, account.log(pipeline)
    query = "select airflow_run_id, airflow_try_number, unique_id, count(*) from again.audit_table "
    rows = account.rows(f"{query} where airflow_task_id = 'transform_data' group by 1, 2, 3")
    assert {row[3] for row in rows} == {1}
    tries = [row[:2] for row in rows if row[2] == "model.again.first"]
    assert len(tries) == 3
    assert sorted(number for _, number in tries) == [1, 1, 2]


def test_stopped_run_stops_its_task_of_ecs(account: WorkflowAccount) -> None:
    pipeline = account.pipeline("halted", ecs=ECS, threads=1)
    account.release(pipeline, "first", "gated", audit=True)
    with _locked(account, "halted.gate"):
        arn, run_id = _start(account, pipeline)
        _wait(account, pipeline, lambda: "START sql table model halted.gated" in account.log(pipeline))
        account.serverless.stop_workflow_run(WorkflowArn=arn, RunId=run_id)
        _wait(account, pipeline, lambda: _state(account, arn, run_id) == "STOPPED")
        assert _tasks(account, "RUNNING") == []
    assert "The task in Airflow was ended" in [task["stoppedReason"] for task in _tasks(account, "STOPPED")]
    (key,) = account.s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="kept_results/halted_pipeline/")["Contents"]
    assert key["Size"]


@contextlib.contextmanager
def _locked(account: WorkflowAccount, table: str) -> Iterator[None]:
    """Create a table, and block models that read it."""
    with account.warehouse.connect() as admin, admin.cursor() as cursor:
        cursor.execute(f"create table {table} (a int)")
        cursor.execute(f"grant select on {table} to public")
        admin.commit()
        cursor.execute(f"lock {table}")
        yield
        admin.rollback()


def _start(account: WorkflowAccount, pipeline: Pipeline) -> tuple[str, str]:
    arn = account.workflows.arns()[pipeline.dag_name]
    return arn, account.serverless.start_workflow_run(WorkflowArn=arn)["RunId"]


def _state(account: WorkflowAccount, arn: str, run_id: str) -> str:
    return str(account.serverless.get_workflow_run(WorkflowArn=arn, RunId=run_id)["RunDetail"]["RunState"])


def _wait(account: WorkflowAccount, pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not _holds(condition):
        assert time.monotonic() < until, account.log(pipeline)
        time.sleep(0.2)


def _holds(condition: Callable[[], bool]) -> bool:
    # Before the run has a log, max() finds none.
    with contextlib.suppress(ValueError):
        return condition()
    return False


def _tasks(account: WorkflowAccount, status: str) -> list[dict[str, Any]]:
    ecs = account.aws.client("ecs")
    arns = ecs.list_tasks(cluster=seed_ecs.CLUSTER, desiredStatus=status)["taskArns"]
    return list(ecs.describe_tasks(cluster=seed_ecs.CLUSTER, tasks=arns)["tasks"]) if arns else []
