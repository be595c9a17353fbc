"""Measures `dbt build` of many models through the gateway and through a gateway without translation."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from benchmarks import Figure, interleaved
from benchmarks.warehouse.stand_ins import StandIns, seconds
from mwaa_local.processes import base_environment
from mwaa_local.settings import HOST, Passwords, SetupError
from redshift_local.server.gateway import Gateway
from redshift_local.server.postgres import Postgres

_MODELS = 100
_ROWS = 10_000  # few rows, so that the gateway's share of the time is visible


class _Untranslated(Gateway):
    """A gateway that drops Redshift's start-up parameters and forwards everything else unchanged."""

    async def _startup(self, reader, writer) -> dict[str, str] | None:
        """Read the parameters without the one that asks for Redshift's protocol, which PostgreSQL does not speak."""
        parameters = await super()._startup(reader, writer)
        return parameters and {key: parameters[key] for key in parameters if key != "client_protocol_version"}

    async def converse(self, client, server, parameters) -> None:
        """Forward bytes in both directions until one side disconnects."""

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while piece := await reader.read(256 * 1024):
                writer.write(piece)
                await writer.drain()

        pumps = (pump(client[0], server[1]), pump(server[0], client[1]))
        ways = [asyncio.ensure_future(direction) for direction in pumps]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


@contextlib.contextmanager
def untranslated(postgres: Postgres) -> Iterator[int]:
    """Run a gateway without translation in front of a running server, and yield its port."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    ready, loop, end = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        gateway = _Untranslated(postgres, port)
        await gateway.start()
        ready.set()
        await end.wait()
        await gateway.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    if not ready.wait(30):
        raise SetupError("the gateway without translation did not start")
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


def dbt_build(bench: StandIns, say: Callable[[str], None]) -> Figure:
    """Compare `dbt build` with and without translation, three times each, alternately, on empty schemas."""
    project = bench.settings.state / "project"
    _write_project(project)
    password = Passwords.load(bench.settings.state).awsuser
    with untranslated(bench.postgres) as other:
        ports = {"translated": bench.settings.warehouse_port, "untranslated": other}

        def dbt(command: str, way: str) -> None:
            arguments = [str(Path(sys.executable).with_name("dbt")), command, "--target", way]
            environment = base_environment() | {"BENCH_PASSWORD": password, "DBT_PROFILES_DIR": str(project)}
            environment |= {f"BENCH_{name.upper()}": str(port) for name, port in ports.items()}
            environment |= {"DBT_TARGET_PATH": f"target-{way}", "PATH": os.environ["PATH"]}
            completed = subprocess.run(
                arguments, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=600
            )
            if completed.returncode:
                raise SetupError(f"dbt {command} ({way}) failed:\n{completed.stdout[-2000:]}")

        def build(way: str) -> float:
            say(f"dbt build of {_MODELS} models, {way}")
            with psycopg.connect(bench.postgres.conninfo("dev"), autocommit=True) as connection:
                connection.execute("drop schema if exists bench_dbt cascade")
            return seconds(lambda: dbt("build", way))

        with psycopg.connect(bench.through, autocommit=True) as connection:
            connection.execute(f"create table build_rows as select * from flights_bench limit {_ROWS}")  # noqa: S608
        for way in ports:
            dbt("parse", way)
        taken = interleaved(3, lambda: build("translated"), lambda: build("untranslated"))
    return Figure(f"dbt build of {_MODELS} models", taken[0], "s", "gateway without translation", taken[1], 1.1)


def _write_project(project: Path) -> None:
    common = {"type": "redshift", "host": HOST, "user": "awsuser", "password": "{{ env_var('BENCH_PASSWORD') }}"}
    common |= {"dbname": "dev", "schema": "bench_dbt", "sslmode": "disable", "threads": 4}
    outputs = {
        way: common | {"port": f"{{{{ env_var('BENCH_{way.upper()}') | as_number }}}}"}
        for way in ("translated", "untranslated")
    }
    models = project / "models"
    models.mkdir(parents=True)
    # JSON is valid YAML.
    (project / "profiles.yml").write_text(json.dumps({"bench": {"target": "translated", "outputs": outputs}}))
    settings = {"name": "bench", "version": "1.0", "profile": "bench", "flags": {"send_anonymous_usage_stats": False}}
    (project / "dbt_project.yml").write_text(json.dumps(settings))
    for number in range(_MODELS):
        source = "build_rows" if number < 20 else f"{{{{ ref('model_{number - 20}') }}}}"
        kind = "view" if number < 20 else "table"
        (models / f"model_{number}.sql").write_text(
            f"{{{{ config(materialized='{kind}') }}}}\n"
            "select carrier, origin, month, day, sum(distance) as distance, max(dep_delay) as dep_delay,\n"
            f"  coalesce(max(tailnum), 'none') as tailnum, {number} as number\n"
            f"from {source} where month = {number % 12 + 1} or month is not null\ngroup by 1, 2, 3, 4\n"
        )
