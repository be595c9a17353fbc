"""An audit table that is older than the package keeps its rows."""

from pathlib import Path

SETUP = Path(__file__).with_name("audit_table_of_the_project.sql")
OLD_RUN = "flights_pipeline/scheduled__2026-11-20T06:00:00+00:00"
COLUMNS = """
    select column_name, data_type, character_maximum_length from information_schema.columns
    where table_schema = 'moved' and table_name = 'audit_table' order by ordinal_position
"""


def test_existing_table_keeps_rows_and_columns(dbt, database):
    database.add_user("mover", "moved")
    create, insert, _ = SETUP.read_text().split(";\n")
    database.run(create.replace("create table ", "create table moved."))
    database.run("alter table moved.audit_table owner to mover")
    database.run(insert.replace("insert into ", "insert into moved."))
    columns = database.run(COLUMNS)
    old_rows = database.dictionaries("select * from moved.audit_table order by load_id")
    assert len(old_rows) == 6

    for _ in range(2):
        built = dbt("build", "--select", "audit_table", "tag:audit_view", user="mover", schema="moved")
        assert built.code == 0, built.output
    # The package has appended columns since then.
    new_columns = [("bytes_loaded", "bigint", None)]
    assert database.run(COLUMNS) == [*columns, *new_columns]
    recovered_rows_query = "select * from moved.audit_table where airflow_run_id is not null order by load_id"
    assert database.dictionaries(recovered_rows_query) == [{**row, "bytes_loaded": None} for row in old_rows]
    new_rows = database.audit_rows(built.invocation_id, "moved")
    assert {row["unique_id"] for row in new_rows} == set(built.nodes)
    assert "model.audit_trail.audit_table" in built.nodes

    (run,) = database.dictionaries(f"select * from moved.audit_runs where run_key = '{OLD_RUN}'")
    assert (run["nodes"], run["failed_nodes"], run["skipped_nodes"], run["outcome"]) == (6, 2, 1, "failed")
    assert run["critical_path"] == "departures"
    (mart,) = database.run("select outcome from moved.audit_latest_state where unique_id = 'model.flights.carriers'")
    assert mart == ("passed",)
