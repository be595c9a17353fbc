"""Benchmarks of the warehouse: what the gateway costs, against PostgreSQL reached directly with the same driver."""

import io
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from local.settings import HOST, Passwords, Settings
from local.warehouse.postgres import BINARIES, OWNER

_TURNS = 400
_ROWS = 300_000


def run() -> list[dict[str, Any]]:
    """Measure against the warehouse of this checkout's settings, which must be running.

    Returns:
        One row per measure: name, value, baseline, ratio, goal. Times are in milliseconds, of COPY in seconds.
    """
    settings = Settings.from_environment()
    password = Passwords.load(settings.state).awsuser
    through = f"host={HOST} port={settings.warehouse_port} user=awsuser dbname=dev sslmode=disable password={password}"
    direct = f"host={settings.state / 'warehouse' / 'socket'} user={OWNER} dbname=dev"
    with psycopg.connect(through, autocommit=True) as gateway, psycopg.connect(direct, autocommit=True) as bare:
        rows = [
            _overhead("statement seen before", gateway, bare, lambda turn: "select 1 as a, 'x' as b", 1.5),
            _overhead("new statement", gateway, bare, lambda turn: f"select {turn} as a, upper('x{turn}') as b", 8.0),
            _large_result(gateway, bare),
        ]
    rows.append(_connections(through))
    return rows


def _row(name: str, value: float, baseline: float, goal: str) -> dict[str, Any]:
    ratio = round(value / baseline, 2) if baseline else None
    return {"name": name, "value": round(value, 3), "baseline": round(baseline, 3), "ratio": ratio, "goal": goal}


def _overhead(
    name: str, gateway: psycopg.Connection, bare: psycopg.Connection, text: Callable[[int], str], goal: float
) -> dict[str, Any]:
    """Median time of a statement through the gateway and past it, taken in turns so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_TURNS):
        for connection, kept in zip((gateway, bare), times, strict=True):
            start = time.perf_counter()
            connection.execute(text(turn)).fetchall()
            kept.append((time.perf_counter() - start) * 1000)
    through, direct = (statistics.median(kept) for kept in times)
    return _row(f"{name}: median ms", through, direct, f"overhead under {goal} ms")


def _large_result(gateway: psycopg.Connection, bare: psycopg.Connection) -> dict[str, Any]:
    found = []
    for connection in (gateway, bare):
        start = time.perf_counter()
        with connection.cursor() as cursor:
            for _ in cursor.stream("select n, repeat('x', 50) from generate_series(1, %s) as g(n)", (_ROWS,)):
                pass
        found.append((time.perf_counter() - start) * 1000)
    return _row(f"{_ROWS} rows: ms", *found, "none")


def _connections(through: str) -> dict[str, Any]:
    errors: list[Exception] = []

    def work() -> None:
        try:
            with psycopg.connect(through, autocommit=True) as connection:
                for _ in range(5):
                    connection.execute("select 1").fetchall()
        except psycopg.Error as problem:
            errors.append(problem)

    threads = [threading.Thread(target=work) for _ in range(32)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = _row("32 connections at once: ms", (time.perf_counter() - start) * 1000, 0, "no error")
    return row | {"errors": len(errors)}


def copy_against_psql(load: Callable[[], None], csv: bytes, table: str) -> dict[str, Any]:
    """Seconds of a COPY through the gateway against psql's own COPY of the same, unpacked file.

    Args:
        load: runs the COPY through the gateway.
        csv: the file with its header; empty values written as NA.
        table: the table that `load` fills; psql's copy goes into another of the same shape.
    """
    settings = Settings.from_environment()
    direct = ["-h", str(settings.state / "warehouse" / "socket"), "-U", OWNER, "-d", "dev", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.csv"
        file.write_bytes(csv)
        header = io.StringIO(csv[:4096].decode()).readline().strip()
        columns = ", ".join(f'"{name}"' for name in header.split(","))
        psql = [str(BINARIES / "psql"), *direct, "-v", "ON_ERROR_STOP=1"]
        subprocess.run([*psql, "-c", f"CREATE TABLE copy_bench (LIKE {table} INCLUDING DEFAULTS)"], check=True)
        start = time.perf_counter()
        copy = f"\\copy copy_bench ({columns}) from '{file}' with (format csv, header, null 'NA')"
        subprocess.run([*psql, "-c", copy], check=True)
        baseline = time.perf_counter() - start
        subprocess.run([*psql, "-c", "DROP TABLE copy_bench"], check=True)
    start = time.perf_counter()
    load()
    return _row("COPY: seconds", time.perf_counter() - start, baseline, "at most 1.3 times")
