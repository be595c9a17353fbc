"""Workflows of MWAA Serverless: definitions on the service's Airflow, by dag-factory, with the roles of their stacks.

The release, the code package with dbt, the secrets, the warehouse and the alert's function are real.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from audit_report import DBT_PACKAGE
from mwaa_local.aws import seed
from mwaa_local.aws.seed_serverless import seed_workflow
from mwaa_local.serverless.service_airflow import install_airflow
from mwaa_local.settings import HOST, REPOSITORY, Passwords
from mwaa_local.testing.aws import running_aws
from mwaa_pipelines.settings import Pipeline
from mwaa_release.build import pipelines_package
from mwaa_release.overdue_runs import _SUCCESSES
from mwaa_release.progress import no_progress
from mwaa_release.release import Release, list_files
from mwaa_release.serverless.code_package import build_code_package
from mwaa_release.serverless.definition import write_workflow
from mwaa_release.serverless.run import WorkflowRun, run_workflow
from mwaa_release.serverless.workflows import Workflows, find_targets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PASSWORD = "Pa55-of-workflow"
RELEASE = "20260101T000000Z-1111111"
# Ten billion rows take longer than any test.
DIGITS = "with digits as (" + " union all ".join(f"select {number} as d" for number in range(10)) + ")"
SLOW = f"{DIGITS} select count(*) as row_count from " + ", ".join(f"digits as d{number}" for number in range(10))
MODELS = {
    "first": "select 1 as id",
    "second": "select id from {{ ref('first') }}",
    "broken": "select id / (id - id) as ratio from {{ ref('first') }}",
    "slow": f"{SLOW} where 1 = (select id from {{{{ ref('first') }}}})",
}
TESTS = "models: [{name: first, columns: [{name: id, data_tests: [not_null]}]}]"
TABLE = {"+materialized": "table"}
PROJECT = {"version": "1.0"}


class Account:
    """The stand-in, the warehouse, and a code package in the bucket."""

    def __init__(self, aws: Any, warehouse: Any, folder: Path) -> None:
        self.aws, self.warehouse, self.folder = aws, warehouse, folder
        settings = aws.settings
        seed.seed(settings, Passwords("a", "Aa1", "a", "a", "a"), HOST, 1)
        self.s3, self.secrets = aws.client("s3"), aws.client("secretsmanager")
        self.serverless = aws.client("mwaa-serverless")
        self.workflows = Workflows(self.serverless, aws.client("ssm"), seed.DAGS_BUCKET)
        cache = REPOSITORY / ".local" / "serverless"
        self.code = build_code_package(
            REPOSITORY / "startup.sh", pipelines_package(), folder, cache, no_progress, platforms=()
        )
        self.s3.upload_file(str(folder / self.code), seed.DAGS_BUCKET, self.code)

    def pipeline(self, name: str, **changes: Any) -> Pipeline:
        """Create the secrets, the database user and the stack of a pipeline."""
        pipeline = Pipeline(
            **{
                "dag_name": f"{name}_pipeline",
                "project_name": name,
                "redshift_connection_id": f"{name}_redshift",
                "secret_name": f"{name}/dbt_user",
                "target_database": "dev",
                "target_schema": name,
                "sns_lambda_function_name": seed.FUNCTION,
                "execution_mode": "serverless",
                "retries": 0,
                **changes,
            }
        )
        key = seed.key_arn(self.aws.settings)
        connection = {
            "conn_type": "redshift",
            "host": self.warehouse.host,
            "port": self.warehouse.port,
            "schema": "dev",
        }
        login = {"username": f"{name}_user", "password": PASSWORD}
        for secret, value in (
            (f"airflow/connections/{name}_redshift", {**connection, "extra": {"sslmode": "disable"}}),
            (f"{name}/dbt_user", login),
        ):
            self.secrets.create_secret(Name=secret, SecretString=json.dumps(value), KmsKeyId=key)
        with self.warehouse.connect() as admin, admin.cursor() as cursor:
            cursor.execute(f"create user {name}_user password '{PASSWORD}'")
            cursor.execute(f"create schema {name} authorization {name}_user")
            admin.commit()
        seed_workflow(self.aws.settings, pipeline)
        return pipeline

    def release(self, pipeline: Pipeline, *models: str, audit: bool = False) -> None:
        """Release these models, and create or update the workflow."""
        name = pipeline.project_name
        folder = self.folder / "dags/dbt" / name / RELEASE
        shutil.rmtree(folder, ignore_errors=True)
        files = {f"models/{model}.sql": MODELS[model] for model in models} | {"models/tests.yml": TESTS}
        files["dbt_project.yml"] = yaml.safe_dump({**PROJECT, "name": name, "profile": name, "models": {name: TABLE}})
        if audit:
            for path in DBT_PACKAGE.rglob("*"):
                if path.is_file() and not {"tests", "target", "logs"} & set(path.relative_to(DBT_PACKAGE).parts):
                    files[f"dbt_packages/audit_trail/{path.relative_to(DBT_PACKAGE)}"] = path.read_text()
        nodes = [_node(name, model) for model in models] + [_test_of_first(name)]
        selection = {"select": [], "exclude": ["tag:audit", "tag:audit_view"], "selector": None}
        audited = {"model.audit_trail.audit_table": {}} if audit else {}
        files["selections/audit.json"] = json.dumps({"nodes": audited})
        files[f"selections/pipelines/{pipeline.dag_name}.json"] = json.dumps(
            {"nodes": {node["unique_id"]: node for node in nodes}, "selection": selection}
        )
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        write_workflow(folder, pipeline, Path("dags/pipelines.yml"))
        (folder / "workflows/CODE").write_text(f"{self.code}\n")
        release = Release(RELEASE, name, "1111111", "2026-01-01", "1.11.0", list_files(folder))
        for file in release.files:
            self.s3.upload_file(str(folder / file.path), seed.DAGS_BUCKET, release.prefix + file.path)
        self.s3.put_object(Bucket=seed.DAGS_BUCKET, Key=f"{release.prefix}release.json", Body=release.to_json())
        targets = find_targets(release, lambda key: (self.folder / key).read_bytes())
        self.workflows.deploy(targets, no_progress)

    def run(self, pipeline: Pipeline) -> WorkflowRun:
        return run_workflow(self.serverless, self.workflows, pipeline.dag_name, poll_seconds=0.2)

    def rows(self, query: str) -> list[Any]:
        with self.warehouse.connect() as admin, admin.cursor() as cursor:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def log(self, pipeline: Pipeline) -> str:
        """Return the output of the last run of a workflow."""
        logs = (self.aws.settings.state / "logs" / "workflows").glob(f"{pipeline.dag_name}-*.log")
        return max(logs, key=lambda path: path.stat().st_mtime).read_text()


def _node(project: str, model: str) -> dict[str, Any]:
    return {
        "unique_id": f"model.{project}.{model}",
        "resource_type": "model",
        "package_name": project,
        "original_file_path": f"models/{model}.sql",
        "fqn": [project, model],
        "tags": [],
        "depends_on": {"nodes": [] if model == "first" else [f"model.{project}.first"]},
    }


def _test_of_first(project: str) -> dict[str, Any]:
    name = "not_null_first_id"
    return {
        **_node(project, name),
        "unique_id": f"test.{project}.{name}.0",
        "resource_type": "test",
        "original_file_path": "models/tests.yml",
        "depends_on": {"nodes": [f"model.{project}.first"]},
    }


def _states(run: WorkflowRun) -> dict[str, str]:
    return {task["TaskId"]: task["Status"] for task in run.tasks}


@pytest.fixture(scope="module")
def account(redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account in which the service's Airflow is installed."""
    state = tmp_path_factory.mktemp("serverless")
    installed = install_airflow(REPOSITORY / ".local")
    (state / "venvs").mkdir()
    (state / "venvs" / installed.name).symlink_to(installed)
    with running_aws(state) as aws:
        yield Account(aws, redshift, tmp_path_factory.mktemp("artifact"))


def test_failed_model_ends_the_run_with_one_alert_that_names_it(account: Account) -> None:
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


def test_task_per_model_follows_the_order_of_the_models(account: Account) -> None:
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


def test_workflow_is_denied_the_secret_of_another(account: Account) -> None:
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


def test_stopped_run_ends_dbt_and_keeps_its_results(account: Account) -> None:
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


def _kept_results(account: Account, pipeline: Pipeline) -> list[str]:
    """Return the keys of the results that wait for the next run."""
    answer = account.s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix=f"kept_results/{pipeline.dag_name}/")
    return [entry["Key"] for entry in answer.get("Contents", [])]


def _is_building_slow(account: Account, pipeline: Pipeline) -> bool:
    try:
        return "START sql table model stopped.slow" in account.log(pipeline)
    except ValueError:
        return False


def _run_state(account: Account, arn: str, run_id: str) -> str:
    return str(account.serverless.get_workflow_run(WorkflowArn=arn, RunId=run_id)["RunDetail"]["RunState"])


def _belongs_to(process: psutil.Process, run_id: str) -> bool:
    return run_id in (process.info["environ"] or {}).get("AIRFLOW_HOME", "") and process.pid != os.getpid()
