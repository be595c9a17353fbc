"""The end of a run, and the output of `make run`."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mwaa_local.dag_run import Outcome, show, wait_for_end
from mwaa_local.mwaa import api
from mwaa_local.mwaa.api import Airflow, NoAnswerError
from mwaa_local.settings import SetupError
from mwaa_local.testing.fake_airflow import serving
from mwaa_pipelines.release import release_tag

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


class BrokenAirflow:
    """Airflow after a DAG file broke: the run stays queued until a client marks it failed."""

    def __init__(self, error_age: timedelta) -> None:
        self.state = "queued"
        self.parse_requests = 0
        self._error_at = datetime.now(UTC) - error_age

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "PUT":
            # The file is parsed again, which sets the time of its error.
            self.parse_requests += 1
            self._error_at = datetime.now(UTC)
            return 201, None
        if method == "PATCH":
            self.state = body.get("state", self.state)
            return 200, {}
        if "taskInstances" in path:
            return 200, {"task_instances": [], "total_entries": 0}
        if path.endswith("/importErrors"):
            trace = 'Traceback\n  File "/x/dags/pipelines.py", line 9\n    def (:\nSyntaxError: invalid syntax\n'
            error = {"filename": "pipelines.py", "stack_trace": trace, "timestamp": self._error_at.isoformat()}
            return 200, {"import_errors": [error]}
        if path.endswith("/dagRuns/manual__1"):
            return 200, {"state": self.state}
        if "/dagRuns?" in path:
            return 200, {"dag_runs": [{"dag_run_id": "manual__1"}]}
        return 200, {"has_import_errors": True, "is_stale": True, "file_token": "token"}


@pytest.mark.parametrize("error_age", [timedelta(0), timedelta(hours=1)], ids=["new error", "error of an earlier file"])
def test_run_whose_dag_file_broke_ends_with_its_error(error_age: timedelta) -> None:
    broken = BrokenAirflow(error_age)
    with (
        serving(broken.answer) as port,
        contextlib.closing(Airflow(port, "x")) as airflow,
        pytest.raises(SetupError) as raised,
    ):
        wait_for_end(airflow, "shop_pipeline", "manual__1", lambda _: None, lambda: None)
    assert str(raised.value) == (
        "Airflow cannot import a DAG file\n"
        'pipelines.py: SyntaxError: invalid syntax\n    File "/x/dags/pipelines.py", line 9\n'
        "Correct dags/, then run the command again"
    )
    assert (broken.state, broken.parse_requests) == ("failed", 1)


def test_dag_file_that_was_corrected_is_parsed_before_the_run() -> None:
    broken = BrokenAirflow(timedelta(hours=1))

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        # Airflow keeps the release and the error of the earlier parse until it parses the corrected file.
        is_broken = not broken.parse_requests
        if path.endswith("/details"):
            dag = {"has_import_errors": is_broken, "is_stale": is_broken, "file_token": "token"}
            return 200, {**dag, "doc_md": "Release: release", "tags": [{"name": release_tag("release")}]}
        return broken.answer(method, path, body) if is_broken else (200, {"import_errors": []})

    with serving(answer) as port, contextlib.closing(Airflow(port, "x")) as airflow:
        airflow.wait_for_dag("shop_pipeline", "release", 10)
    assert broken.parse_requests == 1


def test_reads_are_repeated_after_a_server_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_SECONDS_BETWEEN_ATTEMPTS", 0.0)
    calls: list[str] = []
    statuses = iter([500, 200, 500, 500, 500, 500])

    def answer(method: str, _path: str, _body: object) -> tuple[int, object]:
        calls.append(method)
        return next(statuses), {"state": "success"}

    with serving(answer) as port:
        airflow = Airflow(port, "x")
        assert airflow.call("GET", "/dags/one") == {"state": "success"}
        with pytest.raises(NoAnswerError, match="500"):
            airflow.call("POST", "/dags/one/dagRuns")
        with pytest.raises(NoAnswerError, match="500"):
            airflow.call("GET", "/dags/one")
        airflow.close()
    assert calls == ["GET", "GET", "POST", "GET", "GET", "GET"]
