"""The limits of MWAA Serverless, and what they refuse."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mwaa_pipelines.config_file import read_pipelines
from mwaa_pipelines.serverless.limits import FILE, find_problems, limit
from mwaa_pipelines.settings import Pipeline

REQUIRED = {
    "dag_name": "shop_pipeline",
    "project_name": "shop",
    "redshift_connection_id": "shop_redshift",
    "target_database": "dev",
    "target_schema": "shop",
    "sns_lambda_function_name": "sns_notification",
}


def _problems(**settings: Any) -> list[str]:
    return find_problems(Pipeline(**{**REQUIRED, **settings}))


def test_pipeline_within_limits_has_no_problem() -> None:
    assert _problems() == []
    assert _problems(schedule="0 6 * * *", retries=3, retry_delay_seconds=300, task_timeout_minutes=60, threads=8) == []
    assert _problems(execution_mode="serverless", ecs={"cluster": "shop-dbt", "memory": 8192}) == []


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("schedule", ("external:orders",), "has no assets"),
        ("retries", 4, "at most 3, not 4"),
        ("retry_delay_seconds", 301, "at most 300 seconds, not 301"),
        ("task_timeout_minutes", 61, "at most 60 minutes, not 61"),
        ("catchup", True, "ignores catchup"),
        ("deadline_minutes", 30, "nothing would send the alert"),
        ("run_timeout_minutes", 90, "ignores the time limit of a run"),
        ("timezone", "Europe/Berlin", "in UTC, not in Europe/Berlin"),
        ("dag_name", "_shop", "first character"),
        ("dag_name", 33 * "a", "has 33 characters, and infra/workflow.yml allows 32"),
        ("load", ({"table": "landing.orders", "prefix": "orders/", "format": "csv"},), "do not have this"),
        ("source_freshness", "measure", "do not have this"),
        ("warnings", "alert", "do not have this"),
        ("rows_change_percent", 50, "do not have this"),
    ],
)
def test_setting_beyond_a_limit_is_named(setting: str, value: Any, words: str) -> None:
    (problem,) = _problems(**{setting: value})
    assert problem.startswith(f"{setting}: ")
    assert words in problem


def test_all_problems_of_a_pipeline_are_reported() -> None:
    settings = [problem.partition(":")[0] for problem in _problems(retries=10, catchup=True, timezone="Asia/Tokyo")]
    assert settings == ["retries", "timezone", "catchup"]


def test_pipelines_that_share_a_schema_are_refused(tmp_path: Path) -> None:
    entries = [REQUIRED, {**REQUIRED, "dag_name": "shop_hourly"}]
    (tmp_path / "pipelines.yml").write_text(yaml.safe_dump({"pipelines": entries}))
    first, _ = read_pipelines(tmp_path / "pipelines.yml").pipelines
    (problem,) = find_problems(first)
    assert problem.startswith("target_schema: shop_hourly builds in the same schema")


def test_each_limit_has_a_source_and_the_file_a_date() -> None:
    content = yaml.safe_load(FILE.read_text())
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(content["read"]))
    entries = [content["ignored"]]
    for section in ("limits", "versions", "definition"):
        entries += content[section].values()
    assert [entry for entry in entries if not (entry.get("source") and entry.get("value") is not None)] == []
    assert [name for name, entry in content["limits"].items() if not entry["unit"]] == []


def test_memory_of_messages_is_that_of_the_workers() -> None:
    assert limit("worker_memory") == 3 * 1024
