"""Writes the schedules of the pipelines for overdue_runs.py, which has no cron library."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from croniter import croniter

from mwaa_pipelines.config_file import environments, read_pipelines
from mwaa_pipelines.settings import Pipeline
from mwaa_release.overdue_runs import SCHEDULES
from mwaa_release.release import DAGS

_HOURS, _MINUTES, _DAYS, _MONTHS, _WEEKDAYS = range(24), range(60), range(1, 32), range(1, 13), range(7)


def write_schedules(dags: Path, without_audit: Collection[str] = ()) -> None:
    """Write the schedules beside pipelines.yml, by environment; under an empty name if the file has no environments.

    Left out are pipelines whose last success cannot be read: those without a secret or an audit trail. Only those that
    send alerts have a schedule.

    Args:
        dags: folder with a pipelines.yml without problems.
        without_audit: names of dbt projects without the audit trail.
    """
    path = dags / "pipelines.yml"
    schedules = {}
    for name in environments(path) or [None]:
        pipelines = read_pipelines(path, environment=name).pipelines
        readable = [entry for entry in pipelines if entry.secret_name and entry.project_name not in without_audit]
        schedules[name or ""] = [_entry(pipeline, readable) for pipeline in readable]
    (dags / SCHEDULES.removeprefix(DAGS)).write_text(json.dumps(schedules) + "\n")


def _entry(pipeline: Pipeline, readable: Sequence[Pipeline]) -> dict[str, Any]:
    alerts, is_cron = bool(pipeline.sns_lambda_function_name), isinstance(pipeline.schedule, str)
    return {
        "dag_name": pipeline.dag_name,
        "function_name": pipeline.sns_lambda_function_name,
        "secret_name": pipeline.secret_name,
        "database": pipeline.target_database,
        "schema": pipeline.target_schema,
        "overdue_minutes": pipeline.overdue_minutes,
        "timezone": pipeline.timezone,
        "start_date": pipeline.start_date.isoformat(),
        "cron": expand(pipeline.schedule) if alerts and is_cron else None,
        "assets": _upstream(pipeline, readable) if alerts else [],
    }


def _upstream(pipeline: Pipeline, readable: Sequence[Pipeline]) -> list[str]:
    """Return the pipelines that update the assets of a schedule; none if one of them cannot be read."""
    names = {entry.dag_name for entry in readable}
    by_project = Counter(entry.project_name for entry in readable)
    upstream = []
    for asset in pipeline.schedule if pipeline.scheduled_on_assets else ():
        project = asset.partition(".")[0]
        # The asset of a public model, such as shop.orders. With several pipelines, it is not known which one.
        builders = [entry.dag_name for entry in readable if entry.project_name == project and by_project[project] == 1]
        upstream += [asset] if asset in names else builders or [""]
    return [] if "" in upstream else list(dict.fromkeys(upstream))


def expand(expression: str) -> dict[str, Any] | None:
    """Return the values of each field of a cron expression; None for the nearest weekday (15W), which is not supported.

    `l` stands for the last day of a month, `5#2` for its second Friday, and `5#l` for its last Friday.
    """
    if "w" in "".join(expression.lower().split()[2:3]):
        return None
    (minutes, hours, days, months, weekdays, *_), numbered = croniter.expand(expression)

    def values(field: Sequence[Any], every: range) -> list[Any]:
        return list(every) if field == ["*"] else list(field)

    return {
        "minutes": values(minutes, _MINUTES),
        "hours": values(hours, _HOURS),
        "days": values(days, _DAYS),
        "months": values(months, _MONTHS),
        "weekdays": [
            value
            for weekday in values(weekdays, _WEEKDAYS)
            for value in (
                [f"{weekday}#{n}" for n in sorted(numbered[weekday], key=str)] if weekday in numbered else [weekday]
            )
        ],
        # Cron's rule: if both fields are restricted, a day that fits one of them is enough.
        "either_day": days != ["*"] and weekdays != ["*"],
    }
