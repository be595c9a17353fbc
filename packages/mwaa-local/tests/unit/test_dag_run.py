"""The output at the end of `make run`."""

from dataclasses import replace
from pathlib import Path

import pytest

from mwaa_local.dag_run import Outcome, show

COLUMNS = ["name", "resource_type", "status", "execution_time", "rows_affected", "message"]
TASKS = [
    {"task_id": "transform_data.orders.run", "state": "success", "try_number": 1, "start_date": None, "end_date": None},
    {"task_id": "dbt_check", "state": "success", "try_number": 1, "start_date": None, "end_date": None},
]
OUTCOME = Outcome(
    dag_id="shop_pipeline",
    run_id="manual__1",
    state="success",
    wall_seconds=41.6,
    tasks=TASKS,
    audit_columns=COLUMNS,
    audit_rows=[(f"model_{n}", "model", "success", n / 2, 1000, None) for n in range(8)],
    alerts=[],
)


def test_summary_has_numbers_and_the_slowest_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    show(OUTCOME, Path("logs"))
    assert capsys.readouterr().out.splitlines() == [
        "Tasks: 2 success",
        "Audit rows of this run: 8 success",
        "Slowest: model_7 3.50 s, model_6 3.00 s, model_5 2.50 s, model_4 2.00 s, model_3 1.50 s",
        "Alerts: none",
        "Run manual__1: success in 42 s",
    ]


def test_summary_has_the_duration_of_the_audit_trail(capsys: pytest.CaptureFixture[str]) -> None:
    show(replace(OUTCOME, dbt_seconds=30.6), Path("logs"))
    assert capsys.readouterr().out.splitlines()[-1] == "Run manual__1: success in 42 s, dbt's nodes in 31 s"


def test_summary_says_what_was_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    show(replace(OUTCOME, loaded=(5, 367687)), Path("logs"))
    assert capsys.readouterr().out.splitlines()[1] == "Loaded: 5 new files, 367,687 rows"


def test_verbose_output_has_every_task_and_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(OUTCOME, Path("logs"), verbose=True)
    output = capsys.readouterr().out
    for text in ("transform_data.orders.run", "model_0", "1,000", "Run manual__1: success in 42 s"):
        assert text in output


def test_failures_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    failing = ("orders", "model", "error", None, None, "column [x] does not exist")
    tasks = [*TASKS, {**TASKS[0], "task_id": "transform_data.orders.test", "state": "failed"}]
    alert = {"subject": "FAILED shop_pipeline: model.shop.orders", "message": "column [x] does not exist"}
    show(replace(OUTCOME, state="failed", tasks=tasks, audit_rows=[failing], alerts=[alert]), Path("logs"))
    output = capsys.readouterr().out
    for text in (
        "Tasks: 2 success, 1 failed",
        "error orders: column [x] does not exist",
        "FAILED shop_pipeline: model.shop.orders",
        "Failed: transform_data.orders.test",
        "Logs: logs/tasks/dag_id=shop_pipeline/run_id=manual__1",
        "Run manual__1: failed in 42 s",
    ):
        assert text in output


def test_run_without_audit_rows_has_a_summary_too(capsys: pytest.CaptureFixture[str]) -> None:
    show(replace(OUTCOME, audit_columns=[], audit_rows=[]), Path("logs"))
    assert "Audit rows of this run: none\nAlerts: none\n" in capsys.readouterr().out
