"""Writes the definition of a workflow, which the service reads, and the commands, which its tasks read."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from mwaa_pipelines.reporting import ENVIRONMENT
from mwaa_pipelines.selection import AUDIT_FILE, AUDIT_NODES, exact_selector, pipeline_file
from mwaa_pipelines.serverless.limits import limit
from mwaa_pipelines.serverless.workflow import FOLDER, Workflow
from mwaa_pipelines.settings import Pipeline
from mwaa_pipelines.task_ids import ALERT_TASK, AUDIT_GROUP, CHECK_TASK, SUCCESS_TASK, TRANSFORM_GROUP
from mwaa_release.errors import BuildError
from mwaa_release.serverless.validate import find_problems

_PYTHON = "airflow.providers.standard.operators.python.PythonOperator"
_EMPTY = "airflow.operators.empty.EmptyOperator"
_LAMBDA = "airflow.providers.amazon.aws.operators.lambda_function.LambdaInvokeFunctionOperator"
# The variable `run_id` does not exist in templates of the service.
_ALERT = "{{ ti.xcom_pull(task_ids='dbt_check', key='alert') or '{\"dag_name\": \"' ~ ti.dag_id ~ '\"}' }}"
_BUILT = ("model", "seed", "snapshot", "function")

# Tasks by id: dbt's arguments, and the tasks before it.
_Tasks = dict[str, tuple[list[str], list[str]]]


def workflow_name(pipeline: Pipeline) -> str:
    """Return the name of a workflow's files, which contains its environment."""
    return Path(pipeline_file(pipeline)).stem


def write_workflow(release: Path, pipeline: Pipeline, pipelines_file: Path) -> None:
    """Write the definition and the commands of a pipeline into a release that has its selections.

    Args:
        release: folder of the release.
        pipeline: with execution_mode serverless.
        pipelines_file: for messages.

    Raises:
        BuildError: the service would not accept the definition. The message has one line for each problem.
    """
    selected = json.loads((release / pipeline_file(pipeline)).read_bytes())
    has_audit = bool(json.loads((release / AUDIT_FILE).read_bytes())["nodes"])
    tasks = _tasks(pipeline, selected, has_audit)
    text = yaml.safe_dump(_definition(pipeline, tasks), sort_keys=False, width=1000)
    problems = find_problems(text)
    if len(text.encode()) > limit("definition_bytes") and _is_split(pipeline):
        problems = [
            f"serverless.tasks: models makes a definition of {len(text.encode()):,} bytes with {len(tasks)} tasks, and "
            f"Amazon MWAA Serverless allows {limit('definition_bytes'):,}. Use tasks: one, or select fewer models"
        ]
    if problems:
        where = f"{pipelines_file}: pipeline {pipeline.dag_name}"
        raise BuildError("\n".join(f"{where}: {problem}" for problem in problems))
    folder = release / FOLDER
    folder.mkdir(exist_ok=True)
    name = workflow_name(pipeline)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_bytes(_workflow(pipeline, tasks).to_json())


def _is_split(pipeline: Pipeline) -> bool:
    return pipeline.serverless.tasks == "models"


def _tasks(pipeline: Pipeline, selected: Mapping[str, Any], has_audit: bool) -> _Tasks:
    tasks: _Tasks = {}
    if has_audit:
        tasks[AUDIT_GROUP] = (["build", "--select", *AUDIT_NODES], [])
    first = list(tasks)
    if _is_split(pipeline):
        tasks |= _tasks_of_nodes(selected, first)
    else:
        tasks[TRANSFORM_GROUP] = (["build", *_arguments(selected["selection"])], first)
    variables = ["--vars", json.dumps(pipeline.vars)] if pipeline.vars else []
    return {task_id: ([*command, *variables], before) for task_id, (command, before) in tasks.items()}


def _arguments(selection: Mapping[str, Any]) -> list[str]:
    if selection["selector"]:
        return ["--selector", selection["selector"]]
    options = (("--select", selection["select"]), ("--exclude", selection["exclude"]))
    return [argument for option, values in options if values for argument in (option, *values)]


def _tasks_of_nodes(selected: Mapping[str, Any], first: list[str]) -> _Tasks:
    """Return a task for each node with the tests that read only this node, and one for each other test."""
    nodes = selected["nodes"]
    exclude = ["--exclude", *selected["selection"]["exclude"]] if selected["selection"]["exclude"] else []
    ids = {name: _task_id(name) for name, node in nodes.items() if node["resource_type"] in _BUILT}
    tasks: _Tasks = {}
    for name, node in nodes.items():
        parents = node["depends_on"]["nodes"]
        before = [ids[parent] for parent in parents if parent in ids] or first
        selector = exact_selector(SimpleNamespace(**node))
        if name in ids:
            command = ["build", "--select", selector, "--indirect-selection", "cautious", *exclude]
            tasks[ids[name]] = (command, before)
        elif len(parents) != 1 or parents[0] not in ids:
            tasks[_task_id(name)] = (["test", "--select", selector], before)
    return tasks


def _task_id(unique_id: str) -> str:
    return f"{TRANSFORM_GROUP}.{unique_id.split('.', 2)[2].replace('.', '_')}"


def _definition(pipeline: Pipeline, tasks: _Tasks) -> dict[str, Any]:
    minutes = pipeline.task_timeout_minutes or limit("execution_timeout")
    rendered: dict[str, dict[str, Any]] = {}
    for task_id, (_, before) in tasks.items():
        rendered[task_id] = {"operator": _PYTHON, "python_callable": "pipeline_tasks.run_dbt"}
        if before:
            rendered[task_id]["dependencies"] = before
    rendered[CHECK_TASK] = {
        "operator": _PYTHON,
        "python_callable": "pipeline_tasks.check_dbt",
        "trigger_rule": "all_done",
        "retries": 0,
        # All of them, because a task whose upstream failed ends before other tasks do.
        "dependencies": list(tasks),
    }
    rendered[SUCCESS_TASK] = {"operator": _EMPTY, "dependencies": [CHECK_TASK]}
    if pipeline.sns_lambda_function_name:
        rendered[ALERT_TASK] = {
            "operator": _LAMBDA,
            "function_name": pipeline.sns_lambda_function_name,
            "payload": _ALERT,
            "trigger_rule": "one_failed",
            "dependencies": [CHECK_TASK],
        }
    return {
        pipeline.dag_name: {
            "schedule": pipeline.schedule,
            "start_date": pipeline.start_date.isoformat(),
            "default_args": {
                "retries": pipeline.retries,
                "retry_delay": pipeline.retry_delay_seconds,
                "execution_timeout": {"__type__": "datetime.timedelta", "minutes": minutes},
            },
            "tasks": rendered,
        }
    }


def _workflow(pipeline: Pipeline, tasks: _Tasks) -> Workflow:
    excluded = ["unit_test", *(["test"] if pipeline.test_behavior == "none" else [])]
    return Workflow(
        dag_name=pipeline.dag_name,
        project_name=pipeline.project_name,
        conn_id=pipeline.redshift_connection_id,
        secret_name=pipeline.secret_name,
        secret_env=pipeline.secret_env,
        profile_args={
            "dbname": pipeline.target_database,
            "schema": pipeline.target_schema,
            "threads": pipeline.threads,
        },
        environment={
            **pipeline.env,
            **ENVIRONMENT,
            "DBT_EXCLUDE_RESOURCE_TYPES": " ".join(excluded),
            # Tasks have no internet.
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        },
        commands={task_id: command for task_id, (command, _) in tasks.items()},
    )
