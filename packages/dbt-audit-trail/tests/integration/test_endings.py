"""Audit rows of invocations that end early, and of names that must be quoted."""

import pytest
from test_audit import assert_same

from mwaa_pipelines.unwritten_rows import unwritten_results

VARS = "\nvars:\n"


@pytest.fixture
def broken_start(dbt):
    """Adds a failing on-run-start hook to the project."""
    path = dbt.project / "dbt_project.yml"
    shipped = path.read_text()
    assert shipped.count(VARS) == 1
    path.write_text(shipped.replace(VARS, f'\non-run-start: "select * from no_such_table"\n{VARS}'))
    yield
    path.write_text(shipped)


def test_failed_start_hook_has_an_audit_row(built, dbt, database, broken_start):
    finished = dbt("run", "--select", "carriers")
    assert finished.code != 0
    rows = {row["name"]: row for row in database.audit_rows(finished.invocation_id)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "flights-on-run-start-0": "error",
        "carriers": "success",
    }
    hook = rows["flights-on-run-start-0"]
    assert hook["resource_type"] == "operation"
    assert "no_such_table" in hook["message"]


def test_nodes_skipped_by_a_start_hook_can_be_recovered(built, dbt, database, broken_start, tmp_path):
    path = dbt.project / "dbt_project.yml"
    path.write_text(path.read_text().replace("flags:\n", "flags:\n  skip_nodes_if_on_run_start_fails: true\n"))
    finished = dbt("run", "--select", "carriers", environment={"DBT_LOG_FORMAT_FILE": "json"})
    assert finished.code != 0
    # In this case dbt passes no results to its on-run-end hooks.
    assert not database.audit_rows(finished.invocation_id)
    for name in ("logs", "target"):
        (tmp_path / name).symlink_to(finished.target)
    run, results = unwritten_results(tmp_path)
    assert run["invocation_id"] == finished.invocation_id
    assert [(result["unique_id"], result["status"]) for result in results] == [("model.flights.carriers", "skipped")]


def test_nodes_skipped_by_fail_fast_have_audit_rows(built, dbt, database):
    selection = ("fails", "after_fails", "independent", "twice")
    finished = dbt("run", "--fail-fast", "--threads", "1", "--select", *selection)
    assert finished.code == 1, finished.output
    rows = assert_same(database.audit_rows(finished.invocation_id), finished)
    assert {row["name"] for row in rows.values()} == set(selection)
    assert rows["model.flights.fails"]["status"] == "error"
    assert rows["model.flights.after_fails"]["status"] == "skipped"


def test_names_with_hyphens_and_capitals_are_recorded(built, dbt, database):
    database.add_user("with-hyphen", "with-hyphen")
    folder = dbt.project / "models" / "overlay"
    names = ("with-hyphen", "MixedCase")
    for name in names:
        alias = name.lower().replace("-", "_")
        (folder / f"{name}.sql").write_text(f"{{{{ config(tags=['overlay'], alias='{alias}') }}}} select 1 as n\n")
    try:
        selection = ("tag:audit", *names)
        finished = dbt("run", "--select", *selection, user="with-hyphen", schema="with-hyphen")
    finally:
        for name in names:
            (folder / f"{name}.sql").unlink()
    assert finished.code == 0, finished.output
    rows = assert_same(database.audit_rows(finished.invocation_id, '"with-hyphen"'), finished)
    assert {row["name"] for row in rows.values()} == {"audit_table", *names}
    assert rows["model.flights.MixedCase"]["schema_name"] == "with-hyphen"
