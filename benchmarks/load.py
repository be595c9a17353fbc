"""Benchmarks of much work at once: connections, a year of audit rows, a release of many files, ten pipelines.

The goals are those of a team that grows: no wait of a person takes three seconds, and nothing fails.
"""

import os
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg

from audit_report import DBT_PACKAGE, source
from audit_report.page import render
from benchmarks import Figure
from benchmarks.audit import Project
from benchmarks.pipelines.projects import Size
from benchmarks.pipelines.stage import staged
from benchmarks.releases import first_release, running_s3
from benchmarks.warehouse.stand_ins import StandIns, running_stand_ins, seconds
from benchmarks.warehouse.statements import connections
from mwaa_local.aws import seed
from mwaa_local.query import statement
from mwaa_local.settings import Passwords
from mwaa_local.stack import connect
from mwaa_release.pipelines import first_pipeline

_CONNECTIONS = 300
_DAYS, _NODES = 365, 274
_FILES = 5_000
_PIPELINES, _MODELS = 10, 50
# Tasks that a worker of mw1.small runs at once. https://docs.aws.amazon.com/mwaa/latest/userguide/environment-class.html
_SLOTS = 5
# One run a day. Every second node is a test, and each model reads the one before it.
_YEAR = """
insert into {schema}.audit_table (load_id, invocation_id, database_name, schema_name, name, resource_type, status,
    execution_time, rows_affected, model_execution_date, unique_id, materialization, started_at, completed_at,
    dbt_command, release_id, owner, depends_on, airflow_dag_id, airflow_run_id, airflow_task_id, airflow_try_number)
with digits as (
    select 0 as digit union all select 1 union all select 2 union all select 3 union all select 4
    union all select 5 union all select 6 union all select 7 union all select 8 union all select 9
), numbers as (
    select a.digit + 10 * b.digit + 100 * c.digit as number from digits as a, digits as b, digits as c
), results as (
    select days.number as day, nodes.number as node, nodes.number % 2 = 1 as is_test,
        dateadd(second, nodes.number, dateadd(day, -days.number, date_trunc('day', sysdate))) as started_at
    from numbers as days cross join numbers as nodes where days.number < {days} and nodes.number < {nodes}
)
select 'load_' || day || '_' || node, 'invocation_' || day, 'dev', '{schema}', 'node_' || node,
    case when is_test then 'test' else 'model' end,
    case when (day + node) % 97 = 0 then 'fail' when is_test then 'pass' else 'success' end,
    1.0 + (day * 7 + node * 3) % 10, node, cast(started_at as date),
    case when is_test then 'test.nodes.' else 'model.nodes.' end || 'node_' || node,
    case when is_test then 'test' else 'table' end, started_at, dateadd(second, 1, started_at), 'build',
    'release_' || day / 7, 'team', '["model.nodes.node_' || node - 2 + node % 2 || '"]', 'nodes_pipeline',
    'run_' || day, 'transform_data', 1
from results
"""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the load. This takes about fifteen minutes.

    Raises:
        SetupError: a stand-in did not start, or a run failed.
    """
    say(f"{_CONNECTIONS} connections")
    with running_stand_ins() as bench:
        figures = connections(bench, _CONNECTIONS)
        figures += _a_year(bench, say)
    with running_s3() as settings:
        figures.append(first_release(settings, seed.client(settings, "s3"), _FILES, say)[1])
    return figures + _many_pipelines(say)


def _a_year(bench: StandIns, say: Callable[[str], None]) -> list[Figure]:
    """Measure the report and each saved question over a year of daily runs."""
    say(f"{_DAYS * _NODES:,} audit rows")
    project = Project(bench, 1)
    project.dbt("build", "--select", "package:audit_trail")
    with psycopg.connect(bench.through, autocommit=True) as gateway:
        gateway.execute(_YEAR.format(schema=project.schema, days=_DAYS, nodes=_NODES))
        figures = []
        for path in sorted((DBT_PACKAGE / "analyses").glob("*.sql")):
            say(path.stem)
            own_schema = f"{first_pipeline().target_schema}."
            query = statement(path.stem).replace(own_schema, f"{project.schema}.")
            # With bound parameters, psycopg would read each % as one.
            taken = statistics.median(seconds(lambda query=query: gateway.execute(query).fetchall()) for _ in range(3))
            figures.append(Figure(f"{path.stem}, a year of runs", taken, "s", goal=3))
    password = Passwords.load(bench.settings.state).awsuser
    for days in (30, _DAYS):
        say(f"the report of {days} days")
        pages: list[str] = []

        def write(days: int = days, pages: list[str] = pages) -> None:
            connection = connect(bench.settings, "awsuser", password)
            try:
                pages.append(render(source.read(connection, project.schema, days), "dev", days, datetime.now(UTC)))
            finally:
                connection.close()

        name = f"report of {days} days, {_DAYS * _NODES:,} rows"
        figures.append(Figure(name, statistics.median(seconds(write) for _ in range(3)), "s", goal=3))
        figures.append(Figure(f"{name}: size", len(pages[0].encode()) / 1e6, "MB", goal=2))
    return figures


def _many_pipelines(say: Callable[[str], None]) -> list[Figure]:
    """Measure pipelines that start in the same minute, beside as many `dbt build` in turn."""
    sizes = [Size(f"load_{number}", _MODELS, 0, 4) for number in range(_PIPELINES)]
    say("starting a stack")
    os.environ["LOCAL_PARALLELISM"] = str(_SLOTS)
    try:
        with staged([(size, []) for size in sizes]) as scene, ThreadPoolExecutor(_PIPELINES) as pool:
            say(f"{_PIPELINES} pipelines of {_MODELS} models at once")
            together = max(times.run for times in pool.map(lambda size: scene.dag(size.name, size), sizes))
            bare = sum(scene.bare(size).run for size in sizes)
    finally:
        del os.environ["LOCAL_PARALLELISM"]
    name = f"{_PIPELINES} pipelines of {_MODELS} models at once, {_SLOTS} slots"
    return [Figure(name, together, "s", f"{_PIPELINES} times dbt build in turn", bare, 2)]
