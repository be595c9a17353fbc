"""A process that loads files is killed at each of its steps. Every good row is loaded once, whatever happens."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from load_shop import PASSWORD, Shop, shop

__all__ = ["shop"]

# Each starts a process for every step.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Forks a process for each request. The process loads files, and is killed in one step: before it, while the database
# works, or after it. A fork need not import boto3 first.
SERVER = """
import json, os, signal, sys, threading
import boto3, redshift_connector
from mwaa_pipelines.load_files import Loader
from mwaa_pipelines.settings import LoadedTable

def load(request):
    steps = 0

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def killing(work):
        def killed(*arguments, **named):
            nonlocal steps
            steps += 1
            if steps != request["step"]:
                return work(*arguments, **named)
            if request["moment"] == "before":
                die()
            if request["moment"] == "during":
                threading.Timer(request["seconds"], die).start()
            # The first statement fails as long as there are no records.
            try:
                work(*arguments, **named)
            finally:
                die()
        return killed

    connection = redshift_connector.connect(**request["login"])
    s3 = boto3.client("s3")
    redshift_connector.Cursor.execute = killing(redshift_connector.Cursor.execute)
    connection.commit = killing(connection.commit)
    s3.list_objects_v2 = killing(s3.list_objects_v2)
    outcome = Loader(connection, s3, request["schema"], run_id="killed").load(
        LoadedTable(**request["table"]), request["bucket"]
    )
    print(json.dumps({"steps": steps, "problems": outcome.problems}), flush=True)

for line in sys.stdin:
    process = os.fork()
    if not process:
        code = 1
        try:
            load(json.loads(line))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Killed:
    """Runs the processes that load files."""

    def __init__(self, shop: Shop, redshift_s3: dict[str, str]) -> None:
        host, port = shop.warehouse.host, shop.warehouse.port
        login = {"host": host, "port": port, "user": shop.user, "password": PASSWORD, "database": "dev", "ssl": False}
        table = {"table": shop.table, "prefix": "orders/", "format": "csv"}
        self.request = {"login": login, "schema": shop.target, "table": table, "bucket": shop.bucket}
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={**os.environ, **redshift_s3},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, step: int = 0, moment: str = "", seconds: float = 0) -> dict[str, Any] | None:
        """Load the files in a process that is killed in this step. Return its outcome, or None if it was killed."""
        request = {**self.request, "step": step, "moment": moment, "seconds": seconds}
        self.server.stdin.write(f"{json.dumps(request)}\n")
        self.server.stdin.flush()
        line = self.server.stdout.readline()
        if line == "-9\n":
            return None
        # Its error output is in that of the tests.
        assert line.startswith("{"), line
        assert self.server.stdout.readline() == "0\n"
        return json.loads(line)


@pytest.fixture
def killed(shop: Shop, redshift_s3: dict[str, str]) -> Iterator[Killed]:
    processes = Killed(shop, redshift_s3)
    with processes.server:
        yield processes


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_kill_in_any_step_loses_and_doubles_nothing(shop: Shop, killed: Killed, moment: str) -> None:
    files = {"001.csv": range(1), "002.csv": range(1, 20_000)}
    for name, ids in files.items():
        shop.put(name, "id,name,price\n" + "".join(f"{number},a,1\n" for number in ids))
    outcome, step = None, 0
    while outcome is None:
        step += 1
        shop.query(f"delete from {shop.table}")
        shop.query(f"drop table if exists {shop.target}.loaded_files")
        outcome = killed.load(step, moment, seconds=0.004)
        # A file's rows and its record are there together, or not at all.
        recorded = shop.recorded()
        assert recorded == {name: len(files[name]) for name in recorded}
        assert shop.ids() == [number for name in sorted(recorded) for number in files[name]]
        assert (outcome or killed.load())["problems"] == []
        assert shop.ids() == list(range(20_000))
    assert step > 20


def test_two_hundred_files_are_loaded_once_despite_kills(shop: Shop, killed: Killed) -> None:
    """Some files are delivered twice, one is broken, and the process is killed in every step of a file."""
    files = {f"{number:03}.csv": range(number * 100, number * 100 + 100) for number in range(200)}

    def deliver(name: str) -> str:
        content = "id,name,price\n" + "".join(f"{number},a,1\n" for number in files[name])
        return shop.put(name, content.replace("10050,", "?,"))

    for name in files:
        deliver(name)
    broken = f"s3://{shop.bucket}/orders/100.csv"
    # A file has 8 steps. Each process gets a little further than the one before it.
    kills = 0
    for number in range(30):
        moment = ("before", "during", "after")[number % 3]
        kills += killed.load(20 + 8 * (number // 3) + number % 10, moment, seconds=0.003) is None
        recorded = shop.recorded()
        assert recorded == dict.fromkeys(recorded, 100)
        assert shop.ids() == [number for name in sorted(recorded) for number in files[name]]
        for name in list(files)[::20]:
            deliver(name)
    assert kills > 20
    (problem,) = killed.load()["problems"]
    assert problem.startswith(f"{broken}: line 52, column id (int4), value '?': ")
    assert shop.ids() == [number for number in range(20_000) if number // 100 != 100]
    shop.put("100.csv", "id,name,price\n" + "".join(f"{number},a,1\n" for number in files["100.csv"]))
    assert killed.load()["problems"] == []
    assert shop.ids() == list(range(20_000))
