"""Tells people of a run that is not over by its deadline; it goes on.

Airflow calls this in the triggerer, which cannot import the DAGs' parts. What it raises is in the triggerer's log, and
does nothing to the run.
"""

import asyncio
import json
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf


async def tell(function_name: str, release_id: str, deadline_minutes: int, context: dict[str, Any]) -> None:
    """Invoke the alert's function, unless the run is over: Airflow keeps the deadline of a run that failed in time.

    Args:
        function_name: the Lambda function.
        release_id: the release that runs.
        deadline_minutes: what the run was given.
        context: Airflow's; `dag_run` is the run as the REST API shows it.

    Raises:
        RuntimeError: the function failed.
        botocore.exceptions.ClientError, BotoCoreError: it could not be invoked.
    """
    run = context["dag_run"]
    if run["state"] not in {"queued", "running"}:
        return
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    alert = {
        "dag_name": dag_id,
        "run_id": run_id,
        "logical_date": run["logical_date"],
        "release_id": release_id,
        "log_url": f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}",
        "status": "late",
        "deadline_minutes": deadline_minutes,
    }
    # In a thread, for the triggerer's other triggers wait for this one.
    await asyncio.to_thread(_invoke, function_name, alert)


def _invoke(function_name: str, alert: dict[str, Any]) -> None:
    import boto3

    answer = boto3.client("lambda").invoke(FunctionName=function_name, Payload=json.dumps(alert))
    if answer.get("FunctionError"):
        raise RuntimeError(f"the Lambda function {function_name} failed: {answer['Payload'].read().decode()}")
