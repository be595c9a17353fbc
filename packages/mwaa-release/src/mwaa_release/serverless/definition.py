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
from mwaa_release.selections import selection_arguments
from mwaa_release.serverless.validate import find_problems

_PYTHON = "airflow.providers.standard.operators.python.PythonOperator"
_EMPTY = "airflow.operators.empty.EmptyOperator"
_LAMBDA = "airflow.providers.amazon.aws.operators.lambda_function.LambdaInvokeFunctionOperator"
# If the check was lost, the alert has only the name of the pipeline.
_ALERT = "{{ ti.xcom_pull(task_ids='dbt_check', key='alert') or '{\"dag_name\": \"NAME\"}' }}"
# For dbt to end, and its results to be stored, before the service ends the task.
_STOP_MINUTES = 2
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
        tasks |= _tasks_of_nodes(selected["nodes"], first, with_tests=pipeline.test_behavior != "none")
    else:
        tasks[TRANSFORM_GROUP] = (["build", *selection_arguments(selected["selection"])], first)
    variables = ["--vars", json.dumps(pipeline.vars)] if pipeline.vars else []
    return {task_id: ([*command, *variables], before) for task_id, (command, before) in tasks.items()}


def _tasks_of_nodes(nodes: Mapping[str, Any], first: list[str], with_tests: bool) -> _Tasks:
    """Return a task for each node with the tests that read only this node, and one for each other test."""
    built = [name for name, node in nodes.items() if node["resource_type"] in _BUILT]
    members = {name: [name] for name in built}
    for name in [name for name in nodes if name not in members] if with_tests else []:
        parents = nodes[name]["depends_on"]["nodes"]
        if len(parents) == 1 and parents[0] in built:
            members[parents[0]].append(name)
        else:
            members[name] = [name]
    ids: dict[str, str] = {}
    for name in members:
        task_id = _task_id(name)
        # A test can have the name of a model.
        ids[name] = task_id if task_id not in ids.values() else f"{TRANSFORM_GROUP}.{name}"
    tasks: _Tasks = {}
    for name, selected in members.items():
        before = [ids[parent] for parent in nodes[name]["depends_on"]["nodes"] if parent in built] or first
        selectors = [exact_selector(SimpleNamespace(**nodes[member])) for member in selected]
        tasks[ids[name]] = (["build", "--select", *selectors, "--indirect-selection", "empty"], before)
    return tasks


def _task_id(unique_id: str) -> str:
    """Return the id that Cosmos gives the task of a node, or of a test of several nodes."""
    name = unique_id.split(".", 2)[2]
    is_test = unique_id.startswith("test.")
    return f"{TRANSFORM_GROUP}." + (f"{name.partition('.')[0]}_test" if is_test else name.replace(".", "_"))


def _definition(pipeline: Pipeline, tasks: _Tasks) -> dict[str, Any]:
    minutes = pipeline.task_timeout_minutes or limit("execution_timeout") - _STOP_MINUTES
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
            "payload": _ALERT.replace("NAME", pipeline.dag_name),
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
        ecs=pipeline.ecs.model_dump() if pipeline.ecs else None,
    )
