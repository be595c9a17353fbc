"""The alerts of runs that take too long, which no task can send: Airflow ends them all, or they are still at work."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mwaa_pipelines.compatibility import AsyncCallback, DeadlineAlert, DeadlineReference
from mwaa_pipelines.release import Release
from mwaa_pipelines.settings import Pipeline


def deadline(pipeline: Pipeline, release: Release) -> dict[str, Any]:
    """Return the DAG's argument of that name; none without a deadline, for Airflow 3.0 does not know it.

    Airflow calls `late_run.tell` in the triggerer, once a run is not over so long after it was queued.
    """
    if not pipeline.deadline_minutes:
        return {}
    told = {
        "function_name": pipeline.sns_lambda_function_name,
        "release_id": release.release_id,
        "deadline_minutes": pipeline.deadline_minutes,
    }
    # Not the logical date: a run that was started by hand, or by an asset, has none.
    reference, interval = DeadlineReference.DAGRUN_QUEUED_AT, timedelta(minutes=pipeline.deadline_minutes)
    return {"deadline": DeadlineAlert(reference, interval, AsyncCallback("mwaa_pipelines.late_run.tell", told))}


def alert_of_timeout(pipeline: Pipeline) -> Callable[[Any], None] | None:
    """Return a callback for failed runs that invokes the alert's function if the run timed out.

    Airflow calls it in the DAG processor, and logs what it raises. A pipeline without a limit or alerts has none.
    """
    if not (pipeline.run_timeout and pipeline.sns_lambda_function_name):
        return None

    def invoke(context: Any) -> None:
        if context.get("reason") != "timed_out":
            # dbt_check has seen to it.
            return
        # Imported here: a DAG file that is parsed has no use for boto3.
        import boto3

        dag_id, run = context["dag"].dag_id, context.get("dag_run")
        message = (
            f"the run took longer than run_timeout_minutes: {pipeline.run_timeout_minutes}; Airflow ended its tasks"
        )
        alert = {
            "dag_name": dag_id,
            "run_id": run.run_id if run else context["run_id"],
            "logical_date": run.logical_date.isoformat() if run and run.logical_date else None,
            "failed": [{"unique_id": dag_id, "status": "timed out", "message": message}],
        }
        name = pipeline.sns_lambda_function_name
        answer = boto3.client("lambda").invoke(FunctionName=name, Payload=json.dumps(alert))
        if answer.get("FunctionError"):
            raise RuntimeError(f"the Lambda function {name} failed: {answer['Payload'].read().decode()}")

    return invoke
