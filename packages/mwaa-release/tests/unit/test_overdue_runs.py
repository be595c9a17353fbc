"""Overdue runs: the schedules agree with croniter, and each missed run is reported once."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from croniter import CroniterBadDateError, croniter
from dateutil import tz
from hypothesis import assume, given
from hypothesis import strategies as st

from mwaa_release import overdue_runs
from mwaa_release.overdue_runs import MEMORY, SCHEDULES, CheckError, lambda_handler, latest_before
from mwaa_release.schedules import expand, write_schedules

# --- the arithmetic of schedules ---


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """Return a strategy for one field of a cron expression."""
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(2, 9).map(lambda step: f"*/{step}"),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.lists(number, min_size=2, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
    )


days_and_weekdays = st.one_of(
    st.tuples(field(1, 31), field(0, 6)),
    st.tuples(st.just("l"), field(0, 6)),
    st.tuples(st.just("*"), st.sampled_from(["mon-fri", "sun", "7", "1#2", "fri#5", "1#1,3#3", "L5", "L0"])),
)
expressions = st.one_of(
    st.sampled_from(["@hourly", "@daily", "@weekly", "@monthly", "@yearly"]),
    st.builds(
        lambda minute, hour, days, month: f"{minute} {hour} {days[0]} {month} {days[1]}",
        *(field(0, 59), field(0, 23), days_and_weekdays, field(1, 12)),
    ),
)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2033, 1, 1)).map(lambda moment: moment.replace(microsecond=1))


def pipeline(expression: str, **settings: Any) -> dict[str, Any]:
    entry = {"timezone": "UTC", "start_date": "2015-01-01", "cron": expand(expression), "assets": []}
    login = {"function_name": "notify", "secret_name": "login", "database": "dev", "schema": "analytics"}
    return {"dag_name": "flights", "overdue_minutes": 60, **entry, **login, **settings}


@given(expressions, moments)
def test_latest_scheduled_time_is_that_of_croniter(expression: str, moment: datetime) -> None:
    try:
        expected = croniter(expression, moment).get_prev(datetime)
    except CroniterBadDateError:
        # Such as 31 February.
        assume(False)
    assume(expected.year > 2015)
    assert latest_before(pipeline(expression), moment.replace(tzinfo=UTC)) == expected.replace(tzinfo=UTC)


@given(
    expressions,
    st.dates(date(2026, 1, 1), date(2033, 1, 1)),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]),
)
def test_scheduled_times_are_in_the_time_zone_of_the_pipeline(expression: str, day: date, name: str) -> None:
    # No clock changes around noon.
    noon, zone = datetime(day.year, day.month, day.day, 12, 0, 0, 1), tz.gettz(name)
    try:
        expected = croniter(expression, noon).get_prev(datetime)
    except CroniterBadDateError:
        assume(False)
    assume(expected.year > 2015 and tz.datetime_exists(expected, zone) and not tz.datetime_ambiguous(expected, zone))
    scheduled = latest_before(pipeline(expression, timezone=name), noon.replace(tzinfo=zone).astimezone(UTC))
    assert scheduled == expected.replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("zone", "expression", "day", "expected"),
    [
        # The clocks skip 02:30, so Airflow's run is at 03:30 summer time.
        ("Europe/Berlin", "30 2 * * *", "2026-03-29", "2026-03-29T01:30"),
        ("America/New_York", "30 2 * * *", "2026-03-08", "2026-03-08T07:30"),
        # 02:30 and 01:30 occur twice. Airflow's run is at the second one.
        ("Europe/Berlin", "30 2 * * *", "2026-10-25", "2026-10-25T01:30"),
        ("America/New_York", "30 1 * * *", "2026-11-01", "2026-11-01T06:30"),
        # The days before have another offset.
        ("Europe/Berlin", "0 6 * * *", "2026-03-28", "2026-03-28T05:00"),
        ("Europe/Berlin", "0 6 * * *", "2026-03-29", "2026-03-29T04:00"),
    ],
)
def test_changes_of_the_clocks_count_as_in_airflow(zone: str, expression: str, day: str, expected: str) -> None:
    evening = datetime.fromisoformat(f"{day}T20:00:00+00:00")
    assert latest_before(pipeline(expression, timezone=zone), evening) == datetime.fromisoformat(f"{expected}:00+00:00")


def test_nothing_is_scheduled_before_the_start_date() -> None:
    entry = pipeline("0 6 * * *", start_date="2026-03-02", timezone="Europe/Berlin")
    assert latest_before(entry, datetime(2026, 3, 2, 4, 59, tzinfo=UTC)) is None
    assert latest_before(entry, datetime(2026, 3, 2, 5, tzinfo=UTC)) == datetime(2026, 3, 2, 5, tzinfo=UTC)


# --- the schedules of a release ---

PIPELINES = """
defaults: {schedule: "0 6 * * 1-5", target_database: dev, target_schema: analytics, sns_lambda_function_name: notify}
pipelines:
  - {dag_name: one, project_name: one, redshift_connection_id: one, secret_name: one, timezone: Europe/Berlin,
     environments: {dev: {schedule: null}, prod: {overdue_minutes: 30}}}
  - {dag_name: after, project_name: one, redshift_connection_id: two, secret_name: two, schedule: [one]}
  - {dag_name: outside, project_name: one, redshift_connection_id: three, secret_name: three, schedule: ["external:x"]}
  - {dag_name: quiet, project_name: one, redshift_connection_id: four, secret_name: four,
     sns_lambda_function_name: null}
  - {dag_name: iam, project_name: one, redshift_connection_id: five}
  - {dag_name: after_iam, project_name: one, redshift_connection_id: six, secret_name: six, schedule: [iam]}
  - {dag_name: unaudited, project_name: other, redshift_connection_id: seven, secret_name: seven}
  - {dag_name: solo, project_name: solo, redshift_connection_id: nine, secret_name: nine}
  - {dag_name: mart, project_name: one, redshift_connection_id: ten, secret_name: ten,
     schedule: [solo.orders, solo.items]}
  - {dag_name: unclear, project_name: solo_one, redshift_connection_id: eleven, secret_name: eleven,
     schedule: [one.orders]}
  - {dag_name: nearest, project_name: one, redshift_connection_id: eight, secret_name: eight, schedule: "0 0 15W * *"}
"""


def test_schedules_are_those_of_each_environment(tmp_path: Path) -> None:
    (tmp_path / "pipelines.yml").write_text(PIPELINES)
    write_schedules(tmp_path, {"other"})
    schedules = json.loads((tmp_path / "schedules.json").read_text())
    assert list(schedules) == ["dev", "prod"]
    dev, prod = ({entry["dag_name"]: entry for entry in entries} for entries in schedules.values())
    checked, unchecked = ("one", "after", "solo", "mart"), ("outside", "quiet", "after_iam", "nearest", "unclear")
    assert set(dev) == set(prod) == {*checked, *unchecked}
    assert (dev["one"]["cron"], dev["one"]["overdue_minutes"]) == (None, 120)
    one = prod["one"]
    assert (one["overdue_minutes"], one["timezone"], one["schema"]) == (30, "Europe/Berlin", "analytics")
    assert one["cron"] == expand("0 6 * * 1-5")
    assert one["cron"]["weekdays"] == [1, 2, 3, 4, 5]
    assert (prod["after"]["assets"], prod["mart"]["assets"]) == (["one"], ["solo"])
    assert {name: (prod[name]["cron"], prod[name]["assets"]) for name in unchecked} == dict.fromkeys(
        unchecked, (None, [])
    )


# --- alerts ---

NOW = datetime(2026, 11, 30, 9, tzinfo=UTC)


class Account:
    """The services that the function calls, with the successful runs of each pipeline: when they started and ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *pipelines: dict[str, Any]) -> None:
        self.objects = {SCHEDULES: json.dumps({"": pipelines}).encode()}
        self.runs: dict[str, list[tuple[datetime, datetime]]] = {}
        self.error, self.queries, self.alerts, self.refuses_alerts = "", [], [], False
        self.now = NOW
        account = self

        class Clock(datetime):
            @classmethod
            def now(cls, _zone: Any = None) -> datetime:
                return account.now

        monkeypatch.setattr(overdue_runs, "datetime", Clock)
        monkeypatch.setattr(overdue_runs, "_client", lambda _service: self)
        monkeypatch.setenv("BUCKET", "bucket")
        monkeypatch.setenv("PIPELINES_ENVIRONMENT", "")
        monkeypatch.setenv("WAREHOUSE", '{"WorkgroupName": "one"}')

    def check(self, minutes: int = 0) -> list[str]:
        """Check the pipelines some minutes later. Return the alerts that were sent."""
        self.now += timedelta(minutes=minutes)
        self.alerts.clear()
        lambda_handler({}, None)
        return [f"{alert['status']} {alert['dag_name']}" for alert in self.alerts]

    def succeed(self, name: str, ended_minutes_ago: int = 0) -> None:
        """Let a run of 5 minutes succeed."""
        ended = self.now - timedelta(minutes=ended_minutes_ago)
        self.runs.setdefault(name, []).append((ended - timedelta(minutes=5), ended))

    def get_object(self, Key: str, **_: str) -> dict[str, Any]:  # noqa: N803 - boto3's parameter
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key]), "ETag": str(hash(self.objects[Key]))}

    def put_object(self, Key: str, Body: bytes, **condition: str) -> dict[str, str]:  # noqa: N803
        stored = self.objects.get(Key)
        assert condition == (
            {"IfMatch": str(hash(stored)), "Bucket": "bucket"} if stored else {"IfNoneMatch": "*", "Bucket": "bucket"}
        )
        self.objects[Key] = Body
        return {"ETag": str(hash(Body))}

    def execute_statement(self, Parameters: list[dict[str, str]], Sql: str, **_: str) -> dict[str, str]:  # noqa: N803
        values = {parameter["name"]: parameter["value"] for parameter in Parameters}
        assert set(values) == {"dag_name", "after"}
        self.queries.append(values["dag_name"])
        assert '"analytics".audit_runs' in Sql
        return {"Id": json.dumps(values)}

    def describe_statement(self, **_: str) -> dict[str, str]:
        return {"Status": "FAILED", "Error": self.error} if self.error else {"Status": "FINISHED"}

    def get_statement_result(self, Id: str) -> dict[str, Any]:  # noqa: N803
        values = json.loads(Id)
        after = datetime.fromisoformat(values["after"]).replace(tzinfo=UTC)
        runs = [run for run in self.runs.get(values["dag_name"], []) if run[1] > after]
        row = (min(run[1] for run in runs), max(run[0] for run in runs)) if runs else (None, None)
        return {
            "Records": [[{"stringValue": f"{time:%Y-%m-%d %H:%M:%S}"} if time else {"isNull": True} for time in row]]
        }

    def invoke(self, FunctionName: str, Payload: str) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "notify"
        if self.refuses_alerts:
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(b"no topic")}
        self.alerts.append(json.loads(Payload))
        return {}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account with one pipeline, due at 06:00 and overdue at 07:00, which earlier checks know."""
    account = Account(monkeypatch, pipeline("0 6 * * *"))
    account.objects[MEMORY] = json.dumps({"flights": {"known_since": "2026-11-01T00:00:00+00:00"}}).encode()
    return account


def test_each_missed_run_is_reported_once(account: Account) -> None:
    assert account.check() == ["overdue flights"]
    (alert,) = account.alerts
    assert alert == {
        "dag_name": "flights",
        "status": "overdue",
        "logical_date": "2026-11-30T06:00:00+00:00",
        "last_success": None,
        "deadline_minutes": 60,
    }
    assert [account.check(15) for _ in range(4)] == [[]] * 4
    # 06:59 and 07:00 on the next day.
    assert account.check(20 * 60 + 59) == []
    assert account.check(1) == ["overdue flights"]


def test_success_after_the_alert_is_reported_once(account: Account) -> None:
    account.check()
    account.succeed("flights")
    assert account.check(15) == ["recovered flights"]
    assert account.check(15) == []


def test_run_of_the_day_before_is_not_enough(account: Account) -> None:
    account.succeed("flights", 24 * 60)
    assert account.check() == ["overdue flights"]
    assert account.alerts[0]["last_success"] == "2026-11-29T08:55:00+00:00"


def test_warehouse_is_queried_once_for_each_run_that_succeeded(account: Account) -> None:
    account.succeed("flights")
    for _ in range(80):
        assert account.check(15) == []
    assert account.queries == ["flights"]
    account.succeed("flights")
    assert account.check(12 * 60) == ["overdue flights"]


def test_new_pipeline_has_time_for_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(monkeypatch, pipeline("0 6 * * *"))
    assert account.check() == []
    assert account.check(59) == []
    assert account.queries == []
    assert account.check(1) == ["overdue flights"]


@pytest.mark.parametrize(
    "error", ['ERROR: relation "analytics.audit_runs" does not exist', 'ERROR: schema "a" does not exist']
)
def test_missing_audit_trail_means_that_no_run_succeeded(account: Account, error: str) -> None:
    account.error = error
    assert account.check() == ["overdue flights"]


def test_failed_query_is_an_error_and_no_alert(account: Account) -> None:
    account.error = "ERROR: permission denied for relation audit_runs"
    with pytest.raises(CheckError, match=r"flights: RuntimeError: the query .* FAILED: ERROR: permission denied"):
        account.check()
    assert account.alerts == []


def test_alert_that_could_not_be_sent_is_sent_by_the_next_check(account: Account) -> None:
    account.refuses_alerts = True
    with pytest.raises(CheckError, match="the function notify failed: no topic"):
        account.check()
    account.refuses_alerts = False
    assert account.check(15) == ["overdue flights"]


def test_problem_with_one_pipeline_does_not_hide_another(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(monkeypatch, pipeline("0 6 * * *", dag_name="bad", cron={}), pipeline("0 6 * * *"))
    old = {"known_since": "2026-11-01T00:00:00+00:00"}
    account.objects[MEMORY] = json.dumps({"bad": old, "flights": old}).encode()
    account.objects[SCHEDULES] = account.objects[SCHEDULES].replace(b'"cron": {}', b'"cron": {"minutes": []}')
    with pytest.raises(CheckError, match=r"^bad: KeyError"):
        account.check()
    assert [alert["dag_name"] for alert in account.alerts] == ["flights"]


def test_check_that_is_killed_does_not_repeat_its_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(monkeypatch, *(pipeline("0 6 * * *", dag_name=name) for name in ("one", "two")))
    old = {"known_since": "2026-11-01T00:00:00+00:00"}
    account.objects[MEMORY] = json.dumps({"one": old, "two": old}).encode()
    send = overdue_runs._send

    def send_or_die(entry: dict[str, Any], status: str, **more: Any) -> None:
        if entry["dag_name"] == "two":
            raise KeyboardInterrupt
        send(entry, status, **more)

    with monkeypatch.context() as patch:
        patch.setattr(overdue_runs, "_send", send_or_die)
        with pytest.raises(KeyboardInterrupt):
            account.check()
    assert [alert["dag_name"] for alert in account.alerts] == ["one"]
    assert account.check(15) == ["overdue two"]


def test_pipeline_without_schedule_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(monkeypatch, pipeline("0 6 * * *", cron=None))
    assert [account.check(24 * 60) for _ in range(3)] == [[]] * 3
    assert account.queries == []


def test_pipeline_is_overdue_after_the_success_of_all_its_upstream_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [pipeline("0 6 * * *", dag_name=name, cron=None) for name in ("one", "two")]
    account = Account(monkeypatch, *entries, pipeline("0 6 * * *", cron=None, assets=["one", "two"]))
    account.check()
    account.succeed("flights", 200)
    account.succeed("one", 100)
    account.succeed("two", 300)
    # The second upstream pipeline has not succeeded since the last run.
    assert account.check(90) == []
    account.succeed("two")
    assert account.check(59) == []
    # The upstream pipelines go on, which does not hide the missed run.
    account.succeed("one")
    account.succeed("two")
    assert account.check(61) == ["overdue flights"]
    assert account.alerts[0]["logical_date"] == "2026-11-30T10:30:00+00:00"
    assert account.check(15) == []
    account.succeed("flights")
    assert account.check(15) == ["recovered flights"]


def test_unknown_environment_is_an_error_that_lists_the_known_ones(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_ENVIRONMENT", "prd")
    with pytest.raises(CheckError, match=r"^PIPELINES_ENVIRONMENT: 'prd' is not one of '' in dags/schedules.json"):
        account.check()
