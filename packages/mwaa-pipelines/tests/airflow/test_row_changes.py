"""An alert tells that a node wrote many more or fewer rows than the last time, if the pipeline asks for it."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TaskInstance

from mwaa_pipelines.row_changes import row_changes

DAILY, LOADED = "model.shop.daily", "load.shop.landing.orders"


def changes(ti: TaskInstance, hour: int, rows: dict[str, int | None], **params: Any) -> list[tuple[str, str]]:
    """Return what a run reports; every second run has no logical date."""
    time = datetime(2026, 1, 1, hour, tzinfo=UTC)
    dag_run = SimpleNamespace(run_id=f"run {hour}", logical_date=time if hour % 2 else None, run_after=time)
    context = {"ti": ti, "dag_run": dag_run, "params": {"full_refresh": None, "start": None, "files": None, **params}}
    return [(node["unique_id"], node["message"]) for node in row_changes(context, rows, 50)]


def test_only_changes_beyond_the_band_are_reported(ti: TaskInstance) -> None:
    assert changes(ti, 1, {DAILY: 1000, LOADED: 10}) == []
    assert changes(ti, 2, {DAILY: 1500, LOADED: 5}) == []
    assert changes(ti, 3, {DAILY: 749, LOADED: 8}) == [
        (DAILY, "wrote 749 rows, 1,500 the last time: more than 50 % apart"),
        (LOADED, "wrote 8 rows, 5 the last time: more than 50 % apart"),
    ]
    assert changes(ti, 4, {DAILY: 0}) == [(DAILY, "wrote 0 rows, 749 the last time: more than 50 % apart")]
    assert changes(ti, 5, {DAILY: 1}) == [(DAILY, "wrote 1 rows, 0 the last time: more than 50 % apart")]


def test_node_is_compared_with_its_own_last_run(ti: TaskInstance) -> None:
    changes(ti, 1, {DAILY: 1000, LOADED: 10})
    assert changes(ti, 2, {DAILY: None, LOADED: 10}) == []
    assert [node for node, _ in changes(ti, 3, {DAILY: 10})] == [DAILY]


@pytest.mark.parametrize("params", [{"full_refresh": True}, {"start": "2026-01-01"}, {"files": ["s3://b/f"]}])
def test_backfills_and_full_refreshes_are_not_compared(ti: TaskInstance, params: dict[str, Any]) -> None:
    changes(ti, 1, {DAILY: 1000})
    assert changes(ti, 2, {DAILY: 9000}, **params) == []
    assert changes(ti, 3, {DAILY: 1000}) == []


def test_load_without_new_files_is_not_compared(ti: TaskInstance) -> None:
    changes(ti, 1, {LOADED: 10, DAILY: 10})
    assert changes(ti, 2, {LOADED: 0, DAILY: 10}) == []
    assert changes(ti, 3, {LOADED: 9, DAILY: 10}) == []
    assert [node for node, _ in changes(ti, 4, {LOADED: 1, DAILY: 10})] == [LOADED]


def test_missing_history_does_not_prevent_the_report(ti: TaskInstance, caplog: pytest.LogCaptureFixture) -> None:
    ti.xcom_pull = None
    assert changes(ti, 1, {DAILY: 1000}) == []
    assert "could not be read" in caplog.text
