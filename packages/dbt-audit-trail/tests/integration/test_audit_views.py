"""The audit views and the saved questions return the expected rows for a known history."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from audit_database import Database

from audit_report import DBT_PACKAGE
from redshift_local.server.gateway import PLANNER
from redshift_local.server.postgres import Postgres

# Four runs of one pipeline, of which the third was started by hand. Times are seconds after 10:00 on the run's day.
#
#   source s -> a -> b -> test t       u: a flaky test; v: a test that never passes
#               a -> c
#
# (run day, invocation, Airflow try, node, status, from, to, rows, failures)
HISTORY = [
    (1, "i1", 1, "a", "success", 0, 10, 100, None),
    (1, "i1", 1, "c", "success", 10, 15, 7, None),
    (1, "i1", 1, "b", "success", 10, 40, 50, None),
    (1, "i1", 1, "t", "pass", 40, 41, None, 0),
    (1, "i1", 1, "u", "pass", 40, 40.5, None, 0),
    (1, "i1", 1, "v", "fail", 15, 16, None, 3),
    # b fails, and Airflow retries it a minute later.
    (2, "i2", 1, "a", "success", 0, 20, 110, None),
    (2, "i2", 1, "b", "error", 20, 22, None, None),
    (2, "i2", 1, "c", "success", 20, 30, 7, None),
    (2, "i2", 1, "t", "skipped", None, None, None, None),
    (2, "i2", 1, "u", "fail", 22, 23, None, 1),
    (2, "i3", 2, "b", "success", 60, 100, 45, None),
    (2, "i3", 2, "t", "pass", 100, 101, None, 0),
    (3, "i4", None, "a", "success", 0, 30, 110, None),
    (3, "i4", None, "b", "error", 30, 31, None, None),
    (3, "i4", None, "c", "success", 30, 35, 7, None),
    (3, "i4", None, "t", "skipped", None, None, None, None),
    (3, "i4", None, "u", "pass", 31, 32, None, 0),
    (4, "i5", 1, "s", "pass", 0, 1, None, None),
    (4, "i6", 1, "a", "success", 5, 15, 110, None),
    (4, "i6", 1, "b", "success", 15, 85, 60, None),
    (4, "i6", 1, "c", "success", 15, 20, 7, None),
    (4, "i6", 1, "t", "warn", 85, 86, None, 2),
    (4, "i6", 1, "u", "fail", 20, 21, None, 1),
    (4, "i6", 1, "v", "fail", 20, 22, None, 4),
]
NODES = {
    "s": ("source.p.s", "source", [], []),
    "a": ("model.p.a", "model", ["source.p.s"], ["staging"]),
    "b": ("model.p.b", "model", ["model.p.a"], ["mart"]),
    "c": ("model.p.c", "model", ["model.p.a"], ["mart"]),
    "t": ("test.p.t", "test", ["model.p.b"], []),
    "u": ("test.p.u", "test", ["model.p.b"], []),
    "v": ("test.p.v", "test", ["model.p.c"], []),
}


def json_list(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def moment(day: int, second: float | None) -> datetime | None:
    if second is None:
        return None
    return datetime(2026, 1, day, 10, int(second // 60), int(second % 60), int(second % 1 * 1_000_000))


def rows() -> list[dict]:
    all_rows = []
    for day, invocation, attempt, node, status, first, last, written, failures in HISTORY:
        unique_id, kind, parents, tags = NODES[node]
        by_hand = attempt is None
        all_rows.append(
            {
                "load_id": f"{invocation}.{unique_id}",
                "invocation_id": invocation,
                "name": node,
                "resource_type": kind,
                "status": status,
                "execution_time": 0 if first is None else last - first,
                "rows_affected": written,
                "model_execution_date": f"2026-01-0{day}",
                "unique_id": unique_id,
                "relation_name": f'"dev"."analytics"."{node}"',
                "message": None if node == "s" else f"{node} says {status}",
                "failures": failures,
                "started_at": moment(day, first),
                "completed_at": moment(day, last),
                "dbt_command": "build",
                "full_refresh": False,
                "release_id": f"release {day}",
                "owner": "somebody",
                "tags": json_list(tags) if tags else None,
                "depends_on": json_list(parents),
                "source_max_loaded_at": datetime(2026, 1, 4, 6) if node == "s" else None,
                "airflow_dag_id": None if by_hand else "d",
                "airflow_run_id": None if by_hand else f"r{day}",
                "airflow_task_id": None if by_hand else "transform",
                "airflow_try_number": attempt,
            }
        )
    return all_rows


@pytest.fixture(scope="module")
def history(dbt, database):
    """A function that queries an audit view or a saved question over HISTORY and returns dictionaries."""
    database.add_user("historian", "history")
    selection = ["--select", "tag:audit", "tag:audit_view"]
    finished = dbt("run", *selection, user="historian", schema="history")
    assert finished.code == 0, finished.output
    database.run("delete from history.audit_table")
    for row in rows():
        names = ", ".join(row)
        database.run(
            f"insert into history.audit_table ({names}) values ({', '.join(['%s'] * len(row))})", list(row.values())
        )
    day = ["--vars", "audit_day: 2026-01-03"]
    compiled = dbt("compile", "--select", "resource_type:analysis", *day, user="historian", schema="history")
    assert compiled.code == 0, compiled.output
    folder = compiled.target / "compiled" / "audit_trail" / "analyses"

    def ask(question: str) -> list[dict]:
        path = folder / f"{question}.sql"
        return database.dictionaries(path.read_text() if path.exists() else f"select * from history.{question}")

    ask.views = {path.stem for path in (DBT_PACKAGE / "models").glob("*.sql")} - {"audit_table"}
    ask.target = finished.target
    ask.questions = {path.stem for path in Path(folder).glob("*.sql")}
    return ask


def pick(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def by(rows: list[dict], name: str) -> dict[str, dict]:
    assert len({row[name] for row in rows}) == len(rows)
    return {row[name]: row for row in rows}


def test_node_history_compares_the_last_try_with_earlier_runs(history):
    nodes = {(row["run_key"], row["name"]): row for row in history("audit_node_history")}
    assert len(nodes) == 6 + 5 + 5 + 7
    retried = nodes["d/r2", "b"]
    assert (retried["outcome"], retried["tries"], retried["invocation_id"]) == ("passed", 2, "i3")
    assert nodes["d/r2", "t"]["outcome"] == "passed"
    assert nodes["i4", "b"]["outcome"] == "failed"
    assert nodes["d/r1", "b"]["usual_execution_time"] is None
    # 70 seconds after 30 and 40 seconds. The failed run in between does not count.
    last = nodes["d/r4", "b"]
    assert float(last["usual_execution_time"]) == 35
    assert float(last["times_usual"]) == 2
    assert last["rows_change"] == 15
    assert nodes["d/r4", "t"]["outcome"] == "warned"


def test_audit_runs_has_outcome_duration_and_critical_path(history):
    runs = by(history("audit_runs"), "run_key")
    assert set(runs) == {"d/r1", "d/r2", "i4", "d/r4"}
    assert {key: float(row["duration_seconds"]) for key, row in runs.items()} == {
        "d/r1": 41,
        "d/r2": 101,
        "i4": 35,
        "d/r4": 86,
    }
    counts = ("outcome", "nodes", "passed_nodes", "warned_nodes", "failed_nodes", "skipped_nodes", "retried_nodes")
    assert tuple(runs["d/r1"][name] for name in counts) == ("failed", 6, 5, 0, 1, 0, 0)
    assert tuple(runs["d/r2"][name] for name in counts) == ("failed", 5, 4, 0, 1, 0, 2)
    assert tuple(runs["i4"][name] for name in counts) == ("failed", 5, 3, 0, 1, 1, 0)
    assert tuple(runs["d/r4"][name] for name in counts) == ("failed", 7, 4, 1, 2, 0, 0)
    assert runs["d/r2"]["invocations"] == 2
    assert runs["d/r4"]["release_id"] == "release 4"
    assert runs["d/r1"]["critical_path"] == "a > b > t"
    assert float(runs["d/r1"]["critical_path_seconds"]) == 41
    assert runs["d/r2"]["critical_path"] == "a > b > t"
    assert float(runs["d/r2"]["critical_path_seconds"]) == 61
    # c ends last, after 35 seconds. b failed and t did not start.
    assert runs["i4"]["critical_path"] == "a > c"
    assert runs["d/r4"]["critical_path"] == "s > a > b > t"


def test_latest_state_has_the_last_outcome_of_each_node(history):
    state = by(history("audit_latest_state"), "name")
    assert set(state) == set(NODES)
    assert (state["b"]["outcome"], state["b"]["completed_at"]) == ("passed", moment(4, 85))
    assert state["s"]["message"] == "newest row loaded at 2026-01-04 06:00"
    assert state["t"]["message"] == "t says warn"
    assert (state["t"]["outcome"], state["t"]["last_passed_at"]) == ("warned", moment(4, 86))
    assert (state["v"]["outcome"], state["v"]["last_passed_at"]) == ("failed", None)
    assert (state["u"]["outcome"], state["u"]["last_passed_at"]) == ("failed", moment(3, 32))


def test_node_statistics_have_failures_and_execution_times(history):
    nodes = by(history("audit_node_statistics"), "name")
    b = nodes["b"]
    assert (b["runs"], b["failed_runs"], float(b["failed_share"]), b["retried_runs"]) == (4, 1, 0.25, 1)
    # Of 30, 40 and 70 seconds the median is 40, and the 95th percentile is 40 + 0.9 * 30.
    assert float(b["median_execution_time"]) == 40
    assert float(b["p95_execution_time"]) == pytest.approx(67)
    assert (float(b["longest_execution_time"]), float(b["total_execution_time"])) == (70, 141)
    assert (float(b["last_times_usual"]), b["last_rows_affected"], b["last_rows_change"]) == (2, 60, 15)
    assert nodes["t"]["runs"] == 3


def test_test_health_finds_flaky_and_always_failing_tests(history):
    tests = by(history("audit_test_health"), "name")
    assert {name: row["health"] for name, row in tests.items()} == {"t": "warned", "u": "flaky", "v": "always failing"}
    assert (tests["u"]["changes"], tests["t"]["changes"]) == (3, 1)
    assert tests["v"]["last_failures"] == 4


def test_mart_freshness_has_build_and_source_times(history):
    marts = by(history("audit_mart_freshness"), "name")
    assert set(marts) == {"b", "c"}
    for mart, built in (("b", 85), ("c", 20)):
        assert marts[mart]["built_at"] == moment(4, built)
        assert marts[mart]["oldest_source_loaded_at"] == datetime(2026, 1, 4, 6)
    age = marts["b"]["hours_since_source_loaded"] - marts["b"]["hours_since_built"]
    assert float(age) == pytest.approx(4 + 85 / 3600, abs=0.001)


def test_invocations_join_airflow_to_dbt(history):
    invocations = by(history("audit_invocations"), "invocation_id")
    assert set(invocations) == {"i1", "i2", "i3", "i4", "i5", "i6"}
    retry = invocations["i3"]
    assert (retry["run_key"], retry["airflow_try_number"], retry["nodes"], retry["failed_nodes"]) == ("d/r2", 2, 2, 0)
    assert (invocations["i2"]["failed_nodes"], invocations["i2"]["skipped_nodes"]) == (2, 1)
    assert invocations["i4"]["airflow_run_id"] is None
    assert float(invocations["i2"]["duration_seconds"]) == 30


def test_saved_questions_return_the_expected_rows(history):
    assert len(history.questions) == 12
    failed = history("what_failed_in_the_last_run")
    assert pick(failed, "name", "message", "owner") == [
        ("u", "u says fail", "somebody"),
        ("v", "v says fail", "somebody"),
    ]
    assert pick(history("what_failed_on_a_day"), "run_key", "name") == [("i4", "b")]
    assert pick(history("how_long_do_runs_take"), "run_key") == [("d/r4",), ("i4",), ("d/r2",), ("d/r1",)]
    (decided,) = history("what_decided_how_long_the_last_run_took")
    assert decided["critical_path"] == "s > a > b > t"
    assert [name for (name,) in pick(history("what_takes_longest"), "name")][:2] == ["b", "a"]
    (slower,) = history("what_became_slower")
    assert (slower["name"], float(slower["usual_execution_time"]), float(slower["last_times_usual"])) == ("b", 35, 2)
    assert pick(history("what_fails_most"), "name", "failed_runs") == [("v", 2), ("u", 2), ("b", 1), ("t", 0)]
    attention = pick(history("which_tests_need_attention"), "name", "health")
    assert attention == [("v", "always failing"), ("u", "flaky"), ("t", "warned")]
    assert pick(history("whose_row_count_jumped"), "name", "last_rows_change") == [("b", 15)]
    assert pick(history("how_fresh_is_each_mart"), "name", "last_outcome") == [("c", "passed"), ("b", "passed")]
    built = pick(history("which_release_built_each_mart"), "relation_name", "release_id", "invocation_id")
    assert built == [
        ('"dev"."analytics"."b"', "release 4", "i6"),
        ('"dev"."analytics"."c"', "release 4", "i6"),
    ]


def test_queries_join_to_nodes_and_airflow_runs(history, database):
    node = "model.p.queried"
    dbt_session, other_session = Database(database.warehouse), Database(database.warehouse)
    ((started,),) = dbt_session.run("select cast(getdate() as varchar)")
    # dbt names the node in a comment. Later queries of the session belong to the node even without a comment.
    dbt_session.run(f'select /* {{"app": "dbt", "node_id": "{node}"}} */ 1')
    dbt_session.run("create temporary table made (one integer)")
    other_session.run("delete from history.audit_table where load_id = 'no such row'")
    database.run(
        "insert into history.audit_table"
        " (load_id, invocation_id, unique_id, name, started_at, completed_at, airflow_dag_id, airflow_run_id)"
        f" values ('queries', 'queries', '{node}', 'queried', cast('{started}' as timestamp),"
        " dateadd(second, 1, getdate()), 'd', 'queries')"
    )
    # The query history is written with a delay. A query on the system view itself updates it.
    database.run("select count(*) from sys_query_history")
    actual = [row for row in history("audit_queries") if row["run_key"] == "d/queries"]
    # The stand-in records no scans. So the view's SQL reads a table with steps like those in Redshift's manual.
    query_id = min(row["query_id"] for row in actual)
    database.run("create table history.steps (query_id bigint, step_name text, metrics_level text, input_bytes bigint)")
    for step in (("scan", "Step", 300), ("scan", "Step", 20), ("scan", "Segment", 4_000), ("hash", "Step", 50_000)):
        database.run("insert into history.steps values (%s, %s, %s, %s)", [query_id, *step])
    view = (history.target / "compiled" / "audit_trail" / "models" / "audit_queries.sql").read_text()
    scanned = database.dictionaries(view.replace("pg_catalog.sys_query_detail", "history.steps"))
    database.run("delete from history.audit_table where load_id = 'queries'")
    assert {row["name"] for row in actual} == {"queried"}
    kinds = {row["query_type"] for row in actual}
    assert {"SELECT", "DDL"} <= kinds
    assert "DELETE" not in kinds
    assert all(float(row["elapsed_seconds"]) >= 0 for row in actual)
    # Division by a decimal has 24 digits.
    assert {-row["queue_seconds"].as_tuple().exponent for row in actual} == {6}
    assert [row["scanned_bytes"] for row in scanned if row["query_id"] == query_id] == [320]
    assert {row["scanned_bytes"] for row in scanned if row["query_id"] != query_id} == {None}


@pytest.mark.parametrize(("severity", "outcome"), [("error", "failed"), ("warn", "warned")])
def test_stale_source_fails_a_run_that_requires_it(history, database, severity, outcome):
    (fresh,) = [row for row in rows() if row["name"] == "s"]
    stale = {"load_id": "stale", "invocation_id": "stale", "airflow_run_id": "stale", "status": "error"}
    insert(database, {**fresh, **stale, "severity": severity, "started_at": moment(7, 0), "completed_at": moment(7, 1)})
    try:
        (run,) = [run for run in history("audit_runs") if run["run_key"] == "d/stale"]
        (state,) = [state for state in history("audit_latest_state") if state["name"] == "s"]
    finally:
        database.run("delete from history.audit_table where load_id = 'stale'")
    assert run["outcome"] == outcome
    assert (state["outcome"], state["last_passed_at"]) == (outcome, moment(4, 1))


def test_views_still_work_if_the_clock_jumps_back(history, database):
    row = {**rows()[0], "load_id": "jump", "invocation_id": "jump", "airflow_dag_id": None, "airflow_run_id": None}
    row |= {"started_at": moment(5, 60), "completed_at": moment(5, 0), "execution_time": -60}
    names = ", ".join(row)
    database.run(
        f"insert into history.audit_table ({names}) values ({', '.join(['%s'] * len(row))})", list(row.values())
    )
    try:
        (run,) = [run for run in history("audit_runs") if run["run_key"] == "jump"]
        assert (float(run["duration_seconds"]), run["critical_path"]) == (-60, "a")
        for question in [*history.questions, *history.views]:
            history(question)
    finally:
        database.run("delete from history.audit_table where load_id = 'jump'")


def insert(database: Database, row: dict) -> None:
    database.run(
        f"insert into history.audit_table ({', '.join(row)}) values ({', '.join(['%s'] * len(row))})",
        list(row.values()),
    )


def test_views_are_late_binding_without_recursion(history):
    # Redshift allows no recursive query in a late-binding view.
    statements = {
        path.stem: path.read_text().lower()
        for kind in ("compiled", "run")
        for path in (history.target / kind / "audit_trail").rglob("*.sql")
    }
    views = [text for name, text in statements.items() if "create view" in text and name.startswith("audit_")]
    assert len(views) == 9
    assert all("with no schema binding" in text for text in views)
    assert [name for name, text in statements.items() if "recursive" in re.sub("--.*", "", text)] == []


@pytest.mark.parametrize("length", [1, 2, 31, 32, 40])
def test_critical_path_shows_the_last_32_nodes(history, database, length):
    template = {**rows()[1], "airflow_dag_id": None, "airflow_run_id": None, "invocation_id": "long", "tags": None}
    for number in range(length):
        identity = {"unique_id": f"model.p.n{number}", "name": f"n{number}", "load_id": f"long.{number}"}
        depends_on = json_list([f"model.p.n{number - 1}"] if number else [])
        times = {"started_at": moment(6, number), "completed_at": moment(6, number + 1), "execution_time": 1}
        insert(database, {**template, **identity, **times, "depends_on": depends_on})
    try:
        (path,) = [row for row in history("audit_critical_paths") if row["run_key"] == "long"]
        output = [f"n{number}" for number in range(max(0, length - 32), length)]
        assert path["critical_path"].split(" > ") == output
        assert (path["critical_path_nodes"], float(path["critical_path_seconds"])) == (len(output), len(output))
    finally:
        database.run("delete from history.audit_table where invocation_id = 'long'")


@pytest.mark.parametrize(("position", "output"), [(1, "first > child"), (100, "first > child"), (101, "child")])
def test_critical_path_knows_a_hundred_parents_of_a_node(history, database, position, output):
    template = {**rows()[1], "airflow_dag_id": None, "airflow_run_id": None, "invocation_id": "wide", "tags": None}
    parents = [f"model.p.absent_{number}" for number in range(1, 121)]
    parents[position - 1] = "model.p.first"
    for second, (name, depends_on) in enumerate({"first": [], "child": parents}.items()):
        identity = {"unique_id": f"model.p.{name}", "name": name, "load_id": f"wide.{name}"}
        times = {"started_at": moment(6, second), "completed_at": moment(6, second + 1), "execution_time": 1}
        insert(database, {**template, **identity, **times, "depends_on": json_list(depends_on)})
    try:
        (path,) = [row for row in history("audit_critical_paths") if row["run_key"] == "wide"]
        assert path["critical_path"] == output
    finally:
        database.run("delete from history.audit_table where invocation_id = 'wide'")


def steps(plan: dict) -> Iterator[dict]:
    yield plan
    for step in plan.get("Plans", []):
        yield from steps(step)


def test_views_join_no_node_with_all_nodes_of_its_run(history, database):
    # PostgreSQL expects few rows of a view, and a plan that joins a run with itself takes minutes over a year of runs.
    row = rows()[1]
    own = {"load_id", "unique_id", "depends_on", "airflow_run_id", "started_at", "completed_at"}
    names = [name for name in row if name not in own]
    runs, nodes = 20, 100
    with psycopg.connect(Postgres(database.warehouse.state / "warehouse").conninfo("dev"), autocommit=True) as server:
        server.execute(
            f"""
            insert into history.audit_table
                (load_id, unique_id, depends_on, airflow_run_id, started_at, completed_at, {", ".join(names)})
            select 'many.' || run || '.' || node, 'model.p.n' || node, '["model.p.n' || node - 1 || '"]',
                'many.' || run, start, start + interval '1 second', {", ".join(["%s"] * len(names))}
            from generate_series(1, {runs}) as run, generate_series(1, {nodes}) as node,
                lateral (select timestamp '2026-01-07' + make_interval(days => run, secs => node)) as times (start)""",
            [row[name] for name in names],
        )
        for name, value in PLANNER.items():
            server.execute(f"set {name} = {value}")
        try:
            for view in history.views - {"audit_queries"}:
                query = f"explain (analyze, timing off, format json) select * from history.{view}"
                plan = server.execute(query).fetchone()[0][0]["Plan"]
                most = max(step["Actual Rows"] * step["Actual Loops"] for step in steps(plan))
                assert most <= 20 * runs * nodes, f"{view}: a step of its plan has {most:,.0f} rows"
        finally:
            server.execute("delete from history.audit_table where load_id like 'many.%'")


def test_freshness_follows_upstream_nodes_through_layers_and_cycles(history, database):
    template = {**rows()[1], "airflow_dag_id": None, "airflow_run_id": None, "invocation_id": "layers"}
    loaded = datetime(2026, 1, 1, 5)
    source = {**template, "unique_id": "source.p.deep.s", "resource_type": "source", "load_id": "layers.s"}
    insert(database, {**source, "source_max_loaded_at": loaded, "depends_on": "[]"})
    for number in range(20):
        # A renamed model can leave a cycle in the history.
        parents = [f"model.p.l{number - 1}"] if number else ["source.p.deep.s", "model.p.l19"]
        identity = {"unique_id": f"model.p.l{number}", "name": f"l{number}", "load_id": f"layers.{number}"}
        tags = '["mart"]' if number == 19 else None
        insert(database, {**template, **identity, "depends_on": json_list(parents), "tags": tags})
    try:
        marts = by(history("audit_mart_freshness"), "name")
        assert marts["l19"]["oldest_source_loaded_at"] == loaded
    finally:
        database.run("delete from history.audit_table where invocation_id = 'layers'")
