"""Pipelines with execution_mode ecs on a real scheduler: the task of ECS succeeds, is killed, stopped, and lost.

Each of these runs fails with one alert that says why. After its failed tasks are cleared, data and audit rows match.
"""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from mwaa_local.aws import seed, seed_ecs
from mwaa_local.stack import connect
from mwaa_local.testing.audit import audited, reported
from mwaa_local.testing.ecs_scene import EcsScene
from mwaa_local.testing.scene import CHECK, DAG, PRODUCER, Scene, running, wait
from mwaa_pipelines.ecs_task import find_task

# Time for the stand-ins and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = '\'{{ env_var("AIRFLOW_CTX_DAG_RUN_ID", "") }}\''
MODELS = {
    "one.sql": f"{{{{ config(materialized='table') }}}} select {RUN} as run_id",
    # Needs more than the memory of the task while the table landing.greedy has a row.
    "greedy.sql": f"""{{{{ config(materialized='table') }}}}
{{% if execute %}}
{{% set rows = run_query('select count(*) from landing.greedy').rows %}}
{{# Jinja computes an expression of constants when it parses it. #}}
{{% set data = 'x' * (rows[0][0] | int * 600000000) %}}
{{% endif %}}
select {RUN} as run_id from {{{{ ref('one') }}}}""",
    # Waits until the test releases its lock on the table.
    "slow.sql": f"""{{{{ config(materialized='table') }}}}
select {RUN} as run_id, count(*) as gates from {{{{ source('landing', 'gate') }}}} cross join {{{{ ref('one') }}}}""",
    "properties.yml": """
sources: [{name: landing, tables: [{name: gate}]}]
models:
  - {name: one, columns: [{name: run_id, data_tests: [not_null]}]}
""",
}
MODEL_NAMES = ("one", "greedy", "slow")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcsScene]:
    with running(tmp_path_factory.mktemp("ecs"), MODELS, {}, EcsScene) as scene:
        scene.query("create table landing.gate as select 1 as a union all select 2", "awsuser")
        scene.query("create table landing.greedy (a int)", "awsuser")
        scene.query("grant select on landing.greedy to dbt_user", "awsuser")
        yield scene


def check_data(scene: Scene, run_id: str) -> None:
    for name in MODEL_NAMES:
        assert scene.query(f"select run_id from analytics.{name}") == [(run_id,)], name


def test_run_succeeds_and_its_audit_rows_match_dbts_results(scene: EcsScene) -> None:
    scene.alerts()
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id) == "success", scene.log(run_id, PRODUCER)
    check_data(scene, run_id)
    with contextlib.closing(connect(scene.settings, "dbt_user", scene.passwords.dbt_user)) as connection:
        assert audited(connection, "analytics", run_id) == reported(scene.client, DAG, run_id)
    log = scene.log(run_id, PRODUCER)
    assert "ECS task arn:aws:ecs:" in log
    assert "OK created sql table model analytics.slow" in log
    assert "of 512 MiB of memory" in log
    assert (scene.alerts(), scene.task_arns()) == ([], [])


def test_task_without_enough_memory_is_named_and_cured(scene: EcsScene) -> None:
    scene.query("insert into landing.greedy values (1)", "awsuser")
    run_id = scene.client.trigger(DAG)
    wait(lambda: scene.states(run_id).get(PRODUCER) == "failed", 120)
    scene.query("delete from landing.greedy", "awsuser")
    _check_failed_and_cured(scene, run_id, "needs more than its memory, 512 MiB. Raise memory under ecs")


def stop_by_person(scene: EcsScene, dbt: psutil.Process) -> None:
    (arn,) = scene.task_arns()
    scene.ecs.stop_task(cluster=seed_ecs.CLUSTER, task=arn, reason="Patching")


def lose_task(scene: EcsScene, dbt: psutil.Process) -> None:
    """Freeze all processes of the task, as when its host is gone: ECS still says RUNNING. The test kills them later.

    They must not go on: of a stopped process, any thread can take a signal, but Python handles it in the main thread.
    """
    for process in (dbt.parent(), dbt):
        process.send_signal(signal.SIGSTOP)


def kill_runner(scene: EcsScene, dbt: psutil.Process) -> None:
    dbt.parent().kill()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (stop_by_person, "somebody stopped the task: Patching"),
        (lose_task, "gave no sign of life for 45 seconds, and was stopped"),
        (kill_runner, "needs more than its memory, 512 MiB"),
    ],
)
def test_ended_task_fails_the_run_within_a_minute(
    scene: EcsScene, end: Callable[[EcsScene, psutil.Process], None], words: str
) -> None:
    with scene.held_gate():
        run_id = scene.client.trigger(DAG)
        # The hook that starts the audit trail, the first model, its test, the greedy model.
        dbt = wait(lambda: scene.dbt_at_work(3), 120)
        runner = dbt.parent()
        end(scene, dbt)
        ended_at = time.monotonic()
        wait(lambda: not scene.task_arns(), 60)
        if end is lose_task:
            # Until it has stopped, it could go on, so nothing may be retried.
            time.sleep(5)
            assert scene.states(run_id)[PRODUCER] == "deferred"
            for process in (runner, dbt):
                process.kill()
            ended_at = time.monotonic()
        wait(lambda: scene.states(run_id).get(PRODUCER) == "failed", 90)
        assert not dbt.is_running()
        assert time.monotonic() - ended_at < 60
    _check_failed_and_cured(scene, run_id, words)


def test_ending_the_airflow_task_ends_the_ecs_task_before_a_retry_starts(scene: EcsScene) -> None:
    with scene.held_gate():
        run_id = scene.client.trigger(DAG)
        dbt = wait(lambda: scene.dbt_at_work(3), 120)
        (arn,) = scene.task_arns()
        path = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/{PRODUCER}"
        scene.client.call("PATCH", path, {"new_state": "failed"})
        # Then the task of the model that waits for the gate builds it.
        wait(lambda: not dbt.is_running() and scene.task_arns() not in ([arn], []), 90)
    assert scene.ended(run_id) == "failed"
    ended, retry = (find_task(scene.ecs, arn) for arn in (arn, *scene.started_for(run_id, "transform_data.slow_run")))
    assert ended["stoppedAt"] <= retry["createdAt"]
    assert ended["stoppedReason"] == "The task in Airflow was ended"
    check_data(scene, run_id)
    scene.alerts()


def test_killed_triggerer_does_not_end_the_task(scene: EcsScene) -> None:
    with scene.held_gate():
        run_id = scene.client.trigger(DAG)
        wait(lambda: scene.dbt_at_work(3), 120)
        # No worker waits for it.
        assert scene.states(run_id)[PRODUCER] == "deferred"
        scene.component("triggerer").kill()
        scene.component("triggerer").wait(10)
        scene.revive()
    assert scene.ended(run_id) == "success"
    check_data(scene, run_id)


def test_next_run_completes_the_audit_trail(scene: EcsScene) -> None:
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id) == "success"
    rows = scene.query(
        "select airflow_run_id, name, status, airflow_task_id, airflow_try_number, load_id from analytics.audit_table"
    )
    assert max(Counter(row[-1] for row in rows).values()) == 1
    built = {(run, name) for run, name, status, *_ in rows if status == "success"}
    runs = {run for run, *_ in rows if run}
    assert len(runs) >= 3
    for run in runs:
        assert {name for _run, name in built if _run == run} >= set(MODEL_NAMES), run
    stored = seed.client(scene.settings, "s3").list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="kept_results/")
    assert stored["KeyCount"] == 0


def _check_failed_and_cured(scene: EcsScene, run_id: str, words: str) -> None:
    assert scene.ended(run_id) == "failed"
    (alert,) = scene.alerts()
    assert alert["subject"].startswith("FAILED")
    for text in (alert["message"], scene.log(run_id, CHECK)):
        assert words in text
        assert PRODUCER in text
    assert scene.task_arns() == []
    assert scene.clear(run_id) == "success"
    check_data(scene, run_id)
    scene.alerts()
