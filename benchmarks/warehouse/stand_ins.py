"""Starts the measured warehouse and S3 on free ports, in `bench/` of the state folder, and stops them."""

import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from mwaa_local.processes import base_environment, mark_this_command, spawn, stop, wait_for_line
from mwaa_local.settings import HOST, REPOSITORY, Passwords, Settings
from redshift_local.server.postgres import Postgres


@dataclass(frozen=True)
class StandIns:
    """The measured stand-ins. `warehouse` is the gateway's process, and PostgreSQL is its child."""

    settings: Settings
    warehouse: psutil.Process

    @property
    def through(self) -> str:
        """The gateway's connection string for psycopg."""
        password = Passwords.load(self.settings.state).awsuser
        port = self.settings.warehouse_port
        return f"host={HOST} port={port} user=awsuser dbname=dev sslmode=disable password={password}"

    @property
    def postgres(self) -> Postgres:
        """The server behind the gateway."""
        return Postgres(self.settings.state / "warehouse")


@contextlib.contextmanager
def running_stand_ins() -> Iterator[StandIns]:
    """Start the stand-ins, and stop and delete them when the context ends.

    Raises:
        SetupError: a stand-in did not start.
    """
    checkout = Settings.from_environment()
    state = checkout.state / "bench"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    Passwords.generate(state)
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(2)]
        warehouse_port, aws_port = (probe.getsockname()[1] for probe in probes)
    settings = Settings(state, warehouse_port, aws_port, checkout.airflow_port)
    mark_this_command(checkout.state)
    environment = {**base_environment(), **settings.aws_environment(), "LOCAL_DIR": str(state)}
    environment |= {"LOCAL_WAREHOUSE_PORT": str(warehouse_port), "LOCAL_AWS_PORT": str(aws_port)}
    children = []
    try:
        serve = ["serve", "--with-parent", f"--port={warehouse_port}", f"--folder={state}"]
        for module, arguments, line in (
            ("redshift_local", serve, "accepts connections"),
            ("mwaa_local", ["aws", "--with-parent"], "ready"),
        ):
            command = [sys.executable, "-m", module, *arguments]
            children.append(spawn(module, command, environment, state / f"{module}.log", REPOSITORY))
            wait_for_line(children[-1], line, 120)
        yield StandIns(settings, psutil.Process(children[0].process.pid))
    finally:
        stop(children)
        shutil.rmtree(state, ignore_errors=True)


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
