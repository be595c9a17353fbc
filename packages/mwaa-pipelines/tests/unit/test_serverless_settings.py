"""execution_mode serverless in pipelines.yml: refused settings, and pipelines that wait for a workflow."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from mwaa_pipelines.config_file import read_pipelines, read_pipelines_everywhere
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.serverless.limits import limit
from mwaa_pipelines.serverless.xcoms import PackedXComs, pack_results


def _entry(name: str, **settings: Any) -> dict[str, Any]:
    return {
        "dag_name": f"{name}_pipeline",
        "project_name": name,
        "redshift_connection_id": f"{name}_redshift",
        "secret_name": f"{name}/dbt_user",
        "target_database": "dev",
        "target_schema": name,
        **settings,
    }


def _read(folder: Path, *entries: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the accepted pipelines, and the problems."""
    path = folder / "pipelines.yml"
    path.write_text(yaml.safe_dump({"pipelines": list(entries)}))
    file = read_pipelines(path)
    return [pipeline.dag_name for pipeline in file.pipelines], file.problems


def test_workflow_beyond_the_limits_is_refused_with_its_line(tmp_path: Path) -> None:
    entry = _entry("shop", execution_mode="serverless", retries=5, catchup=True)
    names, problems = _read(tmp_path, entry, _entry("sales", retries=5, catchup=True))
    # The other one is a DAG, for which both settings are allowed.
    assert names == ["sales_pipeline"]
    lines = (tmp_path / "pipelines.yml").read_text().splitlines()
    assert len(problems) == 2
    for problem, setting in zip(problems, ("retries", "catchup"), strict=True):
        number = int(problem.split(":")[1])
        assert f": pipeline shop_pipeline: {setting}: " in problem
        assert setting in lines[number - 1]


def test_workflow_within_the_limits_is_accepted(tmp_path: Path) -> None:
    entry = _entry("shop", execution_mode="serverless", serverless={"tasks": "models"}, schedule="0 6 * * *")
    assert _read(tmp_path, entry) == (["shop_pipeline"], [])


def test_unknown_key_of_the_setting_is_reported(tmp_path: Path) -> None:
    entry = _entry("shop", execution_mode="serverless", serverless={"task": "one"})
    names, problems = _read(tmp_path, entry, _entry("sales"))
    assert names == ["sales_pipeline"]
    assert "serverless.task: unknown setting. Did you mean 'tasks'?" in problems[0]


def test_size_that_fargate_does_not_offer_is_refused(tmp_path: Path) -> None:
    entry = _entry("shop", execution_mode="serverless", ecs={"cluster": "shop-dbt", "cpu": 256, "memory": 8192})
    names, (problem,) = _read(tmp_path, entry)
    assert names == []
    assert "pipeline shop_pipeline: ecs: " in problem
    assert "memory must be one of 512, 1024, 2048 for cpu: 256" in problem


@pytest.mark.parametrize("asset", ["shop_pipeline", "shop.orders"])
def test_pipeline_that_waits_for_a_workflow_is_refused(tmp_path: Path, asset: str) -> None:
    workflow = _entry("shop", execution_mode="serverless")
    names, problems = _read(tmp_path, workflow, _entry("sales", schedule=[asset]))
    assert names == ["shop_pipeline"]
    assert f"pipeline sales_pipeline: schedule: nothing updates the asset '{asset}'" in problems[0]
    # A DAG of the same project updates the models.
    dag = _entry("shop", dag_name="shop_dag", redshift_connection_id="b", secret_name="b", target_schema="b")
    if asset == "shop.orders":
        assert _read(tmp_path, workflow, dag, _entry("sales", schedule=[asset]))[1] == []


def test_pipeline_can_be_a_workflow_in_one_environment_only(tmp_path: Path) -> None:
    entry = _entry("shop", environments={"dev": {}, "prod": {"execution_mode": "serverless"}})
    (tmp_path / "pipelines.yml").write_text(yaml.safe_dump({"pipelines": [entry]}))
    pipelines = read_pipelines_everywhere(tmp_path / "pipelines.yml").pipelines
    assert [(pipeline.environment, pipeline.is_workflow) for pipeline in pipelines] == [("dev", False), ("prod", True)]


class _Ti:
    """A task instance with one XCom."""

    def __init__(self, key: str, value: Any) -> None:
        self._key, self._value = key, value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self._value if key == self._key else None


def _process(statuses: dict[str, int]) -> dict[str, Any]:
    results = [
        # Text that does not compress well.
        {"unique_id": f"model.shop.{status}_{number}", "status": status, "message": secrets.token_hex(100)}
        for status, count in statuses.items()
        for number in range(count)
    ]
    return {"invocation_id": "i", "results": results}


def _pulled(process: dict[str, Any]) -> dict[str, Any]:
    packed = pack_results(process)
    assert len(packed) <= limit("xcom_bytes")
    # The service stores XComs as JSON.
    return dict(PackedXComs(_Ti(RESULTS_KEY, json.loads(json.dumps(packed)))).xcom_pull("transform_data", RESULTS_KEY))


def test_results_are_the_same_after_packing() -> None:
    process = _process({"success": 100, "error": 3})
    assert _pulled(process) == process


def test_too_many_results_are_stored_without_those_that_passed() -> None:
    process = _process({"success": 2000, "error": 3, "skipped": 2})
    assert {result["status"] for result in _pulled(process)["results"]} == {"error", "skipped"}
    assert len(_pulled(process)["results"]) == 5


def test_too_many_failures_are_cut() -> None:
    results = _pulled(_process({"error": 2000}))["results"]
    assert 0 < len(results) < 2000


def test_other_xcoms_are_not_unpacked() -> None:
    assert PackedXComs(_Ti("task_error", {"message": "m"})).xcom_pull("transform_data", "task_error") == {
        "message": "m"
    }
    assert PackedXComs(_Ti("task_error", None)).xcom_pull("transform_data", RESULTS_KEY) is None
