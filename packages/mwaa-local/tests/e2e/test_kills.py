"""Components are killed during a run: the run ends by itself, and succeeds after the failed tasks are cleared."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from mwaa_local.aws import seed
from mwaa_local.stack import connect
from mwaa_local.testing.scene import CHECK, DAG, ENDED, PRODUCER, Scene, running, wait

# Time for the stand-ins and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = '\'{{ env_var("AIRFLOW_CTX_DAG_RUN_ID", "") }}\''
MODELS = {
    "one.sql": f"{{{{ config(materialized='table') }}}} select {RUN} as run_id",
    # Waits in the warehouse for as long as the test holds the table.
    "slow.sql": f"""{{{{ config(materialized='table') }}}}
select {RUN} as run_id, count(*) as gates from {{{{ source('landing', 'gate') }}}}""",
    "reader.sql": "{{ config(materialized='table') }} select run_id from {{ ref('slow') }}",
    "properties.yml": """
sources: [{name: landing, tables: [{name: gate}]}]
models:
  - {name: one, columns: [{name: run_id, data_tests: [not_null]}]}
  - {name: reader, columns: [{name: run_id, data_tests: [not_null]}]}
""",
}
NODES = {"one", "slow", "reader", "not_null_one_run_id", "not_null_reader_run_id"}
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
        scene.query("create table landing.gate as select 1 as a union all select 2", "awsuser")
        yield scene


@contextlib.contextmanager
def held_gate(scene: Scene) -> Iterator[None]:
    """Let model `slow` wait until this ends, or the warehouse does."""
    with contextlib.closing(connect(scene.settings, "awsuser", scene.passwords.awsuser)) as connection:
        connection.cursor().execute("lock landing.gate")
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


def kill_scheduler_for_long(scene: Scene, dbt: psutil.Process) -> None:
    """The scheduler takes the task for lost, and dbt still runs: MWAA's executor would rather adopt it."""
    scheduler = scene.component("scheduler")
    kill(scheduler)
    scheduler.wait(10)
    scene.revive()
    wait(lambda: scene.states(RUNS[kill_scheduler_for_long])[PRODUCER] == "skipped", 120)


def kill_container(scene: Scene, dbt: psutil.Process) -> None:
    """Scheduler and tasks together, which share a container on MWAA's smallest environments."""
    scheduler = scene.component("scheduler")
    kill(scheduler, *scheduler.children(recursive=True))


def kill_triggerer(scene: Scene, dbt: psutil.Process) -> None:
    """Where the sensors are."""
    kill(scene.component("triggerer"))


def kill_metadata(scene: Scene, dbt: psutil.Process) -> None:
    scene.checkout.kill_postgres("mwaa/database")
    time.sleep(5)
    scene.restart_metadata()


def kill_warehouse(scene: Scene, dbt: psutil.Process) -> None:
    scene.checkout.kill_postgres("warehouse")


KILLS = [
    kill_dbt,
    kill_worker,
    kill_scheduler,
    kill_scheduler_for_long,
    kill_container,
    kill_triggerer,
    kill_metadata,
    kill_warehouse,
]
# The text of the alert. The run can recover from the other kills by itself.
SAID = {
    kill_dbt: "The command returned a non-zero exit code -9.",
    kill_worker: "ended without an error message, as when its worker is lost",
    kill_warehouse: "model.flights.slow (error, try ",
}
# The runs that were disturbed, for the last test.
RUNS: dict[Callable[..., None], str] = {}


def audited(scene: Scene, run_id: str) -> list[tuple[str, ...]]:
    return scene.query(
        "select name, status, airflow_task_id, airflow_try_number, load_id from analytics.audit_table"
        f" where airflow_run_id = '{run_id}'"
    )


@pytest.mark.parametrize("killing", KILLS, ids=lambda killing: killing.__name__)
def test_a_run_ends_by_itself_and_green_once_cleared(scene: Scene, killing: Callable[..., None]) -> None:
    scene.alerts()
    with held_gate(scene):
        run_id = scene.client.trigger(DAG)
        RUNS[killing] = run_id
        dbt = wait(lambda: scene.dbt_at_work(2), 120)
        killing(scene, dbt)
    state = scene.ended(run_id)
    assert set(scene.states(run_id).values()) <= ENDED
    alerts = scene.alerts()
    if killing is kill_warehouse:
        scene.start_warehouse()
    assert len(alerts) == (state == "failed")
    assert killing not in SAID or state == "failed"
    if state == "failed":
        assert alerts[0]["subject"].startswith(f"FAILED {DAG}: ")
        for text in (alerts[0]["message"], scene.log(run_id, CHECK)):
            assert SAID.get(killing, "") in text
        assert scene.clear(run_id) == "success"
    assert set(scene.states(run_id).values()) <= ENDED
    assert scene.alerts() == []
    for name in ("one", "slow", "reader"):
        assert scene.query(f"select run_id from analytics.{name}") == [(run_id,)], name
    # Nothing goes on that nobody waits for.
    wait(lambda: not scene.dbt_at_work(0), 60)


def test_the_next_run_writes_stored_results_to_the_audit_table(scene: Scene) -> None:
    last = scene.client.trigger(DAG)
    assert scene.ended(last) == "success"
    for run_id in [*RUNS.values(), last]:
        rows = audited(scene, run_id)
        assert {name for name, status, *_ in rows if status in {"success", "pass"}} >= NODES
        assert max(Counter(load_id for *_, load_id in rows).values()) == 1
        assert max(Counter((name, task_id, number) for name, _, task_id, number, _ in rows).values()) == 1
    # A process that survives reports dbt's results itself. If Airflow loses the task, the order is not defined.
    for killing in RUNS.keys() - {kill_scheduler_for_long}:
        lost = {name for name, *_, load_id in audited(scene, RUNS[killing]) if load_id.startswith("lost-")}
        assert lost == ({"one", "not_null_one_run_id"} if killing in {kill_worker, kill_container} else set())
    stored = seed.client(scene.settings, "s3").list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="kept_results/")
    assert stored["KeyCount"] == 0
