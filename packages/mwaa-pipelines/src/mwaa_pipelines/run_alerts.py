"""Alerts about runs that take too long. No task can send them: a timeout ends all tasks, and a late run continues."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mwaa_pipelines.alert import Alert, AlertNode, send_alert
from mwaa_pipelines.compatibility import AsyncCallback, DeadlineAlert, DeadlineReference
from mwaa_pipelines.release import Release
from mwaa_pipelines.settings import Pipeline


def deadline(pipeline: Pipeline, release: Release) -> dict[str, Any]:
    """Return the DAG's argument `deadline`, or nothing without a deadline, because Airflow 3.0 rejects the argument.

    Airflow calls `late_run.notify_late_run` in the triggerer when a run has not finished by the deadline.
    """
    if not pipeline.deadline_minutes:
        return {}
    arguments = {
        "function_name": pipeline.sns_lambda_function_name,
        "release_id": release.release_id,
        "deadline_minutes": pipeline.deadline_minutes,
    }
    # Not the logical date: a run that was started manually or by an asset has none.
    reference, interval = DeadlineReference.DAGRUN_QUEUED_AT, timedelta(minutes=pipeline.deadline_minutes)
    return {
        "deadline": DeadlineAlert(
            reference, interval, AsyncCallback("mwaa_pipelines.late_run.notify_late_run", arguments)
        )
    }


def alert_of_timeout(pipeline: Pipeline) -> Callable[[Any], None] | None:
    """Return a callback that sends an alert when a run timed out; None if the pipeline has no time limit or no alerts.

    Airflow calls it in the DAG processor, and logs its errors.
    """
    if not (pipeline.run_timeout and pipeline.sns_lambda_function_name):
        return None

    def notify_timeout(context: Any) -> None:
        if context.get("reason") != "timed_out":
            # dbt_check reported the failure.
            return
        dag_id, run = context["dag"].dag_id, context.get("dag_run")
        message = (
            f"the run took longer than run_timeout_minutes: {pipeline.run_timeout_minutes}; Airflow ended its tasks"
        )
        alert = Alert(
            dag_name=dag_id,
            run_id=run.run_id if run else context["run_id"],
            logical_date=run.logical_date.isoformat() if run and run.logical_date else None,
            failed=[AlertNode(unique_id=dag_id, status="timed out", message=message)],
        )
        send_alert(pipeline.sns_lambda_function_name, alert)

    return notify_timeout
