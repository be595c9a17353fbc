"""dbt is killed in the middle of a run, on a real scheduler: the next run's audit group records what it had done."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.aws import seed
from local.mwaa.api import Airflow
from local.processes import marked_processes
from local.run import DAG_ID
from local.settings import Passwords
from local.stack import connect, rows
from tests.fixtures.checkout import Checkout, new_checkout

# Stand-ins and two runs, beside whatever else the machine does.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = new_checkout(tmp_path_factory.mktemp("recovery") / "state")
    up = made.command("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield made
    made.command("down")


def _kill_dbt(checkout: Checkout, seconds: float = 600) -> None:
    """Kill the dbt process that builds everything, once it has finished three nodes."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for process in marked_processes(checkout.state):
            with contextlib.suppress(psutil.Error, OSError):
                command = process.cmdline()
                log = Path(process.cwd(), "logs", "dbt.log")
                builds = "build" in command and any(Path(word).name == "dbt" for word in command)
                if builds and "tag:audit" in " ".join(command) and log.read_text().count('"NodeFinished"') >= 3:
                    process.kill()
                    return
        time.sleep(0.05)
    pytest.fail("dbt finished no three nodes")


def _wait(there: Callable[[], bool], seconds: float = 400) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(1)


def test_results_of_a_killed_dbt_are_recorded_by_the_next_run(checkout: Checkout) -> None:
    passwords = Passwords.load(checkout.state)
    s3 = seed.client(checkout.settings, "s3")
    query = (
        "select invocation_id, unique_id, airflow_try_number from analytics.audit_table"
        " where airflow_run_id = %s and airflow_task_id = 'transform_data.dbt_producer_watcher'"
    )

    def kept() -> list[str]:
        found = s3.list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="kept_results/").get("Contents", [])
        return [entry["Key"] for entry in found]

    def recorded(run_id: str) -> list[tuple[str, str, int]]:
        with contextlib.closing(connect(checkout.settings, "dbt_user", passwords.dbt_user)) as connection:
            return rows(connection, query, (run_id,))[1]

    with contextlib.closing(Airflow(checkout.settings.airflow_port, passwords.airflow_admin)) as airflow:
        airflow.wait_for_dag(DAG_ID, "release", 120)
        killed = airflow.trigger(DAG_ID)
        _kill_dbt(checkout)
        _wait(lambda: kept() != [])
        (key,) = kept()
        assert recorded(killed) == []
        # How the sensors go on is another test's.
        airflow.end_open_runs(DAG_ID)
        airflow.trigger(DAG_ID)
        _wait(lambda: kept() == [])
        airflow.end_open_runs(DAG_ID)
    found = recorded(killed)
    assert len({node for _, node, _ in found}) == len(found) >= 3
    assert {f"kept_results/{DAG_ID}/{invocation}.0000.json" for invocation, _, _ in found} == {key}
    assert {number for _, _, number in found} == {1}
