"""The definition of a workflow: its tasks in both forms, and the rules of the service."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mwaa_pipelines.serverless.limits import NAME_CHARACTERS, limit
from mwaa_pipelines.settings import Pipeline
from mwaa_release.errors import BuildError
from mwaa_release.serverless.definition import write_workflow
from mwaa_release.serverless.validate import find_problems
from mwaa_release.templates import load

PIPELINES = Path("dags/pipelines.yml")
SETTINGS = {
    "dag_name": "shop_pipeline",
    "project_name": "shop",
    "redshift_connection_id": "shop_redshift",
    "secret_name": "shop/dbt_user",
    "target_database": "dev",
    "target_schema": "shop",
    "sns_lambda_function_name": "sns_notification",
    "execution_mode": "serverless",
    "schedule": "0 6 * * *",
}


def _node(unique_id: str, *parents: str) -> dict[str, Any]:
    kind, package, name = unique_id.split(".", 2)
    return {
        "unique_id": unique_id,
        "resource_type": kind,
        "package_name": package,
        "original_file_path": f"models/{name}.sql",
        "fqn": [package, name],
        "tags": [],
        "depends_on": {"nodes": list(parents)},
    }


NODES = [
    _node("seed.shop.rates"),
    _node("model.shop.orders", "seed.shop.rates"),
    _node("model.shop.customers"),
    _node("test.shop.not_null_orders_id.abc", "model.shop.orders"),
    _node("test.shop.relationships_orders.def", "model.shop.orders", "model.shop.customers"),
]


def _write(release: Path, nodes: list[dict[str, Any]] = NODES, audit: bool = True, **settings: Any) -> dict[str, Any]:
    """Write the workflow of a pipeline, and return its definition and commands."""
    pipeline = Pipeline(**{**SETTINGS, **settings})
    selection = {"select": list(pipeline.select), "exclude": ["tag:audit", "tag:audit_view"], "selector": None}
    selected = {"nodes": {node["unique_id"]: node for node in nodes}, "selection": selection}
    (release / "selections/pipelines").mkdir(parents=True, exist_ok=True)
    (release / "selections/pipelines/shop_pipeline.json").write_text(json.dumps(selected))
    audited = {"nodes": {"model.audit_trail.audit_table": {}} if audit else {}}
    (release / "selections/audit.json").write_text(json.dumps(audited))
    write_workflow(release, pipeline, PIPELINES)
    text = (release / "workflows/shop_pipeline.yaml").read_text()
    assert find_problems(text) == []
    return {
        **yaml.safe_load(text)["shop_pipeline"],
        **{
            name: json.loads((release / "workflows/shop_pipeline.json").read_text())[name]
            for name in ("commands", "ecs")
        },
    }


def test_one_dbt_task_builds_all_nodes(tmp_path: Path) -> None:
    workflow = _write(tmp_path, select=("tag:mart",), vars={"days": 3})
    assert list(workflow["tasks"]) == [
        "audit_dbt_task",
        "transform_data",
        "dbt_check",
        "pipeline_succeeded",
        "sns_notification_for_failure",
    ]
    assert workflow["commands"] == {
        "audit_dbt_task": ["build", "--select", "tag:audit", "tag:audit_view", "--vars", '{"days": 3}'],
        "transform_data": [
            *("build", "--select", "tag:mart", "--exclude", "tag:audit", "tag:audit_view"),
            *("--vars", '{"days": 3}'),
        ],
    }
    assert workflow["tasks"]["dbt_check"]["trigger_rule"] == "all_done"
    assert workflow["tasks"]["dbt_check"]["dependencies"] == ["audit_dbt_task", "transform_data"]
    assert workflow["tasks"]["sns_notification_for_failure"]["trigger_rule"] == "one_failed"
    assert '{"dag_name": "shop_pipeline"}' in workflow["tasks"]["sns_notification_for_failure"]["payload"]
    assert workflow["schedule"] == "0 6 * * *"
    assert workflow["default_args"]["execution_timeout"] == {"__type__": "datetime.timedelta", "minutes": 58}


def test_each_node_has_a_task_with_its_own_tests(tmp_path: Path) -> None:
    workflow = _write(tmp_path, serverless={"tasks": "models"})
    before = {task_id: task.get("dependencies") for task_id, task in workflow["tasks"].items()}
    assert before == {
        "audit_dbt_task": None,
        "transform_data.rates": ["audit_dbt_task"],
        "transform_data.orders": ["transform_data.rates"],
        "transform_data.customers": ["audit_dbt_task"],
        # It reads two models, so that the task of neither can run it.
        "transform_data.relationships_orders_test": ["transform_data.orders", "transform_data.customers"],
        "dbt_check": [
            "audit_dbt_task",
            "transform_data.rates",
            "transform_data.orders",
            "transform_data.customers",
            "transform_data.relationships_orders_test",
        ],
        "pipeline_succeeded": ["dbt_check"],
        "sns_notification_for_failure": ["dbt_check"],
    }
    assert workflow["commands"]["transform_data.orders"] == [
        *("build", "--select", "fqn:shop.orders,package:shop,resource_type:model,file:orders.sql"),
        "fqn:shop.not_null_orders_id.abc,package:shop,resource_type:test,file:not_null_orders_id.abc.sql",
        # Only the tests that dbt selected when the release was built.
        *("--indirect-selection", "empty"),
    ]


def test_test_with_the_name_of_a_model_has_its_own_task(tmp_path: Path) -> None:
    parents = ("model.shop.orders", "model.shop.customers")
    nodes = [
        *NODES,
        _node("model.shop.same_test"),
        _node("test.shop.same", *parents),
        _node("test.other.same", *parents),
    ]
    commands = _write(tmp_path, nodes, serverless={"tasks": "models"})["commands"]
    types = {task_id: command[2].split(",")[1:3] for task_id, command in commands.items() if "same" in task_id}
    assert types == {
        "transform_data.same_test": ["package:shop", "resource_type:model"],
        "transform_data.test.shop.same": ["package:shop", "resource_type:test"],
        "transform_data.test.other.same": ["package:other", "resource_type:test"],
    }


def test_pipeline_without_tests_has_no_tasks_for_them(tmp_path: Path) -> None:
    commands = _write(tmp_path, serverless={"tasks": "models"}, test_behavior="none")["commands"]
    assert list(commands) == [
        "audit_dbt_task",
        *(f"transform_data.{name}" for name in ("customers", "orders", "rates")),
    ]
    assert "test" not in str(commands)


def test_task_of_ecs_has_the_size_of_the_pipeline(tmp_path: Path) -> None:
    workflow = _write(tmp_path, ecs={"cluster": "shop-dbt", "memory": 8192})
    assert workflow["ecs"] == {"cluster": "shop-dbt", "cpu": 1024, "memory": 8192, "task_definition": None}
    # The definition is the same in all accounts.
    assert workflow["tasks"] == _write(tmp_path)["tasks"]
    assert _write(tmp_path)["ecs"] is None


def test_pipeline_without_alerts_and_audit_trail_has_no_tasks_for_them(tmp_path: Path) -> None:
    workflow = _write(tmp_path, audit=False, sns_lambda_function_name=None)
    assert list(workflow["tasks"]) == ["transform_data", "dbt_check", "pipeline_succeeded"]


def test_stack_takes_the_names_that_the_build_accepts() -> None:
    pattern = load("workflow.yml")["Parameters"]["DagName"]["AllowedPattern"]
    lengths = [length for length in range(1, 65) if re.fullmatch(pattern, length * "a")]
    assert lengths[-1] == NAME_CHARACTERS
    role = load("workflow.yml")["Resources"]["Role"]["Properties"]["RoleName"]["Fn::Sub"]
    assert len(role.replace("${Name}", 21 * "a").replace("${DagName}", NAME_CHARACTERS * "a")) <= 64


def test_files_contain_no_secret_and_nothing_of_one_build(tmp_path: Path) -> None:
    _write(tmp_path / "one", secret_env={"API_KEY": "shop/api_key"}, env={"CURRENCY": "EUR"})
    content = json.loads((tmp_path / "one/workflows/shop_pipeline.json").read_text())
    assert content["secret_name"] == "shop/dbt_user"
    assert content["secret_env"] == {"API_KEY": "shop/api_key"}
    assert content["environment"]["CURRENCY"] == "EUR"
    assert content["environment"]["DBT_EXCLUDE_RESOURCE_TYPES"] == "unit_test"
    _write(tmp_path / "two", secret_env={"API_KEY": "shop/api_key"}, env={"CURRENCY": "EUR"})
    for name in ("shop_pipeline.yaml", "shop_pipeline.json"):
        assert (tmp_path / "one/workflows" / name).read_bytes() == (tmp_path / "two/workflows" / name).read_bytes()


def test_definition_beyond_the_size_limit_is_refused(tmp_path: Path) -> None:
    nodes = [_node(f"model.shop.model_with_a_long_name_{number}") for number in range(400)]
    with pytest.raises(BuildError) as refused:
        _write(tmp_path, nodes, serverless={"tasks": "models"})
    message = str(refused.value)
    assert message.startswith("dags/pipelines.yml: pipeline shop_pipeline: serverless.tasks: models makes")
    assert f"allows {limit('definition_bytes'):,}. Use tasks: one" in message
    # The commands are not in the definition, so the other form has a size that does not depend on the models.
    _write(tmp_path, nodes)


VALID = """
shop_pipeline:
  schedule: 0 6 * * *
  start_date: '2026-01-01'
  default_args: {retries: 1, retry_delay: 30, execution_timeout: {__type__: datetime.timedelta, minutes: 60}}
  tasks:
    transform_data:
      operator: airflow.providers.standard.operators.python.PythonOperator
      python_callable: pipeline_tasks.run_dbt
    pipeline_succeeded:
      operator: airflow.operators.empty.EmptyOperator
      dependencies: [transform_data]
"""


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("shop_pipeline:", "_shop:", "is not the name of a workflow"),
        ("schedule: 0 6 * * *", "schedule: [a]", "must be a cron expression or null"),
        ("start_date: '2026-01-01'", "start_date: 2026-01-01", "must be a date in quotes"),
        ("  schedule", "  catchup: true\n  schedule", "does not know the key catchup"),
        ("retries: 1", "retries: 4", "default_args.retries: must be a number from 0 to 3, not 4"),
        ("retry_delay: 30", "retry_delay: 301", "retry_delay: must be a number from 0 to 300"),
        ("retry_delay: 30", "retry_delay: 30s", "retry_delay: must be a number"),
        ("minutes: 60", "minutes: 61", "at most 60 minutes, not 61"),
        ("{__type__: datetime.timedelta, minutes: 60}", "3600", "must be a mapping with __type__"),
        ("{__type__: datetime.timedelta, minutes: 60}", "{minutes: 60}", "must be a mapping with __type__"),
        ("{retries: 1", "{pool: small, retries: 1", "default_args: the service does not know the key pool"),
        ("airflow.operators.empty.EmptyOperator", "EmptyOperator", "needs an operator"),
        ("airflow.operators.empty.EmptyOperator", "airflow.operators.bash.BashOperator", "needs an operator"),
        ("[transform_data]", "[transform]", "depends on transform, which is no task"),
        ("[transform_data]", "[pipeline_succeeded]", "form a cycle"),
        ("[transform_data]", "[transform_data]\n      trigger_rule: always", "trigger_rule must be one of"),
        ("[transform_data]", "[transform_data]\n      pool: small", "does not know the key pool"),
        ("      python_callable: pipeline_tasks.run_dbt\n", "", "lacks python_callable"),
        ("pipeline_tasks.run_dbt", "'{{ run_id }}'", "have no variable run_id"),
        ("pipeline_tasks.run_dbt", "'{{ ti.'", "is not a valid template"),
        ("pipeline_tasks.run_dbt", "pipeline_tasks.$HOME", "must not contain $"),
        ("    transform_data:", "    transform data:", "the id of a task consists of"),
        ("shop_pipeline:\n", "other: {}\nshop_pipeline:\n", "must have one DAG"),
        ("  tasks:\n", "  tasks: [\n", "is not valid YAML"),
    ],
)
def test_rule_of_the_service_is_checked(before: str, after: str, words: str) -> None:
    assert find_problems(VALID) == []
    problems = find_problems(VALID.replace(before, after, 1))
    assert any(words in problem for problem in problems), problems
