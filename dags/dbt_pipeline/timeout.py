"""The alert of a run that took too long: Airflow ends it with all its tasks, so none of them can send one."""

import json
from collections.abc import Callable
from typing import Any

from dbt_pipeline.settings import Pipeline


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
