"""Rows that an invocation could not write are written once by a later build of the audit table."""

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_audit import AIRFLOW, assert_same

from mwaa_local.settings import REPOSITORY
from mwaa_pipelines.unwritten_rows import chunks, unwritten_results

# A run of its own: what one try of a task has written is not written again.
RUN = "manual__refused"
JSON = {"DBT_LOG_FORMAT_FILE": "json"}


@pytest.fixture
def kept(tmp_path):
    """What dags/mwaa_pipelines would keep of a dbt process and hand over, as environment variables."""

    def keep(folder: Path) -> dict[str, str]:
        for name in ("logs", "target"):
            (tmp_path / name).symlink_to(folder)
        return {f"DBT_AUDIT_KEPT_{n}": text for n, text in enumerate(chunks(*unwritten_results(tmp_path)))}

    return keep


@pytest.fixture
def chain(dbt):
    """Forty models, each of which reads the one before."""
    folder = dbt.project / "models" / "overlay" / "chain"
    folder.mkdir()
    for n in range(40):
        before = f" from {{{{ ref('link_{n - 1}') }}}}" if n else ""
        (folder / f"link_{n}.sql").write_text(f"{{{{ config(tags=['overlay']) }}}} select {n} as n{before}\n")
    yield "path:models/overlay/chain"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def recover(dbt, handed: dict[str, str]) -> str:
    finished = dbt("run", "--select", "tag:audit", environment=handed)
    assert finished.code == 0, finished.output
    return finished.output


def test_refused_rows_are_written_later_and_once(built, dbt, database, kept):
    selection = ("--select", "carriers", "fails")
    database.run("revoke insert on analytics.audit_table from dbt_user")
    try:
        failed = dbt("build", *selection, environment={**AIRFLOW, **JSON, "AIRFLOW_CTX_DAG_RUN_ID": RUN})
    finally:
        database.run("grant insert on analytics.audit_table to dbt_user")
    assert failed.code != 0
    assert "has no INSERT permission on it" in failed.output
    assert not database.audit_rows(failed.invocation_id)

    handed = kept(failed.target)
    assert f"{len(failed.nodes)} audit rows of invocation" in recover(dbt, handed)
    rows = assert_same(database.audit_rows(failed.invocation_id), failed)
    assert {row["status"] for row in rows.values()} == {"success", "pass", "error"}
    mart = rows["model.flights.carriers"]
    # As of then, not of now.
    assert (mart["dbt_command"], mart["airflow_run_id"], mart["airflow_try_number"]) == (
        "build",
        RUN,
        2,
    )
    assert (mart["release_id"], mart["owner"]) == (AIRFLOW["DBT_RELEASE_ID"], "analytics-engineering")
    # The release that wrote the row is not the one that ran.
    assert mart["node_checksum"] is None

    database.run("delete from analytics.audit_table where load_id = %s", [mart["load_id"]])
    assert "1 audit rows of invocation" in recover(dbt, handed)
    assert_same(database.audit_rows(failed.invocation_id), failed)
    assert "audit rows of invocation" not in recover(dbt, handed)
    # Nor under a name that was made up for it: a task's try has one invocation.
    renamed = {name: text.replace(failed.invocation_id, "lost-1") for name, text in handed.items()}
    assert "audit rows of invocation" not in recover(dbt, renamed)


def test_results_of_a_lost_worker_are_written_with_nulls(built, dbt, database, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "dags")
    from mwaa_pipelines import lost_worker as lost

    stored_chunks: list[str] = []
    monkeypatch.setattr(lost, "store_results", lambda run, results, _: stored_chunks.extend(chunks(run, results)))
    mart, test = "model.flights.carriers", "test.flights.gone_since.abc"
    names = {"producer_task_id": "producer", "model_unique_id": mart}
    tasks = {
        "producer": SimpleNamespace(task_id="producer", tests_per_model={mart: [test]}),
        "run": SimpleNamespace(task_id="run", is_test_sensor=False, **names),
        "test": SimpleNamespace(task_id="test", is_test_sensor=True, **names),
    }
    moment = datetime(2026, 1, 1, 6, tzinfo=UTC)
    context = {
        "ti": SimpleNamespace(dag_id="flights_pipeline", try_number=1, xcom_pull=lambda **_: None),
        "dag_run": SimpleNamespace(run_id="lost_run", logical_date=moment),
    }
    states = {"producer": "failed", "run": "success", "test": "success"}
    lost.store_lost_results(context, "20260101T000000Z-aaaaaaa", tasks, states)
    assert "2 audit rows of invocation lost-" in recover(dbt, {"DBT_AUDIT_KEPT_0": stored_chunks[0]})
    query = "select * from analytics.audit_table where airflow_run_id = 'lost_run' order by unique_id"
    row, tested = database.dictionaries(query, [])
    assert (row["unique_id"], row["status"], row["message"]) == (mart, "success", lost.MESSAGE)
    assert (row["schema_name"], row["airflow_try_number"], row["airflow_task_id"]) == ("analytics", 1, "producer")
    assert row["airflow_logical_date"] == moment.replace(tzinfo=None)
    assert (row["release_id"], row["code_version"]) == ("20260101T000000Z-aaaaaaa", "aaaaaaa")
    unknown = ("execution_time", "rows_affected", "started_at", "completed_at", "dbt_version", "airflow_log_url")
    assert [row[name] for name in unknown] == [None] * len(unknown)
    assert (tested["name"], tested["status"]) == ("gone_since", "pass")


def test_results_of_a_killed_dbt_are_recovered(built, dbt, database, chain, kept):
    running = dbt.begin("run", "--select", chain, environment=JSON)
    log = running.folder / "dbt.log"
    until = time.monotonic() + 120
    while not log.exists() or log.read_text().count('"NodeFinished"') < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    running.process.kill()
    killed = running()
    assert killed.code == -9
    assert not (killed.target / "run_results.json").exists()

    handed = kept(killed.target)
    recover(dbt, handed)
    rows = database.dictionaries("select * from analytics.audit_table where name like 'link%' order by started_at", [])
    assert 3 <= len(rows) < 40
    assert [row["name"] for row in rows] == [f"link_{n}" for n in range(len(rows))]
    assert {row["status"] for row in rows} == {"success"}
    assert len({row["invocation_id"] for row in rows}) == 1
    for row in rows:
        assert row["load_id"] == f"{row['invocation_id']}.{row['unique_id']}"
        assert row["started_at"] < row["completed_at"]
        assert row["execution_time"] > 0
        assert row["rows_affected"] is None
