"""The limits of Amazon MWAA Serverless, from limits.yaml, and the settings of a pipeline that exceed them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mwaa_pipelines.settings import Pipeline

FILE = Path(__file__).with_name("limits.yaml")
_SERVICE = "Amazon MWAA Serverless"
# The name of a role, <Name>-workflow-<dag_name>, has at most 64, and the stacks' Name 21.
NAME_CHARACTERS = 32


@cache
def _content() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def limit(name: str) -> int:
    """Return a number of the section `limits`, in the unit that the file states."""
    return int(_content()["limits"][name]["value"])


def version(name: str) -> str:
    """Return a version of the section `versions`, such as that of `airflow`."""
    return str(_content()["versions"][name]["value"])


def definition(name: str) -> Any:
    """Return a value of the section `definition`."""
    return _content()["definition"][name]["value"]


def find_problems(pipeline: Pipeline) -> list[str]:
    """Return a message for each setting that a workflow of the service cannot have. It begins with the setting."""
    numbers = (
        ("retries", pipeline.retries, limit("retries"), ""),
        ("retry_delay_seconds", pipeline.retry_delay_seconds, limit("retry_delay"), " seconds"),
        ("task_timeout_minutes", pipeline.task_timeout_minutes, limit("execution_timeout"), " minutes"),
    )
    problems = [
        f"{setting}: {_SERVICE} allows at most {most}{unit}, not {value}. Set {most} or less"
        for setting, value, most, unit in numbers
        if value is not None and value > most
    ]
    if not re.fullmatch(definition("name"), pipeline.dag_name, re.ASCII):
        problems.append(
            f"dag_name: {pipeline.dag_name!r} cannot be the name of a workflow of {_SERVICE}: its first character must "
            "be a letter or a digit. Rename the pipeline"
        )
    if len(pipeline.dag_name) > NAME_CHARACTERS:
        problems.append(
            f"dag_name: {pipeline.dag_name!r} has {len(pipeline.dag_name)} characters, and infra/workflow.yml allows "
            f"{NAME_CHARACTERS}, because the name of the workflow's role contains it. Rename the pipeline"
        )
    if pipeline.scheduled_on_assets:
        problems.append(f"schedule: {_SERVICE} has no assets. Use a cron expression or null")
    if pipeline.timezone != "UTC":
        problems.append(
            f"timezone: {_SERVICE} reads schedules in UTC, not in {pipeline.timezone}. Convert the schedule, and "
            "remove timezone"
        )
    return problems + _ignored(pipeline) + _of_mwaa(pipeline)


def _ignored(pipeline: Pipeline) -> list[str]:
    """Return a message for each setting that the service would ignore."""
    ignored = {
        "catchup": (pipeline.catchup, "catchup"),
        "run_timeout_minutes": (pipeline.run_timeout_minutes, "the time limit of a run"),
        "deadline_minutes": (pipeline.deadline_minutes, "callbacks, so nothing would send the alert"),
    }
    return [
        f"{setting}: {_SERVICE} ignores {what}. Remove the setting"
        for setting, (value, what) in ignored.items()
        if value
    ]


def _of_mwaa(pipeline: Pipeline) -> list[str]:
    """Return a message for each setting whose tasks exist only in DAGs of an MWAA environment."""
    only_in_dags = {
        "load": bool(pipeline.load),
        "source_freshness": pipeline.source_freshness != "ignore",
        "warnings": pipeline.warnings == "alert",
        "rows_change_percent": pipeline.rows_change_percent is not None,
    }
    problems = [
        f"{setting}: workflows of {_SERVICE} do not have this. Remove the setting, or choose another execution_mode"
        for setting, is_set in only_in_dags.items()
        if is_set
    ]
    if pipeline.turns:
        others = ", ".join(name for name in pipeline.turns if name != pipeline.dag_name)
        problems.append(
            f"target_schema: {others} builds in the same schema. A workflow of {_SERVICE} cannot wait for its turn. "
            "Give it a schema of its own"
        )
    return problems
