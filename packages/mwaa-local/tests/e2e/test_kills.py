"""If a component is killed during a run, the run ends, and succeeds after its failed tasks are cleared."""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from mwaa_local.aws import seed
from mwaa_local.testing.scene import AUDIT, CHECK, DAG, ENDED, PRODUCER, SEES_LOSSES_SOON, Scene, running, wait

# Time for the stand-ins and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = '\'{{ env_var("AIRFLOW_CTX_DAG_RUN_ID", "") }}\''
MODELS = {
    "one.sql": f"{{{{ config(materialized='table') }}}} select {RUN} as run_id",
    # Waits until the test releases its lock on the table.
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


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("kills"), MODELS, SEES_LOSSES_SOON) as scene:
        scene.query("create table landing.gate as select 1 as a union all select 2", "awsuser")
        yield scene


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def kill_dbt(scene: Scene, dbt: psutil.Process) -> None:
    kill(dbt)


def kill_worker(scene: Scene, dbt: psutil.Process) -> None:
    """Kill dbt and its two parent Airflow processes, as when a worker runs out of memory."""
    scheduler = scene.component("scheduler")
    airflow_processes = [process for process in dbt.parents() if scheduler in process.parents()]
    assert len(airflow_processes) == 2
    kill(*airflow_processes, dbt)


def kill_scheduler(scene: Scene, dbt: psutil.Process) -> None:
    """Kill only the scheduler. Its tasks continue, as on MWAA's workers, and its container restarts."""
    kill(scene.component("scheduler"))


def kill_scheduler_for_long(scene: Scene, dbt: psutil.Process) -> None:
    """Kill the scheduler until it treats the running task as lost. MWAA's executor might adopt the task instead."""
    scheduler = scene.component("scheduler")
    kill(scheduler)
    scheduler.wait(10)
    scene.revive()
    wait(lambda: scene.states(RUNS[kill_scheduler_for_long])[PRODUCER] == "skipped", 120)


def kill_container(scene: Scene, dbt: psutil.Process) -> None:
    """Kill the scheduler and its tasks, which share a container in MWAA's smallest environments."""
    scheduler = scene.component("scheduler")
    kill(scheduler, *scheduler.children(recursive=True))


def kill_triggerer(scene: Scene, dbt: psutil.Process) -> None:
    """Kill the triggerer, which runs the sensors."""
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
# Text of the alert. After the other kills the run can succeed without an alert.
ALERT_TEXTS = {
    kill_dbt: "The command returned a non-zero exit code -9.",
    kill_worker: "ended without an error message, as when its worker is lost",
    kill_warehouse: "model.flights.slow (error, try ",
}
# Run IDs by kill, for the last test.
RUNS: dict[Callable[..., None], str] = {}


def audited(scene: Scene, run_id: str) -> list[tuple[str, ...]]:
    return scene.query(
        "select name, status, airflow_task_id, airflow_try_number, load_id from analytics.audit_table"
        f" where airflow_run_id = '{run_id}'"
    )


@pytest.mark.parametrize("kill_component", KILLS, ids=lambda function: function.__name__)
def test_run_ends_after_a_kill_and_succeeds_after_tasks_are_cleared(
    scene: Scene, kill_component: Callable[..., None]
) -> None:
    scene.alerts()
    with scene.held_gate():
        run_id = scene.client.trigger(DAG)
        RUNS[kill_component] = run_id
        dbt = wait(lambda: scene.dbt_at_work(2), 120)
        kill_component(scene, dbt)
    state = scene.ended(run_id)
    assert set(scene.states(run_id).values()) <= ENDED
    alerts = scene.alerts()
    if kill_component is kill_warehouse:
        scene.start_warehouse()
    assert len(alerts) == (state == "failed")
    assert kill_component not in ALERT_TEXTS or state == "failed"
    if state == "failed":
        assert re.match(rf"FAILED( AGAIN)? {DAG}: ", alerts[0]["subject"])
        for text in (alerts[0]["message"], scene.log(run_id, CHECK)):
            assert ALERT_TEXTS.get(kill_component, "") in text
        assert scene.clear(run_id) == "success"
    assert set(scene.states(run_id).values()) <= ENDED
    # The task of the alert has succeeded before, so it is not cleared and sends no OK AGAIN.
    assert scene.alerts() == []
    for name in ("one", "slow", "reader"):
        assert scene.query(f"select run_id from analytics.{name}") == [(run_id,)], name
    # No dbt process is left running.
    wait(lambda: not scene.dbt_at_work(0), 60)


def test_next_run_writes_stored_results_to_the_audit_table(scene: Scene) -> None:
    last_run_id = scene.client.trigger(DAG)
    assert scene.ended(last_run_id) == "success"
    for run_id in [*RUNS.values(), last_run_id]:
        rows = audited(scene, run_id)
        assert {name for name, status, *_ in rows if status in {"success", "pass"}} >= NODES
        assert max(Counter(load_id for *_, load_id in rows).values()) == 1
        assert max(Counter((name, task_id, number) for name, _, task_id, number, _ in rows).values()) == 1
    # A dbt process that survives reports its own results. The order is undefined if Airflow loses the task.
    for kill_component in RUNS.keys() - {kill_scheduler_for_long}:
        lost_nodes = {name for name, *_, load_id in audited(scene, RUNS[kill_component]) if load_id.startswith("lost-")}
        assert lost_nodes == (
            {"one", "not_null_one_run_id"} if kill_component in {kill_worker, kill_container} else set()
        )
    stored = seed.client(scene.settings, "s3").list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="kept_results/")
    assert stored["KeyCount"] == 0
    # Nothing is left to write, so the run after it starts no dbt process for the audit.
    after_it = scene.client.trigger(DAG)
    assert scene.ended(after_it) == "success"
    assert "dbt is not needed: the audit table can be queried" in scene.log(after_it, AUDIT)
