"""The function that alerts when a pipeline has no successful run although one was due. `build` adds it to lambda.zip.

It runs on AWS Lambda without the other modules of this package. EventBridge starts it (infra/monitoring.yml). It does
not ask Airflow: it compares the schedules of the last release with the audit trail. So it notices a paused DAG, an
import error, a dead scheduler, an environment that is down, and a pipeline that has never run.

A run is overdue `overdue_minutes` after its scheduled time. A pipeline that waits for assets is overdue that long after
all of its upstream pipelines have succeeded. The function sends one alert for each missed run, and OK AGAIN after the
next success. An object in MWAA's bucket remembers the alerts.

Environment: `BUCKET`; `PIPELINES_ENVIRONMENT`, as the Airflow option dbt.environment; `WAREHOUSE`, a JSON object with
the parameter `WorkgroupName` or `ClusterIdentifier` of the Redshift Data API.
"""

import functools
import json
import os
import re
import time as clock
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import boto3
from botocore.exceptions import ClientError
from dateutil import tz

# Keys in the bucket.
SCHEDULES = "dags/schedules.json"
MEMORY = "monitoring/overdue_runs.json"

QUERY_SECONDS = 60
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# A run that only updated the audit table has not run the pipeline.
_SUCCESSES = """
select cast(min(completed_at) as varchar(32)), cast(max(started_at) as varchar(32))
from {schema}.audit_runs
where airflow_dag_id = :dag_name and outcome <> 'failed' and completed_at > cast(:after as timestamp)
and run_key in (select run_key from {schema}.audit_invocations where airflow_task_id like 'transform_data%')
"""

Pipeline = dict[str, Any]


class CheckError(Exception):
    """Some pipelines could not be checked. The text has one line for each of them."""


def lambda_handler(_event: Any, _context: object) -> dict[str, str]:
    """Check all pipelines, and send the alerts.

    Returns:
        The alerts that were sent: `overdue` or `recovered` by pipeline.

    Raises:
        CheckError: a pipeline could not be checked, or its alert could not be sent. The others were checked.
        botocore.exceptions.ClientError: an object in the bucket could not be read or written.
    """
    bucket, environment, now = os.environ["BUCKET"], os.environ["PIPELINES_ENVIRONMENT"], datetime.now(UTC)
    schedules = json.loads(_client("s3").get_object(Bucket=bucket, Key=SCHEDULES)["Body"].read())
    if environment not in schedules:
        names = ", ".join(map(repr, schedules))
        raise CheckError(f"PIPELINES_ENVIRONMENT: {environment!r} is not one of {names} in {SCHEDULES}")
    pipelines = {pipeline["dag_name"]: pipeline for pipeline in schedules[environment]}
    stored, etag = _read_memory(bucket)
    memory = {name: dict(stored.get(name, {"known_since": now.isoformat()})) for name in pipelines}
    sent, problems = {}, []
    for name in pipelines:
        try:
            if status := _check(name, pipelines, memory[name], now):
                sent[name] = status
        except Exception as error:  # noqa: BLE001 - the other pipelines are checked, then all problems are raised
            problems.append(f"{name}: {type(error).__name__}: {error}")
        # At once, so that a check that is killed does not repeat its alerts.
        if memory != stored:
            stored, etag = json.loads(json.dumps(memory)), _write_memory(bucket, memory, etag)
    print(json.dumps({"sent": sent, "problems": problems}))
    if problems:
        raise CheckError("\n".join(problems))
    return sent


def _check(name: str, pipelines: dict[str, Pipeline], memory: dict[str, str], now: datetime) -> str | None:
    """Send an alert if a run is newly overdue, or if none is overdue any more. Return the alert's status.

    Args:
        name: the pipeline.
        pipelines: all pipelines of the environment.
        memory: of this pipeline, updated in place. `known_since`: its first check; `alerted`: when the run was due that
            the last alert is about, until a run succeeds; `checked`: the last period for which nothing was overdue.
        now: the current time.
    """
    pipeline, grace = pipelines[name], timedelta(minutes=pipelines[name]["overdue_minutes"])
    # Leave a new pipeline the time for its first run.
    if now < datetime.fromisoformat(memory["known_since"]) + grace:
        return None
    if pipeline["cron"]:
        period = latest_before(pipeline, now - grace)
    elif pipeline["assets"]:
        period = now - (now - _LONG_AGO) % grace
    else:
        return None
    # One query for each period, because a query wakes up a warehouse that sleeps, and costs money.
    if period is None or memory.get("checked") == period.isoformat():
        return None
    _, last = _successes(pipeline)
    success = last.isoformat() if last else None
    if due := _overdue_since(pipeline, pipelines, last, period, now - grace):
        if memory.get("alerted") == due.isoformat():
            return None
        _send(pipeline, "overdue", logical_date=due.isoformat(), last_success=success)
        memory["alerted"] = due.isoformat()
        return "overdue"
    recovered = "alerted" in memory
    if recovered:
        _send(pipeline, "recovered", last_success=success)
        del memory["alerted"]
    memory["checked"] = period.isoformat()
    return "recovered" if recovered else None


def _overdue_since(
    pipeline: Pipeline, pipelines: dict[str, Pipeline], last: datetime | None, scheduled: datetime, latest: datetime
) -> datetime | None:
    """Return when the run was due that is overdue; None if there is none.

    Args:
        pipeline: the pipeline.
        pipelines: all pipelines of the environment.
        last: start of the pipeline's last successful run.
        scheduled: its last scheduled time, if it has a cron expression.
        latest: a run that was due later is not overdue yet.
    """
    if pipeline["cron"]:
        return None if last and last >= scheduled else scheduled
    upstream = [_successes(pipelines[asset], last)[0] for asset in pipeline["assets"]]
    due = max(filter(None, upstream)) if all(upstream) else None
    return due if due and due <= latest else None


def latest_before(pipeline: Pipeline, moment: datetime) -> datetime | None:
    """Return the last scheduled time that is not after a moment, in UTC; None if the schedule starts later.

    As in Airflow, a local time that the clocks skip counts one hour later, and one that occurs twice the second time.
    """
    cron, zone = pipeline["cron"], tz.gettz(pipeline["timezone"])
    first = date.fromisoformat(pipeline["start_date"])
    day = moment.astimezone(zone).date()
    while day >= first:
        if _has_run(cron, day):
            local = (datetime.combine(day, time(h, m, fold=1), zone) for h in cron["hours"] for m in cron["minutes"])
            times = [tz.resolve_imaginary(clock_time).astimezone(UTC) for clock_time in local]
            if past := [scheduled for scheduled in times if scheduled <= moment]:
                return max(past)
        day -= timedelta(days=1)
    return None


def _has_run(cron: dict[str, Any], day: date) -> bool:
    is_last = (day + timedelta(days=1)).day == 1
    in_month = day.day in cron["days"] or (is_last and "l" in cron["days"])
    weekday, number = day.isoweekday() % 7, (day.day + 6) // 7
    is_last_week = (day + timedelta(weeks=1)).month != day.month
    in_week = bool({weekday, f"{weekday}#{number}"} & set(cron["weekdays"]))
    in_week = in_week or (is_last_week and f"{weekday}#l" in cron["weekdays"])
    # Cron's rule: if both fields are restricted, a day that fits one of them is enough.
    return day.month in cron["months"] and (in_month or in_week if cron["either_day"] else in_month and in_week)


def _successes(pipeline: Pipeline, after: datetime | None = None) -> tuple[datetime | None, datetime | None]:
    """Return when the first successful run after a time ended, and when the last one started; None without a run.

    Raises:
        RuntimeError: the query failed, or took too long.
    """
    redshift, until = _client("redshift-data"), clock.monotonic() + QUERY_SECONDS
    quoted = '"' + pipeline["schema"].replace('"', '""') + '"'
    parameters = {"dag_name": pipeline["dag_name"], "after": f"{after or _LONG_AGO:%Y-%m-%d %H:%M:%S.%f}"}
    query = redshift.execute_statement(
        **json.loads(os.environ["WAREHOUSE"]),
        Database=pipeline["database"],
        SecretArn=pipeline["secret_name"],
        Sql=_SUCCESSES.format(schema=quoted),
        Parameters=[{"name": name, "value": value} for name, value in parameters.items()],
    )["Id"]
    while (state := redshift.describe_statement(Id=query))["Status"] != "FINISHED":
        if state["Status"] in ("FAILED", "ABORTED"):
            # The first run creates the views.
            if re.search(r"(relation|schema) .*does not exist", state.get("Error", "")):
                return None, None
            raise RuntimeError(f"the query of {quoted}.audit_runs {state['Status']}: {state.get('Error')}")
        if clock.monotonic() > until:
            raise RuntimeError(f"the query of {quoted}.audit_runs is {state['Status']} after {QUERY_SECONDS} seconds")
        clock.sleep(0.5)
    (row,) = redshift.get_statement_result(Id=query)["Records"]
    texts = [field.get("stringValue") for field in row]
    first, last = (datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None for text in texts)
    return first, last


def _send(pipeline: Pipeline, status: str, **more: str | None) -> None:
    """Invoke the function that sends the pipeline's other alerts, with the payload of alert.schema.json.

    Raises:
        RuntimeError: that function failed.
    """
    payload = {"dag_name": pipeline["dag_name"], "status": status, "deadline_minutes": pipeline["overdue_minutes"]}
    answer = _client("lambda").invoke(FunctionName=pipeline["function_name"], Payload=json.dumps(payload | more))
    if answer.get("FunctionError"):
        raise RuntimeError(f"the function {pipeline['function_name']} failed: {answer['Payload'].read().decode()}")


def _read_memory(bucket: str) -> tuple[dict[str, dict[str, str]], str | None]:
    try:
        stored = _client("s3").get_object(Bucket=bucket, Key=MEMORY)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return {}, None
    return json.loads(stored["Body"].read()), stored["ETag"]


def _write_memory(bucket: str, memory: dict[str, dict[str, str]], etag: str | None) -> str:
    """Write the memory and return its ETag. S3 refuses that if another check has written it in the meantime."""
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    body = json.dumps(memory, indent=1).encode()
    return str(_client("s3").put_object(Bucket=bucket, Key=MEMORY, Body=body, **condition)["ETag"])


@functools.cache
def _client(service: str) -> Any:
    return boto3.client(service)
