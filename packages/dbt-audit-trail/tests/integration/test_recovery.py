"""A later build of the audit table writes the rows that an earlier invocation could not write, once."""

import signal
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from test_audit import AIRFLOW, assert_same

from mwaa_local.settings import REPOSITORY
from mwaa_pipelines.audit_rows import run_values, write_audit_rows
from mwaa_pipelines.load_files import LoadOutcome
from mwaa_pipelines.unwritten_rows import chunks, unwritten_results
from redshift_local.server.postgres import Postgres

# A separate run ID, because rows of a task's try are written only once.
RUN = "manual__refused"
JSON = {"DBT_LOG_FORMAT_FILE": "json"}


@pytest.fixture
def stored_results(tmp_path):
    """A function that returns the environment variables with a dbt process's results, as mwaa_pipelines stores them."""

    def keep(folder: Path) -> dict[str, str]:
        for name in ("logs", "target"):
            (tmp_path / name).symlink_to(folder)
        return {f"DBT_AUDIT_KEPT_{n}": text for n, text in enumerate(chunks(*unwritten_results(tmp_path)))}

    return keep


@pytest.fixture
def chain(dbt):
    """Forty models, each of which reads the previous model."""
    folder = dbt.project / "models" / "overlay" / "chain"
    folder.mkdir()
    for n in range(40):
        before = f" from {{{{ ref('link_{n - 1}') }}}}" if n else ""
        (folder / f"link_{n}.sql").write_text(f"{{{{ config(tags=['overlay']) }}}} select {n} as n{before}\n")
    yield "path:models/overlay/chain"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.fixture
def gated(dbt, database):
    """Three models that wait for as long as a session locks the table `gate`, and one that does not."""
    folder = dbt.project / "models" / "overlay" / "gated"
    folder.mkdir()
    (folder / "before.sql").write_text("{{ config(tags=['overlay']) }} select 1 as n\n")
    wait = "{{ config(tags=['overlay']) }} {% if execute %}{% do run_query('select * from landing.gate') %}{% endif %}"
    for n in range(3):
        (folder / f"gated_{n}.sql").write_text(f"{wait} select {n} as n from {{{{ ref('before') }}}}\n")
    database.run("create table landing.gate (n integer)")
    database.run("grant select on landing.gate to dbt_user")
    yield "path:models/overlay/gated"
    database.run("drop table landing.gate")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def recover(dbt, variables: dict[str, str]) -> str:
    finished = dbt("run", "--select", "tag:audit", environment=variables)
    assert finished.code == 0, finished.output
    return finished.output


def test_rejected_rows_are_written_later_and_only_once(built, dbt, database, stored_results):
    selection = ("--select", "carriers", "fails")
    database.run("revoke insert on analytics.audit_table from dbt_user")
    try:
        failed = dbt("build", *selection, environment={**AIRFLOW, **JSON, "AIRFLOW_CTX_DAG_RUN_ID": RUN})
    finally:
        database.run("grant insert on analytics.audit_table to dbt_user")
    assert failed.code != 0
    assert "has no INSERT permission on it" in failed.output
    assert not database.audit_rows(failed.invocation_id)

    variables = stored_results(failed.target)
    assert f"{len(failed.nodes)} audit rows of invocation" in recover(dbt, variables)
    rows = assert_same(database.audit_rows(failed.invocation_id), failed)
    assert {row["status"] for row in rows.values()} == {"success", "pass", "error"}
    mart = rows["model.flights.carriers"]
    # The values of the failed run, not of the later run.
    assert (mart["dbt_command"], mart["airflow_run_id"], mart["airflow_try_number"]) == (
        "build",
        RUN,
        2,
    )
    assert (mart["release_id"], mart["owner"]) == (AIRFLOW["DBT_RELEASE_ID"], "analytics-engineering")
    # The checksum is unknown, because another release may have written the row.
    assert mart["node_checksum"] is None

    database.run("delete from analytics.audit_table where load_id = %s", [mart["load_id"]])
    assert "1 audit rows of invocation" in recover(dbt, variables)
    assert_same(database.audit_rows(failed.invocation_id), failed)
    assert "audit rows of invocation" not in recover(dbt, variables)
    # A second invocation ID for the same try is ignored too, because a try has one invocation.
    renamed = {name: text.replace(failed.invocation_id, "lost-1") for name, text in variables.items()}
    assert "audit rows of invocation" not in recover(dbt, renamed)


def test_results_of_a_lost_worker_are_written_with_nulls(built, dbt, database, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "dags")
    from mwaa_pipelines import lost_worker as lost

    stored_chunks: list[str] = []
    monkeypatch.setattr(lost, "store_results", lambda run, results, _: stored_chunks.extend(chunks(run, results)))
    mart, test = "model.flights.carriers", "test.flights.gone_since.abc"
    names = {"producer_task_id": "producer"}
    tasks = {
        "producer": SimpleNamespace(task_id="producer", watched_together={}),
        "run": SimpleNamespace(task_id="run", outcome_key=mart, node_ids=[mart], **names),
        "test": SimpleNamespace(task_id="test", outcome_key=f"tests of {mart}", node_ids=[test], **names),
    }
    logical_date = datetime(2026, 1, 1, 6, tzinfo=UTC)
    context = {
        "ti": SimpleNamespace(
            dag_id="flights_pipeline", task_id="dbt_check", try_number=1, log_url="", xcom_pull=lambda **_: None
        ),
        "dag_run": SimpleNamespace(run_id="lost_run", logical_date=logical_date),
    }
    states = {"producer": "failed", "run": "success", "test": "success"}
    lost.store_lost_results(context, "20260101T000000Z-aaaaaaa", tasks, states)
    assert "2 audit rows of invocation lost-" in recover(dbt, {"DBT_AUDIT_KEPT_0": stored_chunks[0]})
    query = "select * from analytics.audit_table where airflow_run_id = 'lost_run' order by unique_id"
    row, tested = database.dictionaries(query, [])
    assert (row["unique_id"], row["status"], row["message"]) == (mart, "success", lost.MESSAGE)
    assert (row["schema_name"], row["airflow_try_number"], row["airflow_task_id"]) == ("analytics", 1, "producer")
    assert row["airflow_logical_date"] == logical_date.replace(tzinfo=None)
    assert (row["release_id"], row["code_version"]) == ("20260101T000000Z-aaaaaaa", "aaaaaaa")
    unknown = ("execution_time", "rows_affected", "started_at", "completed_at", "dbt_version", "airflow_log_url")
    assert [row[name] for name in unknown] == [None] * len(unknown)
    assert (tested["name"], tested["status"]) == ("gone_since", "pass")


def test_load_of_files_is_written_at_once_or_recovered(built, dbt, database):
    start = datetime(2026, 1, 1, 6, tzinfo=UTC)
    times = (start, start + timedelta(seconds=2))
    outcome = LoadOutcome("landing.orders", 2, 30, 4_000_000_000, ("s3://b/3.csv: line 2: 'x'",), *times)
    rows = []
    for try_number in (1, 2):
        ti = SimpleNamespace(dag_id="d", task_id="load_sources.copy_files", try_number=try_number, log_url="http://log")
        context = {"ti": ti, "dag_run": SimpleNamespace(run_id=f"load_{try_number}", logical_date=start)}
        run = run_values(context, f"invocation-{try_number}", "load", "20260101T000000Z-aaaaaaa")
        results = [outcome.result("flights", "dev")]
        if try_number == 1:
            write_audit_rows(database.connection, "analytics", run, results)
        else:
            (chunk,) = chunks(run, results)
            assert "1 audit rows of invocation invocation-2" in recover(dbt, {"DBT_AUDIT_KEPT_0": chunk})
        rows += database.audit_rows(f"invocation-{try_number}")
    at_once, recovered = rows
    assert at_once["message"] == "s3://b/3.csv: line 2: 'x' (1 not loaded, 2 files loaded)"
    assert (at_once["resource_type"], at_once["name"], at_once["status"]) == ("load", "orders", "partial success")
    assert (at_once["rows_affected"], at_once["bytes_loaded"], at_once["failures"]) == (30, 4_000_000_000, 1)
    assert (at_once["unique_id"], at_once["schema_name"]) == ("load.flights.landing.orders", "landing")
    assert at_once["completed_at"] == datetime(2026, 1, 1, 6, 0, 2)
    # dbt's steps are known only to dbt.
    differing = (
        "load_id",
        "invocation_id",
        "airflow_run_id",
        "airflow_try_number",
        "compile_seconds",
        "execute_seconds",
    )
    assert [{name: value for name, value in row.items() if name not in differing} for row in rows] == [
        {name: value for name, value in at_once.items() if name not in differing}
    ] * 2
    assert recovered["airflow_try_number"] == 2


def test_results_of_a_killed_dbt_are_recovered(built, dbt, database, chain, stored_results):
    running = dbt.begin("run", "--select", chain, environment=JSON)
    log = running.folder / "dbt.log"
    wait_for(lambda: log.exists() and log.read_text().count('"NodeFinished"') >= 3)
    running.process.kill()
    killed = running()
    assert killed.code == -9
    assert not (killed.target / "run_results.json").exists()

    variables = stored_results(killed.target)
    recover(dbt, variables)
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


def postgres(database) -> psycopg.Connection:
    """Connect to PostgreSQL behind the warehouse."""
    server = Postgres(database.warehouse.state / "warehouse")
    return psycopg.connect(server.conninfo("dev"), autocommit=True)


def waiting_statements(database) -> int:
    """Return the number of statements that wait for a lock."""
    with postgres(database) as connection:
        return connection.execute("select count(*) from pg_locks where not granted").fetchone()[0]


@pytest.mark.slow
def test_results_that_end_after_an_interrupt_are_recovered(built, dbt, database, gated, stored_results):
    """dbt writes run_results.json, and then cancels the nodes that are running, which Airflow's sensors see end."""
    with closing(database.warehouse.connect()) as holder:
        holder.cursor().execute("lock landing.gate")
        running = dbt.begin("run", "--threads", "4", "--select", gated, environment=JSON)
        log = running.folder / "dbt.log"
        wait_for(lambda: waiting_statements(database) == 3)
        running.process.send_signal(signal.SIGINT)
        interrupted = running()
    logged = {f"gated_{n}" for n in range(3)}
    assert set(interrupted.nodes) == {"model.flights.before"}
    assert log.read_text().count('"NodeFinished"') == 4

    recover(dbt, stored_results(interrupted.target))
    rows = database.audit_rows(interrupted.invocation_id)
    assert {row["name"]: row["status"] for row in rows} == {"before": "success", **dict.fromkeys(logged, "error")}


HELD_INSERT = """
create function hold_insert() returns trigger language plpgsql
    as 'begin perform pg_advisory_xact_lock(1); return new; end';
create trigger hold before insert on analytics.audit_table
    for each row when (new.invocation_id = '{}') execute function hold_insert();
"""


@pytest.mark.slow
def test_parallel_recoveries_write_rows_once(built, dbt, database, chain, stored_results):
    """As when Airflow loses the audit task and starts it again while its dbt is still running."""
    database.run("revoke insert on analytics.audit_table from dbt_user")
    try:
        failed = dbt("run", "--select", "link_0", environment=JSON)
    finally:
        database.run("grant insert on analytics.audit_table to dbt_user")
    variables = stored_results(failed.target)
    with postgres(database) as holder:
        holder.execute(HELD_INSERT.format(failed.invocation_id))
        try:
            holder.execute("select pg_advisory_lock(1)")
            both = [dbt.begin("run", "--select", "tag:audit", environment=variables) for _ in range(2)]
            wait_for(lambda: waiting_statements(database) == 2)
            holder.execute("select pg_advisory_unlock(1)")
            for finished in (running() for running in both):
                assert finished.code == 0, finished.output
        finally:
            holder.execute("drop function hold_insert cascade")
    assert len(database.audit_rows(failed.invocation_id)) == 1


def test_late_audit_rows_replace_rows_of_a_lost_invocation(built, dbt, database):
    """Airflow can lose a task whose dbt continues and writes its rows after the next run."""
    of_try = {"airflow_dag_id": "p", "airflow_run_id": "makes_way", "airflow_task_id": "t", "airflow_try_number": 1}
    for invocation, node in (("lost-1", "model.p.a"), ("real-1", "model.p.a"), ("lost-1", "model.p.b")):
        row = {**of_try, "invocation_id": invocation, "unique_id": node, "load_id": f"{invocation}.{node}"}
        row |= {"model_execution_date": f"{datetime.now(UTC):%Y-%m-%d}"}
        columns, values = ", ".join(row), ", ".join(["%s"] * len(row))
        database.run(f"insert into analytics.audit_table ({columns}) values ({values})", list(row.values()))
    recover(dbt, {})
    rows = database.run("select load_id from analytics.audit_table where airflow_run_id = 'makes_way' order by 1")
    assert rows == [("lost-1.model.p.b",), ("real-1.model.p.a",)]
