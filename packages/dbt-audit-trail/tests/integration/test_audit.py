"""Every result of every invocation becomes one row of the audit table."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FIRST_TEN = [
    "load_id",
    "invocation_id",
    "database_name",
    "schema_name",
    "name",
    "resource_type",
    "status",
    "execution_time",
    "rows_affected",
    "model_execution_date",
]
AIRFLOW = {
    "AIRFLOW_CTX_DAG_ID": "flights_pipeline",
    "AIRFLOW_CTX_DAG_RUN_ID": "manual__2026-11-24",
    "AIRFLOW_CTX_TASK_ID": "transform_data.it's",
    "AIRFLOW_CTX_TRY_NUMBER": "2",
    "AIRFLOW_CTX_LOGICAL_DATE": "2026-11-24T01:30:00+02:00",
    "AIRFLOW_CTX_LOG_URL": "https://airflow.example.com/log?try=2",
    "DBT_RELEASE_ID": "20261124T090000Z-abc1234",
}


def assert_same(rows: list[dict], finished) -> dict[str, dict]:
    """Assert that the rows equal the results that dbt reported; return them by unique_id."""
    actual = {row["unique_id"]: row for row in rows}
    assert len(actual) == len(rows)
    assert actual.keys() == finished.nodes.keys()
    for unique_id, result in finished.nodes.items():
        row = actual[unique_id]
        assert row["load_id"] == f"{finished.invocation_id}.{unique_id}"
        assert row["status"] == result["status"]
        assert row["execution_time"] == pytest.approx(result["execution_time"])
        assert row["failures"] == result["failures"]
        assert row["message"] == result["message"]
        assert row["thread_id"] == result["thread_id"]
        # dbt reports no relation for nodes that it does not compile, such as seeds.
        assert row["relation_name"] == result["relation_name"] or result["relation_name"] is None
        times = [step["started_at"] for step in result["timing"]] + [step["completed_at"] for step in result["timing"]]
        expected = [datetime.fromisoformat(time).replace(tzinfo=None) for time in times]
        assert row["started_at"] == (min(expected) if expected else None)
        assert row["completed_at"] == (max(expected) if expected else None)
    return actual


def test_every_result_of_a_build_has_an_audit_row(built, database):
    rows = assert_same(database.audit_rows(built.invocation_id), built)
    kinds = {row["resource_type"] for row in rows.values()}
    assert {"model", "test", "seed", "snapshot", "unit_test", "exposure"} <= kinds
    # The invocation that creates the table also records it.
    assert rows["model.audit_trail.audit_table"]["status"] == "success"
    mart = rows["model.flights.carriers"]
    assert (mart["database_name"], mart["schema_name"], mart["name"]) == ("dev", "analytics", "carriers")
    assert (mart["materialization"], mart["owner"]) == ("table", "analytics-engineering")
    assert json.loads(mart["tags"]) == ["mart"]
    assert json.loads(mart["depends_on"]) == ["model.flights.stg_airlines"]
    assert (mart["dbt_command"], mart["target_name"], mart["full_refresh"]) == ("build", "prod", False)
    assert mart["model_execution_date"] == datetime.now(UTC).date()
    assert mart["airflow_dag_id"] is None
    assert mart["release_id"] is None
    # A view has no number of rows.
    assert rows["model.flights.stg_airlines"]["rows_affected"] is None
    assert (
        rows["test.flights.unique_carriers_carrier_code." + _hash(rows, "unique_carriers_carrier_code")]["failures"]
        == 0
    )


def _hash(rows, name):
    return next(unique_id for unique_id, row in rows.items() if row["name"] == name).rsplit(".", 1)[1]


def test_first_ten_columns_have_fixed_positions(built, database):
    columns = database.run(
        "select column_name from information_schema.columns"
        " where table_schema = 'analytics' and table_name = 'audit_table' order by ordinal_position"
    )
    assert [name for (name,) in columns][:10] == FIRST_TEN


def test_full_refresh_keeps_the_rows(built, dbt, database):
    before = database.run("select count(*) from analytics.audit_table")[0][0]
    again = dbt("build", "--full-refresh", "--exclude", "tag:overlay", environment=AIRFLOW)
    assert again.code == 0, again.output
    rows = assert_same(database.audit_rows(again.invocation_id), again)
    assert database.run("select count(*) from analytics.audit_table")[0][0] == before + len(rows)
    row = rows["model.flights.departures"]
    assert row["full_refresh"] is True
    assert row["airflow_dag_id"] == "flights_pipeline"
    assert row["airflow_run_id"] == "manual__2026-11-24"
    assert row["airflow_task_id"] == "transform_data.it's"
    assert row["airflow_try_number"] == 2
    assert row["airflow_logical_date"] == datetime(2026, 11, 23, 23, 30)
    assert row["airflow_log_url"] == "https://airflow.example.com/log?try=2"
    assert (row["release_id"], row["code_version"]) == ("20261124T090000Z-abc1234", "abc1234")


def test_failures_are_recorded_with_their_exact_messages(built, dbt, database):
    finished = dbt("build", "--select", "tag:overlay")
    assert finished.code == 1, finished.output
    stored = {row["unique_id"]: row for row in database.audit_rows(finished.invocation_id)}
    assert stored.keys() == finished.nodes.keys()
    status = {row["name"]: row["status"] for row in stored.values()}
    assert status == {
        "fails": "error",
        "after_fails": "skipped",
        "independent": "success",
        "warns": "warn",
        "finds_one_row": "fail",
        "twice": "success",
        "finds_a_double": "fail",
        "finds_two_rows": "fail",
        "finds_none": "pass",
        "nasty": "error",
        "huge": "error",
    }
    by_name = {row["name"]: row for row in stored.values()}
    reported = {result["unique_id"]: result["message"] for result in finished.nodes.values()}
    assert "invalid input syntax" in by_name["fails"]["message"]
    assert by_name["fails"]["message"] == reported["model.flights.fails"]
    assert by_name["after_fails"]["started_at"] is None
    assert json.loads(by_name["independent"]["tags"]) == ["overlay", "it's"]
    assert (by_name["warns"]["severity"], by_name["warns"]["failures"]) == ("warn", 1)
    assert (by_name["finds_one_row"]["severity"], by_name["finds_one_row"]["failures"]) == ("error", 1)
    assert (by_name["finds_a_double"]["failures"], by_name["finds_two_rows"]["failures"]) == (1, 2)
    nasty = by_name["nasty"]["message"]
    assert nasty == reported["model.flights.nasty"].replace("\0", "")
    # dbt indents the lines of a message.
    for line in (
        "it's \\ a \\' 'quoted\\' \"text\"; drop table x; -- $$ $1 %s %(a)s {{ 1 }} {% raw %}",
        "\ttab /* 🛩️ é  end\\",
    ):
        assert line in nasty
    huge = by_name["huge"]["message"].encode()
    # At most 4,096 bytes, without cutting a three-byte character.
    assert 4094 <= len(huge) <= 4096
    assert reported["model.flights.huge"].startswith(huge.decode())


def test_two_parallel_invocations_write_their_rows(built, dbt, database):
    running = [dbt.begin("run", "--select", *models) for models in (("stg_airlines", "carriers"), ("stg_planes",))]
    for finished in [end() for end in running]:
        assert finished.code == 0, finished.output
        assert_same(database.audit_rows(finished.invocation_id), finished)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_parallel_invocations_write_all_rows(built, dbt, database):
    folder = dbt.project / "models" / "overlay"
    (folder / "many.sql").write_text("{{ config(tags=['overlay']) }} select 1 as one\n")
    (folder / "many.yml").write_text(
        "models:\n  - name: many\n    columns:\n      - name: one\n        data_tests:\n"
        + "".join(f"          - in_range: {{name: many_{n}, arguments: {{minimum: 1}}}}\n" for n in range(50))
    )
    try:
        first_run = dbt("run", "--select", "many")
        assert first_run.code == 0, first_run.output
        running = [dbt.begin("test", "--select", "many") for _ in range(16)]
        finished = [end() for end in running]
    finally:
        (folder / "many.sql").unlink()
        (folder / "many.yml").unlink()
    assert [entry.code for entry in finished] == [0] * 16
    rows = [row for entry in finished for row in database.audit_rows(entry.invocation_id)]
    assert len(rows) == len({row["load_id"] for row in rows}) == 800


@pytest.mark.parametrize("severity", ["error", "warn"])
def test_source_freshness_is_recorded(built, dbt, database, severity):
    database.run("update landing.airlines set loaded_at = dateadd(day, -30, getdate())")
    # With the run's parameter `select`, a pipeline selects sources in this way.
    selection = ["--select", "source:landing.airlines,+stg_airlines", "source:landing.planes"]
    selection += ["source:landing.weather,+stg_airlines"]
    finished = dbt("source", "freshness", *selection, environment={"DBT_SOURCE_SEVERITY": severity})
    assert finished.code == 1, finished.output
    reported = json.loads((finished.target / "sources.json").read_text())
    rows = {row["name"]: row for row in database.audit_rows(reported["metadata"]["invocation_id"])}
    assert {name: row["status"] for name, row in rows.items()} == {"airlines": "error", "planes": "pass"}
    assert {row["severity"] for row in rows.values()} == {severity}
    assert rows["planes"]["resource_type"] == "source"
    assert rows["planes"]["dbt_command"] == "freshness"
    loaded = {result["unique_id"].rsplit(".", 1)[1]: result["max_loaded_at"] for result in reported["results"]}
    for name, row in rows.items():
        assert row["source_max_loaded_at"] == datetime.fromisoformat(loaded[name]).replace(tzinfo=None)


@pytest.mark.parametrize("command", [("compile",), ("docs", "generate"), ("show",)])
def test_other_commands_write_no_rows(built, dbt, database, command):
    before = database.run("select count(*) from analytics.audit_table")
    finished = dbt(*command, "--select", "carriers")
    assert finished.code == 0, finished.output
    assert database.run("select count(*) from analytics.audit_table") == before


def test_missing_insert_permission_is_reported(built, dbt, database):
    database.add_user("reader", "reader_own")
    database.run("grant usage on schema analytics to reader")
    database.run("grant select on all tables in schema analytics to reader")
    test = ("test", "--select", "unique_carriers_carrier_code")
    finished = dbt(*test, user="reader")
    assert finished.code != 0
    assert "1 results were not recorded" in finished.output
    assert "user reader has no INSERT permission on it" in finished.output
    # The result is still in run_results.json.
    assert [result["status"] for result in finished.nodes.values()] == ["pass"]
    warned = dbt(*test, "--vars", "audit_failure: warn", user="reader")
    assert warned.code == 0, warned.output
    assert "1 results were not recorded" in warned.output
    assert not database.audit_rows(warned.invocation_id)


def test_missing_audit_table_error_names_the_fix(built, dbt, database):
    database.add_user("newcomer", "newcomer")
    finished = dbt("run", "--select", "stg_airlines", user="newcomer", schema="newcomer")
    assert finished.code != 0
    assert "dbt run --select audit_table" in finished.output
    assert not database.run("select 1 from pg_tables where schemaname = 'newcomer' and tablename = 'audit_table'")
    off = dbt("run", "--select", "stg_airlines", "--vars", "audit_enabled: false", user="newcomer", schema="newcomer")
    assert off.code == 0, off.output


def test_older_table_is_used_and_gets_the_new_columns(built, dbt, database):
    database.add_user("veteran", "veteran")
    types = ["varchar(200)"] * 7 + ["double precision", "integer", "date"]
    columns = ", ".join(f"{name} {type_}" for name, type_ in zip(FIRST_TEN, types, strict=True))
    database.run(f"create table veteran.audit_table ({columns}, remark varchar(20))")
    database.run("alter table veteran.audit_table owner to veteran")
    database.run("insert into veteran.audit_table (load_id, remark) values ('old', 'kept')")
    before = dbt("run", "--select", "stg_airlines", user="veteran", schema="veteran")
    assert before.code == 0, before.output
    assert "has no column unique_id, materialization, " in before.output
    (row,) = database.audit_rows(before.invocation_id, "veteran")
    assert (row["name"], row["status"]) == ("stg_airlines", "success")

    after = dbt("run", "--select", "tag:audit", user="veteran", schema="veteran")
    assert after.code == 0, after.output
    (row,) = database.audit_rows(after.invocation_id, "veteran")
    assert list(row)[:11] == [*FIRST_TEN, "remark"]
    assert row["unique_id"] == "model.audit_trail.audit_table"
    old = database.dictionaries("select * from veteran.audit_table where load_id = 'old'")
    assert (old[0]["remark"], old[0]["unique_id"]) == ("kept", None)


def test_old_rows_are_deleted_by_the_model_and_by_the_purge_operation(built, dbt, database):
    for name, days in (("a", 401), ("b", 401), ("c", 400), ("d", 100)):
        database.run(
            "insert into analytics.audit_table (load_id, invocation_id, model_execution_date)"
            f" values ('{name}', 'retention', dateadd(day, -{days}, current_date))"
        )
    count = "select load_id from analytics.audit_table where invocation_id = 'retention' order by 1"
    finished = dbt("run", "--select", "tag:audit")
    assert finished.code == 0, finished.output
    assert database.run(count) == [("c",), ("d",)]
    finished = dbt("run-operation", "purge_audit_table", "--args", "days: 99")
    assert finished.code == 0, finished.output
    assert database.run(count) == []
    assert database.audit_rows(built.invocation_id)


# Each example runs dbt, so hypothesis does not shrink a failing example.
@settings(max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.text(max_size=200), min_size=40, max_size=60))
def test_any_text_is_stored_unchanged(built, dbt, database, texts):
    database.run("delete from analytics.audit_table where unique_id in (" + ",".join(f"'{n}'" for n in range(60)) + ")")
    finished = dbt("run-operation", "write_texts", "--args", json.dumps({"texts": json.dumps(texts)}))
    assert finished.code == 0, finished.output
    stored = database.run("select unique_id, name, message from analytics.audit_table where length(unique_id) <= 2")
    expected = [re.sub("[\0-\x07\x0b\x0e-\x1f]", "", text) for text in texts]
    assert sorted((int(number), message) for number, _, message in stored) == list(enumerate(expected))
    for number, name, _ in stored:
        target = expected[int(number)].encode()
        assert name == target[:512].decode(errors="ignore")
