"""Fixtures: the warehouse stand-in, started once per test session on a free port."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redshift_connector

ADMIN = "awsuser"


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Warehouse:
    """A running `python -m redshift_local`."""

    host: str
    port: int
    database: str
    user: str
    password: str
    state: Path
    process: subprocess.Popen

    def connect(
        self, user: str | None = None, password: str | None = None, database: str | None = None
    ) -> redshift_connector.Connection:
        """Connect as `user`, or as the admin; transactions are the connector's (autocommit off)."""
        return redshift_connector.connect(
            host=self.host,
            port=self.port,
            user=user or self.user,
            password=password or self.password,
            database=database or self.database,
            ssl=False,
        )


def start_warehouse(state: Path, environment: dict[str, str] | None = None) -> Warehouse:
    """Start a warehouse whose state lives in `state`, and wait until it accepts connections.

    Args:
        state: its LOCAL_DIR; used again, it still has what was committed.
        environment: more variables, such as the AWS_* ones that its COPY shall use.
    """
    port = free_port()
    variables = {**os.environ, **(environment or {}), "LOCAL_DIR": str(state), "LOCAL_WAREHOUSE_PORT": str(port)}
    state.mkdir(parents=True, exist_ok=True)
    with (state / "warehouse.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "redshift_local", "--with-parent"],
            env=variables,
            stdout=out,
            stderr=out,
        )
    until = time.monotonic() + 60
    while "accepts connections" not in (said := (state / "warehouse.out").read_text()):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise RuntimeError(f"the warehouse did not start: {said}")
        time.sleep(0.05)
    password = json.loads((state / "passwords.json").read_text())[ADMIN]
    return Warehouse("127.0.0.1", port, "dev", ADMIN, password, state, process)


def stop_warehouse(warehouse: Warehouse) -> int:
    """Stop it as Ctrl-C does; returns its exit code."""
    warehouse.process.terminate()
    return warehouse.process.wait(30)


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Warehouse]]:
    """Starts further warehouses, each in a folder of its own; all are stopped when the tests end."""
    started: list[Warehouse] = []

    def go(**options) -> Warehouse:
        state = options.pop("state", None) or Path(tempfile.mkdtemp(prefix="warehouse-"))
        started.append(start_warehouse(state, **options))
        return started[-1]

    yield go
    for each in started:
        if each.process.poll() is None:
            stop_warehouse(each)


@pytest.fixture(scope="session")
def landing() -> Iterator[dict[str, str]]:
    """An S3 of the warehouse's own, so that COPY has something to read: the AWS_* variables that lead to it.

    moto keeps all accounts' buckets of one process together, whichever server they came through; tests name their own.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    server.stop()


@pytest.fixture(scope="session")
def warehouse(start: Callable[..., Warehouse], landing: dict[str, str]) -> Warehouse:
    """The warehouse that most tests share. Its COPY and UNLOAD use the S3 of `landing`."""
    return start(environment=landing)
