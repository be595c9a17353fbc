"""The audit task builds the audit views once per release, and again if the task is cleared."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TaskInstance

from mwaa_pipelines.audit_views import VIEWS_KEY, record_audit_views, select_audit_views

AUDIT = "audit_dbt_task.audit_table_model_build"
TABLE = "fqn:audit_trail.audit_table"
TABLE_AND_VIEWS = f"{TABLE} tag:audit_view"


@pytest.fixture
def audit_run(dag: Any, tmp_path: Path) -> Any:
    """A function that runs the audit task without dbt and returns the task's selection."""
    xcoms: dict[tuple[str, str], Any] = {}

    def run(release_id: str = "r1", status: str = "success", try_number: int = 1, results: bool = True) -> str:
        task = copy.copy(dag.get_task(AUDIT))
        task.project_dir = str(tmp_path / release_id)
        ti = TaskInstance(task_id=AUDIT, try_number=try_number)
        ti.xcoms = xcoms
        context = {"ti": ti, "task": task}
        select_audit_views(context)
        target = tmp_path / "run" / "target"
        target.mkdir(parents=True, exist_ok=True)
        file = target / "run_results.json"
        file.unlink(missing_ok=True)
        if results:
            file.write_text(json.dumps({"results": [{"status": "success"}, {"status": status}]}))
        record_audit_views(str(tmp_path / "run"), context)
        return task.select

    return run


def test_views_are_built_once_per_release(audit_run: Any) -> None:
    builds = [audit_run(release_id) for release_id in ("r1", "r1", "r2", "r2", "r1")]
    assert builds == [TABLE_AND_VIEWS, TABLE, TABLE_AND_VIEWS, TABLE, TABLE_AND_VIEWS]


@pytest.mark.parametrize("status", ["error", "fail", "skipped"])
def test_failed_views_are_built_again(audit_run: Any, status: str) -> None:
    assert [audit_run(status=status), audit_run(), audit_run()] == [TABLE_AND_VIEWS, TABLE_AND_VIEWS, TABLE]


def test_views_are_built_again_if_dbt_wrote_no_results(audit_run: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert [audit_run(results=False), audit_run()] == [TABLE_AND_VIEWS, TABLE_AND_VIEWS]
    assert "could not be recorded" in caplog.text


def test_cleared_audit_task_builds_the_views_again(audit_run: Any) -> None:
    audit_run()
    assert audit_run(try_number=2) == TABLE_AND_VIEWS


def test_views_built_by_earlier_runs_are_remembered(dag: Any) -> None:
    class FirstTask(TaskInstance):
        def xcom_pull(self, **arguments: Any) -> None:
            assert arguments == {"task_ids": AUDIT, "key": VIEWS_KEY, "include_prior_dates": True}

    select_audit_views({"ti": FirstTask(task_id=AUDIT), "task": copy.copy(dag.get_task(AUDIT))})
