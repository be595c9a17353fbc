"""dbt_check reports every node and task that failed in dbt or Airflow, unless a retry passed."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk.execution_time.context import set_current_context
from conftest import TaskInstance

from mwaa_pipelines.compatibility import AirflowFailException, AirflowRescheduleException
from mwaa_pipelines.results import ERROR_KEY, LAST_WORDS_KEY, RESULTS_KEY
from mwaa_pipelines.run_outcome import ALERT_NODES, TABLE_ROWS, check_dbt, nodes_to_report
from mwaa_pipelines.task_ids import ALERT_TASK, SUCCESS_TASK

PRODUCER = "transform_data.dbt_producer_watcher"
AUDIT = "audit_dbt_task.audit_table_model_build"
TEST = "transform_data.departures.test"
DEPARTURES, WEATHER = "model.flights.departures", "model.flights.weather_delays"
HOOK = "operation.flights.flights-on-run-end-0"


class Reports:
    """A DAG run with hand-written dbt results and task states."""

    def __init__(self, dag: Any) -> None:
        self.dag, self.ti = dag, TaskInstance()
        self.check_task = SimpleNamespace(outlets=list(dag.get_task("dbt_check").outlets))
        self.tasks = {task.task_id: task for task in dag.tasks if "." in task.task_id}
        self.ti.states = dict.fromkeys(self.tasks, "success")
        self._invocations = 0

    def dbt(
        self,
        task_id: str,
        statuses: dict[str, str],
        *,
        state: str = "success",
        try_number: int = 1,
        is_complete: bool = True,
    ) -> None:
        self._invocations += 1
        self.ti.states[task_id] = state
        self.ti.xcoms[task_id, RESULTS_KEY] = {
            "invocation_id": f"invocation {self._invocations}",
            "generated_at": f"2026-01-01T00:00:{self._invocations:02}Z",
            "try_number": try_number,
            "is_complete": is_complete,
            "results": [
                {"unique_id": node, "status": status, "message": f"{status} of {node}", "execution_time": 1.0}
                for node, status in statuses.items()
            ],
        }

    def failed(self, task_id: str, message: str | None = None, try_number: int = 1) -> None:
        self.ti.states[task_id] = "failed"
        if message is not None:
            self.ti.xcoms[task_id, ERROR_KEY] = {"message": message, "try_number": try_number}

    def failures(self) -> list[tuple[str, str, str, int]]:
        nodes, *_ = nodes_to_report(self.ti, self.tasks, self.ti.states)
        return [(node["unique_id"], node["status"], node["message"], node["try_number"]) for node in nodes]


@pytest.fixture
def reports(dag: Any) -> Reports:
    return Reports(dag)


def test_run_without_failures_reports_nothing(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "success", WEATHER: "success", HOOK: "success", "test.flights.a": "warn"})
    assert reports.failures() == []


def test_failed_model_and_skipped_downstream_model_are_reported(reports: Reports) -> None:
    skipped_test = "test.flights.not_null_weather_delays"
    statuses = {WEATHER: "skipped", DEPARTURES: "error", skipped_test: "skipped", HOOK: "success"}
    reports.dbt(PRODUCER, statuses, state="failed")
    reports.failed("transform_data.departures.run", "dbt model 'departures' failed")
    reports.failed("transform_data.departures.test", "not run, because transform_data.departures.run failed")
    reports.ti.states[f"{PRODUCER}_done"] = "upstream_failed"
    assert reports.failures() == [
        (DEPARTURES, "error", f"error of {DEPARTURES}", 1),
        (WEATHER, "skipped", "not built: something it depends on failed", 1),
    ]


def test_failed_test_is_reported_with_dbts_message(reports: Reports, dag: Any) -> None:
    test = dag.get_task(PRODUCER).tests_per_model[DEPARTURES][0]
    reports.dbt(PRODUCER, {DEPARTURES: "success", test: "fail"}, state="failed")
    reports.failed("transform_data.departures.test", "tests failed")
    assert reports.failures() == [(test, "fail", f"fail of {test}", 1)]


def test_nodes_that_passed_on_a_retry_are_not_reported(reports: Reports, dag: Any) -> None:
    test = dag.get_task(PRODUCER).tests_per_model[DEPARTURES][0]
    reports.dbt(PRODUCER, {DEPARTURES: "error", test: "skipped", WEATHER: "skipped"}, state="failed")
    reports.ti.states[f"{PRODUCER}_done"] = "upstream_failed"
    reports.dbt("transform_data.departures.run", {DEPARTURES: "success", HOOK: "success"}, try_number=2)
    reports.dbt("transform_data.departures.test", {test: "pass", HOOK: "success"})
    reports.dbt("transform_data.weather_delays.run", {WEATHER: "success", HOOK: "success"})
    assert reports.failures() == []


def test_interrupted_dbt_is_reported_although_its_failed_node_passed_on_a_retry(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "error"}, state="failed", is_complete=False)
    reports.failed(PRODUCER, "dbt was stopped")
    reports.dbt("transform_data.departures.run", {DEPARTURES: "success"}, try_number=2)
    assert reports.failures() == [(PRODUCER, "failed", "dbt was stopped", 1)]


@pytest.mark.parametrize("is_lost", [True, False])
def test_nodes_that_their_tasks_built_after_dbt_was_lost_count_as_built(reports: Reports, is_lost: bool) -> None:
    reports.failed(PRODUCER, "lost")
    if not is_lost:
        reports.dbt(PRODUCER, {DEPARTURES: "success"}, state="failed", is_complete=False)
    reports.dbt("transform_data.weather_delays.run", {WEATHER: "success"})
    _, _, built = nodes_to_report(reports.ti, reports.tasks, reports.ti.states)
    assert set(built) == ({WEATHER} if is_lost else {DEPARTURES, WEATHER})


def test_node_that_failed_on_every_try_is_reported_once(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "error"}, state="failed")
    reports.dbt("transform_data.departures.run", {DEPARTURES: "runtime error"}, state="failed", try_number=3)
    assert reports.failures() == [(DEPARTURES, "runtime error", f"runtime error of {DEPARTURES}", 3)]


def test_failed_tasks_are_reported_if_dbt_wrote_no_results(reports: Reports) -> None:
    reports.failed(PRODUCER, "dbt command failed. The command returned a non-zero exit code 2.")
    reports.failed("transform_data.departures.run", "producer failed", 2)
    assert reports.failures() == [
        (PRODUCER, "failed", "dbt command failed. The command returned a non-zero exit code 2.", 1),
        ("transform_data.departures.run", "failed", "producer failed", 2),
    ]


def test_test_task_is_not_reported_if_its_model_task_failed(reports: Reports) -> None:
    for node in ("run", "test"):
        reports.failed(f"transform_data.departures.{node}", f"message of {node}", try_number=2)
    assert reports.failures() == [("transform_data.departures.run", "failed", "message of run", 2)]
    # The model was cleared alone since.
    reports.ti.states["transform_data.departures.run"] = "success"
    assert reports.failures() == [("transform_data.departures.test", "failed", "message of test", 2)]


def test_login_failure_is_reported_with_dbts_message(reports: Reports) -> None:
    reports.failed(PRODUCER, "dbt command failed. The command returned a non-zero exit code 2.")
    reports.ti.xcoms[PRODUCER, LAST_WORDS_KEY] = "Database Error FATAL: password authentication failed"
    assert reports.failures() == [(PRODUCER, "failed", "Database Error FATAL: password authentication failed", 1)]


def test_killed_dbt_is_reported_even_if_retries_built_the_models(reports: Reports) -> None:
    reports.failed(PRODUCER)
    reports.dbt("transform_data.departures.run", {DEPARTURES: "success"}, try_number=2)
    assert reports.failures() == [
        (PRODUCER, "failed", "ended without an error message, as when its worker is lost. See its log in Airflow", 1)
    ]


def test_failed_task_is_reported_even_if_its_node_passed(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "success"})
    reports.failed("transform_data.departures.run", "Timeout, PID: 7")
    assert reports.failures() == [("transform_data.departures.run", "failed", "Timeout, PID: 7", 1)]


def test_failed_hook_is_reported_even_if_a_later_hook_passed(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "error", HOOK: "error"}, state="failed")
    reports.dbt("transform_data.departures.run", {DEPARTURES: "success", HOOK: "success"}, try_number=2)
    assert reports.failures() == [(HOOK, "error", f"error of {HOOK}", 1)]


def test_failed_audit_task_is_reported_without_downstream_tasks(reports: Reports) -> None:
    reports.ti.states = dict.fromkeys(reports.tasks, "upstream_failed")
    reports.failed(AUDIT, "startup.sh: FAILED, pip could not install dbt")
    assert reports.failures() == [(AUDIT, "failed", "startup.sh: FAILED, pip could not install dbt", 1)]


def check(reports: Reports, *, alerts: bool = True, warnings: str = "ignore") -> list[str]:
    dag_run = SimpleNamespace(run_id="run", logical_date=None, run_after=datetime(2026, 1, 1, tzinfo=UTC))
    context: Any = {"ti": reports.ti, "dag_run": dag_run, "dag": reports.dag, "task": reports.check_task}
    with set_current_context(context):
        return check_dbt("20260101T000000Z-aaaaaaa", alerts, warnings)


def test_failure_of_a_teams_own_task_is_reported(reports: Reports) -> None:
    load_sources = SimpleNamespace(task_id="load_sources")
    tasks = {**reports.tasks, "load_sources": load_sources}
    check_task = SimpleNamespace(get_flat_relative_ids=lambda upstream: set(tasks))
    reports.dag = SimpleNamespace(get_task=lambda task_id: {**tasks, "dbt_check": check_task}[task_id])
    reports.ti.states = dict.fromkeys(reports.tasks, "upstream_failed")
    reports.failed("load_sources", "no such file")
    with pytest.raises(
        AirflowFailException, match=r"1 failed or skipped:\nload_sources \(failed, try 1\): no such file"
    ):
        check(reports)


def alert(reports: Reports) -> dict[str, Any]:
    return json.loads(reports.ti.xcoms["dbt_check", "alert"])


def test_successful_run_sends_no_alert(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "success"})
    assert check(reports) == [SUCCESS_TASK]
    assert ("dbt_check", "alert") not in reports.ti.xcoms


def test_run_updates_the_asset_of_a_public_model_only_if_it_built_the_model(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "success"})
    outlets = reports.check_task.outlets
    assert [asset.name for asset in outlets] == ["flights.daily_performance"]
    check(reports)
    assert reports.check_task.outlets == []
    reports.check_task.outlets = outlets
    reports.dbt(PRODUCER, {DEPARTURES: "success", "model.flights.daily_performance": "success"})
    check(reports)
    assert reports.check_task.outlets == outlets


def test_missing_audit_trail_is_logged_once(reports: Reports, caplog: pytest.LogCaptureFixture) -> None:
    check(reports)
    assert "audit trail" not in caplog.text
    tasks = {task_id: task for task_id, task in reports.dag.task_dict.items() if task_id != AUDIT}
    tasks["audit_dbt_task.no_audit_trail"] = EmptyOperator(task_id="no_audit_trail")
    check_task = SimpleNamespace(get_flat_relative_ids=lambda upstream: set(tasks))
    reports.dag = SimpleNamespace(get_task=lambda task_id: {**tasks, "dbt_check": check_task}[task_id])
    assert check(reports) == [SUCCESS_TASK]
    assert caplog.text.count("This run wrote no audit rows") == 1
    assert "list the package audit_trail in the project's packages.yml" in caplog.text


def test_check_logs_a_table_of_the_nodes_to_look_at(reports: Reports, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reports.dbt(PRODUCER, {**{f"model.flights.m{number}": "success" for number in range(30)}, "test.flights.a": "warn"})
    reports.ti.xcoms[PRODUCER, RESULTS_KEY]["results"][7] |= {"execution_time": 90.5, "rows": 1234}
    check(reports)
    (table,) = [message for message in caplog.messages if "success" in message]
    lines = table.splitlines()
    assert lines[:4] == [
        "30 success, 1 warn",
        "status          seconds      rows  node",
        "warn                1.0            test.flights.a",
        "success            90.5      1234  model.flights.m7",
    ]
    assert (len(lines), lines[-1]) == (TABLE_ROWS + 3, "... and 11 faster ones")


def test_failure_alert_names_nodes_release_and_log(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "error", "test.flights.a": "warn"}, state="failed")
    with pytest.raises(AirflowFailException, match=rf"^1 failed or skipped:\n{DEPARTURES} \(error, try 1\): error of"):
        check(reports)
    entry = {"try_number": 1, "execution_time": 1.0}
    assert alert(reports) == {
        "dag_name": "flights_pipeline",
        "run_id": "run",
        "logical_date": None,
        "release_id": "20260101T000000Z-aaaaaaa",
        "log_url": "http://airflow/log",
        "status": "failed",
        "failed": [{"unique_id": DEPARTURES, "status": "error", "message": f"error of {DEPARTURES}", **entry}],
        "warned": [{"unique_id": "test.flights.a", "status": "warn", "message": "warn of test.flights.a", **entry}],
        "again": False,
        "last_success": None,
    }


def test_failure_alert_is_sent_even_if_earlier_runs_are_unknown(reports: Reports) -> None:
    def fails(**_: Any) -> None:
        raise RuntimeError("the API server is gone")

    reports.ti.get_dr_count = fails
    reports.dbt(PRODUCER, {DEPARTURES: "error"}, state="failed")
    with pytest.raises(AirflowFailException, match="1 failed or skipped"):
        check(reports)
    assert [node["unique_id"] for node in alert(reports)["failed"]] == [DEPARTURES]
    assert "again" not in alert(reports)
    reports.dbt(PRODUCER, {DEPARTURES: "success"})
    assert check(reports) == [SUCCESS_TASK]


def test_recovered_run_sends_an_alert(reports: Reports) -> None:
    # The run was cleared after it failed.
    reports.ti.try_number = 2
    reports.dbt(PRODUCER, {DEPARTURES: "success"})
    assert check(reports) == [SUCCESS_TASK, ALERT_TASK]
    assert (alert(reports)["status"], alert(reports)["failed"]) == ("recovered", [])
    assert check(reports, alerts=False) == [SUCCESS_TASK]


def test_warning_sends_an_alert_only_if_the_pipeline_asks_for_alerts(reports: Reports) -> None:
    reports.dbt(PRODUCER, {DEPARTURES: "success", "test.flights.a": "warn"})
    assert check(reports, warnings="ignore") == [SUCCESS_TASK]
    assert ("dbt_check", "alert") not in reports.ti.xcoms
    assert check(reports, warnings="alert") == [SUCCESS_TASK, ALERT_TASK]
    assert alert(reports)["status"] == "warned"
    assert [node["unique_id"] for node in alert(reports)["warned"]] == ["test.flights.a"]
    assert check(reports, alerts=False, warnings="alert") == [SUCCESS_TASK]


def test_warning_that_passed_on_a_retry_sends_no_alert(reports: Reports, dag: Any) -> None:
    test = dag.get_task(PRODUCER).tests_per_model[DEPARTURES][0]
    other = dag.get_task(PRODUCER).tests_per_model[DEPARTURES][1]
    reports.dbt(PRODUCER, {DEPARTURES: "success", test: "warn", other: "fail"}, state="failed")
    reports.dbt("transform_data.departures.test", {test: "pass", other: "pass"}, try_number=2)
    assert check(reports, warnings="alert") == [SUCCESS_TASK]


def test_alert_about_500_failures_fits_into_a_lambda_payload(reports: Reports) -> None:
    names = {f"model.flights.größe_{number}_{'x' * 200}": "error" for number in range(500)}
    reports.dbt(PRODUCER, names, state="failed")
    for result in reports.ti.xcoms[PRODUCER, RESULTS_KEY]["results"]:
        result["message"] = "größer 寿司 " * 50
    with pytest.raises(AirflowFailException) as raised:
        check(reports)
    lines = str(raised.value).splitlines()
    assert lines[0] == "500 failed or skipped:"
    assert lines[-1] == "... and 300 more"
    assert len(lines) == ALERT_NODES + 2
    alert = reports.ti.xcoms["dbt_check", "alert"]
    assert len(json.loads(alert)["failed"]) == ALERT_NODES
    # A synchronous invocation of Lambda accepts 6 MB.
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    assert len(alert.encode()) < 6_000_000


def render(reports: Reports) -> Any:
    task = reports.dag.get_task("sns_notification_for_failure")
    context = {"ti": reports.ti, "dag": reports.dag, "run_id": "run"}
    return json.loads(task.render_template(task.payload, context))


def test_alert_payload_is_the_xcom_of_dbt_check(reports: Reports) -> None:
    awkward = "{{ 1 }} größer \\ \" ' </script> \u2028"
    reports.ti.xcoms["dbt_check", "alert"] = json.dumps({"dag_name": "flights_pipeline", "failed": awkward})
    assert render(reports) == {"dag_name": "flights_pipeline", "failed": awkward}


def test_alert_without_a_check_result_names_dag_and_run(reports: Reports) -> None:
    assert render(reports) == {"dag_name": "flights_pipeline", "run_id": "run"}


def test_check_waits_for_sensors_that_have_not_ended(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwaa_pipelines.run_outcome._SECONDS_BETWEEN_LOOKS", 0.01)
    ended = dict(reports.ti.states)
    states = [{**ended, TEST: "deferred"}, {**ended, TEST: "up_for_retry"}, ended]
    monkeypatch.setattr(reports.ti, "get_task_states", lambda run_ids, **_: {run_ids[0]: states.pop(0)})
    assert check(reports) == [SUCCESS_TASK]
    assert states == []
    monkeypatch.setattr(reports.ti, "get_task_states", lambda run_ids, **_: {run_ids[0]: {**ended, TEST: "deferred"}})
    with pytest.raises(AirflowRescheduleException):
        check(reports)


def test_tasks_that_were_not_run_are_explained_by_the_failed_task(reports: Reports) -> None:
    """All sensors start at once, so they fail when what they need has failed."""
    sensors = [task_id for task_id, task in reports.tasks.items() if hasattr(task, "producer_task_id")]
    reports.ti.states = {**dict.fromkeys(reports.tasks, "upstream_failed"), **dict.fromkeys(sensors, "failed")}
    reports.failed(AUDIT, "pip could not install dbt")
    assert reports.failures() == [(AUDIT, "failed", "pip could not install dbt", 1)]
