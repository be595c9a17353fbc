"""Alerts say that a pipeline fails again, since when, and that it has recovered, whatever started its runs."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TaskInstance

from mwaa_pipelines.run_history import update_history


class Pipeline:
    """A DAG whose runs end one after the other, one an hour."""

    def __init__(self) -> None:
        self.ti = TaskInstance()
        self.hour = 0

    def run(self, state: str, *, dated: bool = False, is_checked: bool = True) -> dict[str, Any]:
        """Return the history that the run's dbt_check saw."""
        self.hour += 1
        time = datetime(2026, 1, 1, self.hour, tzinfo=UTC)
        dag_run = SimpleNamespace(run_id=f"run {self.hour}", logical_date=time if dated else None, run_after=time)
        history = update_history(self.ti, dag_run) if is_checked else {}
        self.ti.runs[dag_run.run_id] = state
        return history


def hour(number: int) -> str:
    return f"2026-01-01T{number:02}:00:00+00:00"


@pytest.mark.parametrize("dates", [(False, False, False, False), (True, True, True, True), (True, False, False, True)])
def test_failures_are_repeated_until_a_run_recovers(dates: tuple[bool, ...]) -> None:
    pipeline = Pipeline()
    assert pipeline.run("success", dated=dates[0]) == {"again": False, "last_success": None}
    assert pipeline.run("failed", dated=dates[1]) == {"again": False, "last_success": hour(1)}
    assert pipeline.run("failed", dated=dates[2]) == {"again": True, "last_success": hour(1)}
    assert pipeline.run("success", dated=dates[3]) == {"again": True, "last_success": hour(1)}
    assert pipeline.run("success", dated=dates[3]) == {"again": False, "last_success": hour(4)}


def test_run_that_failed_without_a_check_counts_as_a_failure() -> None:
    pipeline = Pipeline()
    pipeline.run("success")
    pipeline.run("failed", is_checked=False)
    assert pipeline.run("success") == {"again": True, "last_success": hour(1)}


def test_failure_counts_even_if_an_older_run_was_repaired_since() -> None:
    pipeline = Pipeline()
    pipeline.run("failed")
    pipeline.run("failed")
    pipeline.ti.runs["run 1"] = "success"
    assert pipeline.run("success")["again"]


def test_run_that_was_cleared_after_it_failed_recovers() -> None:
    pipeline = Pipeline()
    pipeline.ti.try_number = 2
    assert pipeline.run("success") == {"again": True, "last_success": None}


def test_history_is_empty_if_airflow_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = Pipeline()
    pipeline.run("failed")
    pipeline.ti.runs.clear()
    assert pipeline.run("failed") == {}
    assert "the alert has no history" in caplog.text
