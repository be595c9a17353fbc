"""Targets of `make run`: the copy of pipelines.yml in which all pipelines are workflows."""

from pathlib import Path

import pytest
import yaml

from mwaa_local.settings import SetupError
from mwaa_local.target import check_target, workflows_file
from mwaa_pipelines.config_file import read_pipelines

PIPELINES = """
defaults: {retries: 1, timezone: Europe/Berlin, execution_mode: ecs, ecs: {cluster: shop-dbt}}
pipelines:
  - dag_name: shop_pipeline
    project_name: shop
    redshift_connection_id: shop_redshift
    target_database: dev
    target_schema: shop
    sns_lambda_function_name: sns_notification
    deadline_minutes: 30
    serverless: {tasks: models}
    load: [{table: landing.orders, prefix: orders/, format: csv}]
    environments:
      dev: {schedule: ["external:orders"], source_freshness: require}
      prod:
"""


def test_unknown_target_is_refused() -> None:
    for target in ("", "ecs", "serverless"):
        check_target(target)
    with pytest.raises(SetupError, match="--target lambda: choose ecs or serverless, or leave it out"):
        check_target("lambda")


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_all_pipelines_are_workflows_without_settings_of_dags(tmp_path: Path, environment: str) -> None:
    (tmp_path / "pipelines.yml").write_text(PIPELINES)
    path = workflows_file(tmp_path / "pipelines.yml", tmp_path / "copy")
    file = read_pipelines(path, environment=environment)
    assert file.problems == []
    (pipeline,) = file.pipelines
    assert pipeline.is_workflow
    assert (pipeline.schedule, pipeline.load, pipeline.deadline_minutes, pipeline.retries) == (None, (), None, 1)
    assert pipeline.serverless.tasks == "models"
    assert yaml.safe_load(PIPELINES) == yaml.safe_load((tmp_path / "pipelines.yml").read_text())
