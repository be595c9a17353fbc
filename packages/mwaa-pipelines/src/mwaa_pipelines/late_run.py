"""Sends an alert about a run that has not finished by its deadline. The run continues.

Airflow calls `notify_late_run` in the triggerer. An error is logged there and does not affect the run.
"""

import asyncio
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf

from mwaa_pipelines.alert import Alert, send_alert


async def notify_late_run(function_name: str, release_id: str, deadline_minutes: int, context: dict[str, Any]) -> None:
    """Send the alert, unless the run has ended: Airflow keeps the deadline of a run that failed before it.

    Args:
        function_name: the Lambda function that sends alerts.
        release_id: the release that the run uses.
        deadline_minutes: the deadline, counted from the time when the run was queued.
        context: Airflow's context; `dag_run` is the run as the REST API returns it.

    Raises:
        RuntimeError: the function failed.
        botocore.exceptions.ClientError, BotoCoreError: the function could not be invoked.
    """
    run = context["dag_run"]
    if run["state"] not in {"queued", "running"}:
        return
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    alert = Alert(
        dag_name=dag_id,
        run_id=run_id,
        logical_date=run["logical_date"] and str(run["logical_date"]),
        release_id=release_id,
        log_url=f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}",
        status="late",
        deadline_minutes=deadline_minutes,
    )
    # In a thread, because the triggerer's other triggers would wait for it.
    await asyncio.to_thread(send_alert, function_name, alert)
