"""Checks a definition by the service's documented form, which mwaa_pipelines/serverless/limits.yaml lists."""

import re
from collections.abc import Iterator
from datetime import date
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml
from croniter import croniter
from jinja2 import Environment, TemplateSyntaxError, meta

from mwaa_pipelines.serverless.limits import definition, limit

# Arguments of the operators that definitions of pipelines have.
_REQUIRED_ARGUMENTS = {
    "EmptyOperator": (),
    "PythonOperator": ("python_callable",),
    "LambdaInvokeFunctionOperator": ("function_name", "payload"),
}
_TRIGGER_RULES = ("all_success", "all_done", "one_failed")
_TIMEDELTA = "datetime.timedelta"
_MINUTES = {"hours": 60.0, "minutes": 1.0, "seconds": 1 / 60}


def find_problems(text: str) -> list[str]:
    """Return a message for each rule of the service that a definition breaks.

    Args:
        text: the YAML.
    """
    size, most = len(text.encode()), limit("definition_bytes")
    if size > most:
        return [f"the definition has {size:,} bytes, and Amazon MWAA Serverless allows {most:,}"]
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [f"the definition is not valid YAML: {error}"]
    if not isinstance(content, dict) or len(content) != 1:
        return ["the definition must have one DAG: a mapping with one key"]
    ((name, dag),) = content.items()
    if not isinstance(dag, dict) or not isinstance(dag.get("tasks"), dict) or not dag["tasks"]:
        return [f"{name}: must be a mapping with the key tasks, a mapping of task ids"]
    # dag-factory replaces environment variables in the whole text.
    problems = ["the definition must not contain $, which dag-factory replaces"] if "$" in text else []
    return [*problems, *_problems_of_dag(str(name), dag)]


def _problems_of_dag(name: str, dag: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name}: the service does not know the key {key}" for key in dag.keys() - set(definition("dag_keys")))
    if not re.fullmatch(definition("name"), name, re.ASCII) or dag.get("dag_id", name) != name:
        yield f"{name}: is not the name of a workflow"
    schedule = dag.get("schedule")
    if schedule is not None and not (isinstance(schedule, str) and croniter.is_valid(schedule)):
        yield f"{name}.schedule: must be a cron expression or null, not {schedule!r}"
    try:
        date.fromisoformat(dag["start_date"])
    except (KeyError, ValueError, TypeError):
        yield f"{name}.start_date: must be a date in quotes, such as '2026-01-01'"
    default_args = dag.get("default_args") or {}
    unknown = default_args.keys() - set(definition("default_args"))
    yield from (f"{name}.default_args: the service does not know the key {key}" for key in unknown)
    yield from _problems_of_limits(f"{name}.default_args", default_args)
    for task_id, task in dag["tasks"].items():
        yield from _problems_of_task(f"{name}.{task_id}", str(task_id), task, dag["tasks"])
    try:
        TopologicalSorter({key: _dependencies(task) for key, task in dag["tasks"].items()}).prepare()
    except CycleError as error:
        yield f"{name}: the tasks form a cycle: {' → '.join(error.args[1])}"


def _dependencies(task: Any) -> list[str]:
    return list(task.get("dependencies") or []) if isinstance(task, dict) else []


def _problems_of_task(where: str, task_id: str, task: Any, tasks: dict[str, Any]) -> Iterator[str]:
    if not re.fullmatch(definition("task_id"), task_id, re.ASCII):
        yield f"{where}: the id of a task consists of letters, digits, '_', '.' and '-', at most 250"
    if not isinstance(task, dict) or task.get("operator") not in definition("operators"):
        yield f"{where}: needs an operator that pipelines use, with its full path"
        return
    arguments = _REQUIRED_ARGUMENTS[task["operator"].rpartition(".")[2]]
    yield from (f"{where}: lacks {key}" for key in arguments if key not in task)
    unknown = task.keys() - {*definition("task_keys"), *arguments}
    yield from (f"{where}: the service does not know the key {key}" for key in sorted(unknown))
    yield from (f"{where}: depends on {key}, which is no task" for key in _dependencies(task) if key not in tasks)
    if task.get("trigger_rule", "all_success") not in _TRIGGER_RULES:
        yield f"{where}: trigger_rule must be one of {', '.join(_TRIGGER_RULES)}"
    yield from _problems_of_limits(where, task)
    for key in arguments:
        yield from _problems_of_template(f"{where}.{key}", str(task.get(key)))


def _problems_of_limits(where: str, values: dict[str, Any]) -> Iterator[str]:
    for key, most in (("retries", limit("retries")), ("retry_delay", limit("retry_delay"))):
        value = values.get(key, 0)
        if not isinstance(value, int | float) or not 0 <= value <= most:
            yield f"{where}.{key}: must be a number from 0 to {most}, not {value!r}"
    timeout = values.get("execution_timeout", {"__type__": _TIMEDELTA, "minutes": 1})
    try:
        minutes = sum(_MINUTES[unit] * value for unit, value in timeout.items() if unit != "__type__")
        has_type = timeout["__type__"] == _TIMEDELTA
    except (KeyError, TypeError, AttributeError):
        has_type = False
    if not has_type:
        yield f"{where}.execution_timeout: must be a mapping with __type__: {_TIMEDELTA} and minutes, not {timeout!r}"
        return
    if not 0 < minutes <= limit("execution_timeout"):
        yield f"{where}.execution_timeout: must be at most {limit('execution_timeout')} minutes, not {minutes:g}"


def _problems_of_template(where: str, text: str) -> Iterator[str]:
    try:
        names = meta.find_undeclared_variables(Environment(autoescape=False).parse(text))  # noqa: S701 - not rendered
    except TemplateSyntaxError as error:
        yield f"{where}: is not a valid template: {error}"
        return
    for name in sorted(names - set(definition("template_variables"))):
        yield f"{where}: templates of the service have no variable {name}"
