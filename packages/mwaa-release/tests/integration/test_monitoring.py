"""The function of infra/monitoring.yml, with its role, reads the audit trail by the Data API and sends alerts."""

import contextlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from mwaa_local.aws import seed
from mwaa_local.settings import HOST
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.monitoring import FUNCTION, ROLE, check, deploy_overdue_runs, write_memory
from mwaa_local.testing.permissions import without_each_permission
from mwaa_local.testing.stacks import Stacks, properties
from mwaa_release.overdue_runs import MEMORY, SCHEDULES
from mwaa_release.redshift import apply_grants
from mwaa_release.schedules import expand
from redshift_local.pytest_plugin import Warehouse

PASSWORD = "Overdue 1"
OLD = {"known_since": "2026-01-01T00:00:00+00:00"}
AUDIT_TRAIL = """
create table analytics.audit_runs (run_key varchar(99), airflow_dag_id varchar(99), started_at timestamp,
    completed_at timestamp, outcome varchar(9));
create table analytics.audit_invocations (run_key varchar(99), airflow_task_id varchar(99))
"""
NO_AUDIT_TRAIL = "drop table analytics.audit_runs; drop table analytics.audit_invocations"


class Scene:
    """The AWS stand-in with the function, and a warehouse with the audit trail's user."""

    def __init__(self, aws: Aws, warehouse: Warehouse) -> None:
        self.aws, self.warehouse = aws, warehouse

    def schedule(self, *names: str, **settings: Any) -> None:
        """Write the schedules of pipelines that were due two hours ago, and forget earlier checks."""
        hour = (datetime.now(UTC) - timedelta(hours=2)).hour
        entry = {
            "function_name": seed.FUNCTION,
            "secret_name": seed.dbt_secret(),
            "database": "dev",
            "schema": "analytics",
            "overdue_minutes": 30,
            "timezone": "UTC",
            "start_date": "2026-01-01",
            "cron": expand(f"0 {hour} * * *"),
            "assets": [],
        }
        schedules = json.dumps({"": [entry | {"dag_name": name} | settings for name in names]})
        self.aws.client("s3").put_object(Bucket=seed.DAGS_BUCKET, Key=SCHEDULES, Body=schedules.encode())
        write_memory(self.aws.settings, dict.fromkeys(names, OLD))

    def sql(self, statements: str, user: str = "dbt_user") -> None:
        with contextlib.closing(self.warehouse.connect(user, PASSWORD)) as connection:
            connection.autocommit = True
            for statement in statements.split(";"):
                connection.cursor().execute(statement)

    def run(self, name: str, outcome: str = "passed", task: str = "transform_data.dbt_producer_watcher") -> None:
        """Record a run that ended now."""
        run_key = f"{name}/{datetime.now(UTC).isoformat()}"
        ended = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        self.sql(
            f"insert into analytics.audit_runs values ('{run_key}', '{name}', '{ended}', '{ended}', '{outcome}');"
            f"insert into analytics.audit_invocations values ('{run_key}', '{task}')"
        )

    def check(self) -> Any:
        """Check the pipelines. Return the alerts that the function says it has sent."""
        failed, result = check(self.aws.settings)
        assert not failed, result
        return result

    def alerts(self) -> list[str]:
        return [alert["subject"] for alert in seed.read_alerts(self.aws.settings)]


@pytest.fixture(scope="module")
def scene(start_redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder, warehouse = tmp_path_factory.mktemp("overdue"), start_redshift()
    with contextlib.closing(warehouse.connect()) as connection:
        connection.autocommit = True
        connection.cursor().execute("create schema landing")
        apply_grants(connection, "dbt_user", PASSWORD, "landing", "analytics")
    with running_aws(folder, warehouse_port=warehouse.port) as aws:
        seed.seed(aws.settings, SimpleNamespace(dbt_user=PASSWORD), HOST, warehouse.port)
        deploy_overdue_runs(aws.settings, folder)
        yield Scene(aws, warehouse)


def test_pipeline_that_has_never_run_is_reported_until_it_runs(scene: Scene) -> None:
    # The audit trail does not exist yet.
    scene.schedule("first")
    assert scene.check() == {"first": "overdue"}
    (alert,) = seed.read_alerts(scene.aws.settings)
    assert alert["subject"] == "OVERDUE first"
    assert "Last success: none\n\nA run was due, and none has succeeded within 30 minutes." in alert["message"]
    assert scene.check() == {}
    scene.sql(AUDIT_TRAIL)
    # Neither a failed run, nor one that only updated the audit table, nor another pipeline's.
    scene.run("first", outcome="failed")
    scene.run("first", task="audit_dbt_task.audit_table_model_build")
    scene.run("other")
    assert scene.check() == {}
    scene.run("first", outcome="warned")
    assert scene.check() == {"first": "recovered"}
    assert scene.alerts() == ["OK AGAIN first"]
    assert scene.check() == {}
    scene.sql(NO_AUDIT_TRAIL)


def test_warehouse_that_does_not_answer_fails_the_check(scene: Scene) -> None:
    scene.schedule("broken", database="nowhere")
    failed, error = check(scene.aws.settings)
    assert failed
    assert error["errorType"] == "CheckError"
    assert re.search(r"^broken: RuntimeError: the query .* FAILED: .*nowhere", error["errorMessage"])
    assert scene.alerts() == []


@pytest.mark.slow
def test_role_has_no_unused_permission(scene: Scene) -> None:
    scene.sql(AUDIT_TRAIL)
    unused = []
    for permission in without_each_permission(scene.aws, ROLE):
        scene.schedule("guarded")
        # The first check finds no memory.
        scene.aws.client("s3").delete_object(Bucket=seed.DAGS_BUCKET, Key=MEMORY)
        outcomes = [check(scene.aws.settings)]
        write_memory(scene.aws.settings, {"guarded": OLD})
        outcomes.append(check(scene.aws.settings))
        errors = [result["errorMessage"] for failed, result in outcomes if failed]
        if errors:
            assert re.search(f"{ROLE}/{FUNCTION} {permission.words}", errors[0]), errors
        else:
            unused.append(permission.action)
    scene.sql(NO_AUDIT_TRAIL)
    # Lambda itself uses these permissions for the log.
    assert unused == ["logs:CreateLogStream", "logs:PutLogEvents"]


def test_rule_starts_the_function_of_the_stack(aws: Aws, stacks: Stacks) -> None:
    storage, function = stacks.make("storage.yml"), f"overdue-{stacks.name}"
    outputs = stacks.make(
        "monitoring.yml",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
        TopicArn="arn:aws:sns:us-east-1:123456789012:flights-alerts",
        FunctionName=function,
        ClusterIdentifier="warehouse",
        PipelinesEnvironment="prod",
    )
    events = aws.client("events")
    (name,) = events.list_rule_names_by_target(TargetArn=outputs["FunctionArn"])["RuleNames"]
    rule = events.describe_rule(Name=name)
    assert rule["ScheduleExpression"] == "rate(15 minutes)"
    (statement,) = json.loads(aws.client("lambda").get_policy(FunctionName=function)["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {"ArnLike": {"AWS:SourceArn": rule["Arn"]}}
    configuration = aws.client("lambda").get_function_configuration(FunctionName=function)
    assert configuration["Environment"]["Variables"] == {
        "BUCKET": storage["DagsBucketName"],
        "PIPELINES_ENVIRONMENT": "prod",
        "WAREHOUSE": '{"ClusterIdentifier": "warehouse"}',
    }
    statements = stacks.policies(configuration["Role"])
    cluster = "arn:aws:redshift:us-east-1:123456789012:cluster:warehouse"
    assert [entry["Resource"] for entry in statements if entry["Action"] == "redshift-data:ExecuteStatement"] == [
        cluster
    ]


def test_alarms_are_on_the_dashboard_and_name_the_metrics_that_mwaa_sends() -> None:
    alarms = {
        name: properties("monitoring.yml", name)
        for name in ("CheckAlarm", "HeartbeatAlarm", "ImportErrorsAlarm", "QueueAlarm")
    }
    body = properties("monitoring.yml", "Dashboard")["DashboardBody"]["Fn::Sub"]
    arns = json.loads(body)["widgets"][0]["properties"]["alarms"]
    assert arns == [f"${{{name}.Arn}}" for name in alarms]
    assert all(alarm["AlarmActions"] == [{"Ref": "TopicArn"}] for alarm in alarms.values())
    # A component that is down sends no metric.
    missing = {name: alarm["TreatMissingData"] for name, alarm in alarms.items()}
    assert missing == {
        "CheckAlarm": "breaching",
        "HeartbeatAlarm": "breaching",
        "ImportErrorsAlarm": "notBreaching",
        "QueueAlarm": "notBreaching",
    }
    # MWAA sends only the metrics of Airflow that this option lists.
    options = properties("environment.yml", "Environment")["AirflowConfigurationOptions"]
    allowed = options["metrics.metrics_allow_list"].split(",")
    assert {"scheduler_heartbeat", "dag_processing.import_errors"} <= set(allowed)
