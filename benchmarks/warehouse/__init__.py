"""Benchmarks of the warehouse: the gateway compared with the same PostgreSQL without the gateway.

The suite starts and stops its own warehouse and S3.
"""

from collections.abc import Callable

import psycopg

from benchmarks import Figure
from benchmarks.warehouse.builds import dbt_build
from benchmarks.warehouse.stand_ins import running_stand_ins
from benchmarks.warehouse.statements import connections, copy, large_result, memory, overhead


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the warehouse. This takes about four minutes.

    Raises:
        SetupError: a stand-in did not start, or dbt failed.
    """
    say("starting a warehouse and S3")
    with running_stand_ins() as bench:
        with (
            psycopg.connect(bench.through, autocommit=True) as gateway,
            psycopg.connect(bench.postgres.conninfo("dev"), autocommit=True) as bare,
        ):
            say("single statements")
            figures = overhead("statement seen before", gateway, bare, lambda turn: "select 1 as a, 'x' as b", 1.5)
            figures += overhead("new statement", gateway, bare, lambda turn: f"select {turn} as a, len('x{turn}')", 8)
            say("many distinct statements")
            figures.append(memory(bench, gateway))
            say("a large result")
            figures += large_result(bench, gateway, bare)
            say("COPY")
            figures += copy(bench, gateway)
        say("many connections")
        figures += connections(bench)
        figures.append(dbt_build(bench, say))
    return figures
