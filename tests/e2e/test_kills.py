"""What takes part in a run is killed in mid-run: the run ends by itself, and green once what failed is cleared."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from local.stack import connect
from tests.fixtures.scene import AUDIT, CHECK, DAG, ENDED, PRODUCER, Scene, running, wait

# Stand-ins and several runs, beside whatever else the machine does.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODELS = {
    "one.sql": "{{ config(materialized='table') }} select 1 as id",
    # Waits in the warehouse for as long as the test holds the table.
    "slow.sql": "{{ config(materialized='table') }} select count(*) as id from {{ source('raw', 'gate') }}",
    "reader.sql": "{{ config(materialized='table') }} select id from {{ ref('slow') }}",
    "properties.yml": """
sources: [{name: raw, tables: [{name: gate}]}]
models:
  - {name: one, columns: [{name: id, data_tests: [not_null]}]}
  - {name: reader, columns: [{name: id, data_tests: [not_null]}]}
""",
}
NODES = {"one", "slow", "reader", "not_null_one_id", "not_null_reader_id"}
# Otherwise Airflow takes five minutes to believe that a task, or a scheduler's tasks, are gone.
OPTIONS = {
    "scheduler.task_instance_heartbeat_timeout": 20,
    "scheduler.task_instance_heartbeat_timeout_detection_interval": 5,
    "scheduler.scheduler_health_check_threshold": 15,
    "scheduler.orphaned_tasks_check_interval": 10,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("kills"), MODELS, OPTIONS) as scene:
        scene.query("create table raw.gate as select 1 as a union all select 2", "awsuser")
        yield scene


@contextlib.contextmanager
def held_gate(scene: Scene) -> Iterator[None]:
    """Let model `slow` wait until this ends, or the warehouse does."""
    with contextlib.closing(connect(scene.settings, "awsuser", scene.passwords.awsuser)) as connection:
        connection.cursor().execute("lock raw.gate")
        yield
        with contextlib.suppress(Exception):
            connection.rollback()


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def kill_dbt(scene: Scene, dbt: psutil.Process) -> None:
    kill(dbt)


def kill_worker(scene: Scene, dbt: psutil.Process) -> None:
    """As when a worker's memory runs out: dbt and the two Airflow processes above it are gone."""
    scheduler = scene.component("scheduler")
    above = [process for process in dbt.parents() if scheduler in process.parents()]
    assert len(above) == 2
    kill(*above, dbt)


def kill_scheduler(scene: Scene, dbt: psutil.Process) -> None:
    """The tasks go on, as those of MWAA's workers do, and the container starts again."""
    kill(scene.component("scheduler"))
    wait(lambda: not scene.component("scheduler").is_running(), 10)
    scene.revive()


def kill_container(scene: Scene, dbt: psutil.Process) -> None:
    """Scheduler and tasks together, which share a container on MWAA's smallest environments."""
    scheduler = scene.component("scheduler")
    kill(scheduler, *scheduler.children(recursive=True))
    scheduler.wait(10)
    scene.revive()


def kill_metadata(scene: Scene, dbt: psutil.Process) -> None:
    scene.checkout.kill_postgres("mwaa/database")
    time.sleep(5)
    scene.restart_metadata()


def kill_warehouse(scene: Scene, dbt: psutil.Process) -> None:
    scene.checkout.kill_postgres("warehouse")


KILLS = [kill_dbt, kill_worker, kill_scheduler, kill_container, kill_metadata, kill_warehouse]


@pytest.mark.parametrize("killing", KILLS, ids=lambda killing: killing.__name__)
def test_a_run_ends_by_itself_and_green_once_cleared(scene: Scene, killing: Callable[..., None]) -> None:
    scene.alerts()
    with held_gate(scene):
        run_id = scene.client.trigger(DAG)
        dbt = wait(lambda: scene.dbt_at_work(2), 120)
        began = time.monotonic()
        killing(scene, dbt)
    state = scene.ended(run_id)
    print(f"{killing.__name__}: {state} after {time.monotonic() - began:.0f} s", scene.states(run_id))
    assert set(scene.states(run_id).values()) <= ENDED
    alerts = scene.alerts()
    print(alerts)
    if killing is kill_warehouse:
        scene.start_warehouse()
    if state == "failed":
        assert len(alerts) == 1
        assert alerts[0]["subject"].startswith(f"FAILED {DAG}")
        state = scene.clear(run_id)
    print(scene.states(run_id))
    for r in scene.query(
        f"select invocation_id, unique_id, status, airflow_task_id, airflow_try_number from analytics.audit_table where airflow_run_id='{run_id}' order by 1,2"
    ):
        print(r)
    assert state == "success"
    assert set(scene.states(run_id).values()) <= ENDED
    assert scene.alerts() == []
    assert [scene.query(f"select id from analytics.{name}") for name in ("one", "slow", "reader")] == [
        [(1,)],
        [(2,)],
        [(2,)],
    ]
