"""Fixtures for anyone who installs the package: a warehouse on a free port, started once per test session."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redshift_connector

from redshift_local.settings import ADMIN, DATABASE, HOST, admin_password, dsn

# Linux (from 32768) and macOS (from 49152) give higher ports to outgoing connections, perhaps before a server starts.
TEST_PORTS = range(20000, 32768)
_claims: list[socket.socket] = []


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, and that no other call returns, in any process.

    Until the process ends, it holds the UDP port of the same number as its claim.
    """
    for port in random.sample(TEST_PORTS, len(TEST_PORTS)):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((HOST, port))
            with socket.socket() as probe:
                probe.bind((HOST, port))
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return port
    raise RuntimeError(f"no port from {TEST_PORTS.start} to {TEST_PORTS.stop - 1} is free")


@dataclass(frozen=True)
class Warehouse:
    """A running `redshift-local serve`."""

    host: str
    port: int
    database: str
    user: str
    password: str
    state: Path
    process: subprocess.Popen

    @property
    def dsn(self) -> str:
        """The admin's address: `redshift://awsuser:<password>@127.0.0.1:<port>/dev`."""
        return dsn(self.port, self.password)

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
    """Start a warehouse whose data lives in `state`, and wait until it accepts connections.

    Args:
        state: the folder to serve; committed data of an earlier start is still there.
        environment: more variables, such as the AWS_* variables for COPY and UNLOAD.
    """
    port = free_port()
    state.mkdir(parents=True, exist_ok=True)
    log = state / "warehouse.out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "redshift_local", "serve", "--with-parent", f"--port={port}", f"--folder={state}"],
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + 60
    while "accepts connections" not in (text := log.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the warehouse did not start: {text}")
        time.sleep(0.05)
    return Warehouse(HOST, port, DATABASE, ADMIN, admin_password(state), state, process)


def stop_warehouse(warehouse: Warehouse) -> int:
    """Stop the warehouse and return its exit code."""
    warehouse.process.terminate()
    return warehouse.process.wait(30)


@pytest.fixture(scope="session")
def start_redshift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Warehouse]]:
    """Starts more warehouses: `start_redshift(state=folder, environment={...})`. They stop when the tests end.

    Without `state`, the data is deleted then.
    """
    warehouses: list[Warehouse] = []
    temporary: list[Path] = []

    def start(state: Path | None = None, environment: dict[str, str] | None = None) -> Warehouse:
        if state is None:
            state = tmp_path_factory.mktemp("redshift")
            temporary.append(state)
        warehouses.append(start_warehouse(state, environment))
        return warehouses[-1]

    yield start
    for warehouse in warehouses:
        if warehouse.process.poll() is None:
            stop_warehouse(warehouse)
    for folder in temporary:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redshift(start_redshift: Callable[..., Warehouse]) -> Warehouse:
    """A warehouse that all tests of the session share: `redshift.dsn`, `redshift.connect()`."""
    return start_redshift()


@pytest.fixture(scope="session")
def redshift_s3() -> Iterator[dict[str, str]]:
    """The AWS_* variables of an S3 stand-in (moto) for COPY and UNLOAD.

    moto shares buckets among all its servers of one process, so give each test's bucket a unique name.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
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
def redshift_with_s3(start_redshift: Callable[..., Warehouse], redshift_s3: dict[str, str]) -> Warehouse:
    """A shared warehouse whose COPY and UNLOAD use the buckets of `redshift_s3`."""
    return start_redshift(environment=redshift_s3)
