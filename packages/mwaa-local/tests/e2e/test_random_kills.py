"""Random components are killed at random moments, run after run. Data, audit trail and alerts stay right.

RANDOM_KILLS sets the number of kills under each execution mode. Without it, there are two under one mode, which the
seed chooses. RANDOM_KILLS_SEED repeats a failed series. The seed is in the header of the tests and in every message.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL
from mwaa_local.processes import marked_processes
from mwaa_local.testing.ecs_scene import EcsScene
from mwaa_local.testing.scene import DAG, ENDED, SEES_LOSSES_SOON, Scene, running, wait

KILLS = int(os.environ.get("RANDOM_KILLS", "2"))
SEED = int(os.environ["RANDOM_KILLS_SEED"])
# One run, its repetition after it is cleared, and waits for what Airflow treats as dead.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 120 * KILLS)]

RUN = '\'{{ env_var("AIRFLOW_CTX_DAG_RUN_ID", "") }}\''
NAMES = ("one", "two", "three", "four", "five")
NODES = {*NAMES, *(f"not_null_{name}_run_id" for name in NAMES)}
# A chain, so that a kill has something before and after it.
MODELS = {
    f"{name}.sql": f"{{{{ config(materialized='table') }}}} select {RUN} as run_id"
    + (f" from {{{{ ref('{before}') }}}}" if before else "")
    for name, before in zip(NAMES, (None, *NAMES), strict=False)
} | {
    "properties.yml": "models:\n"
    + "".join(f"  - {{name: {name}, columns: [{{name: run_id, data_tests: [not_null]}}]}}\n" for name in NAMES)
}
# From before the first task to after the last one.
LAST_MOMENT = 20.0


class LocalMode(Scene):
    """A pipeline that runs one dbt process for each node."""

    settings_of_pipeline = "schedule: null\n    execution_mode: local"


MODES: dict[str, type[Scene]] = {"watcher": Scene, "local": LocalMode, "ecs": EcsScene}


@pytest.fixture(scope="module", params=MODES if "RANDOM_KILLS" in os.environ else ["any"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    mode = MODES.get(request.param) or list(MODES.values())[SEED % len(MODES)]
    with running(tmp_path_factory.mktemp("random"), MODELS, SEES_LOSSES_SOON, mode) as scene:
        yield scene


def _kill(*processes: psutil.Process) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _dbt(scene: Scene) -> list[psutil.Process]:
    """Return the dbt processes of tasks."""
    processes = []
    for process in marked_processes(scene.settings.state):
        with contextlib.suppress(psutil.Error):
            if any(part.endswith("/dbt") for part in process.cmdline()[:2]):
                processes.append(process)
    return processes


def kill_dbt(scene: Scene) -> None:
    _kill(*_dbt(scene))


def kill_worker(scene: Scene) -> None:
    """Kill each dbt process with the processes that wait for it, as when a worker or a task of ECS has no memory left.

    Not LocalExecutor's idle processes: one of them holds the lock of the queue, which MWAA's executor does not have.
    """
    (aws,) = (child for child in scene.children if child.name == "aws")
    hosts = (scene.component("scheduler"), psutil.Process(aws.process.pid))
    for dbt in _dbt(scene):
        # It can end at this moment.
        with contextlib.suppress(psutil.Error):
            waiting = [process for process in dbt.parents() if any(host in process.parents() for host in hosts)]
            _kill(*waiting, dbt)


def kill_container(scene: Scene) -> None:
    scheduler = scene.component("scheduler")
    _kill(scheduler, *scheduler.children(recursive=True))


def kill_metadata(scene: Scene) -> None:
    scene.checkout.kill_postgres("mwaa/database")
    time.sleep(2)
    scene.restart_metadata()


def kill_warehouse(scene: Scene) -> None:
    scene.checkout.kill_postgres("warehouse")
    (warehouse,) = (child for child in scene.children if child.name == "warehouse")
    warehouse.process.wait(30)
    scene.children.remove(warehouse)
    scene.start_warehouse()


def freeze_aws(scene: Scene) -> None:
    """Let no service answer for a while. The stand-in keeps its data in memory, so it cannot be killed."""
    (aws,) = (child for child in scene.children if child.name == "aws")
    os.kill(aws.process.pid, signal.SIGSTOP)
    time.sleep(8)
    os.kill(aws.process.pid, signal.SIGCONT)


def _component(name: str) -> Callable[[Scene], None]:
    def kill(scene: Scene) -> None:
        _kill(scene.component(name))

    kill.__name__ = f"kill_{name.replace('-', '_')}"
    return kill


ACTIONS = [
    kill_dbt,
    kill_worker,
    kill_container,
    *map(_component, ("scheduler", "dag-processor", "triggerer", "api-server")),
    kill_metadata,
    kill_warehouse,
    freeze_aws,
]


@dataclass
class Kill:
    """What was done to one run."""

    number: int
    action: Callable[[Scene], None]
    moment: float
    run_id: str = ""

    def __str__(self) -> str:
        return f"seed {SEED}, kill {self.number}: {self.action.__name__} after {self.moment:.1f} s, {self.run_id}"


def test_random_kills_lose_nothing(scene: Scene) -> None:
    chance = random.Random(SEED)  # noqa: S311 - no secret
    print(f"RANDOM_KILLS={KILLS} RANDOM_KILLS_SEED={SEED} {type(scene).__name__}")
    kills = [Kill(number, chance.choice(ACTIONS), chance.uniform(0, LAST_MOMENT)) for number in range(1, KILLS + 1)]
    for kill in kills:
        _run_with(scene, kill)
    last_run_id = scene.client.trigger(DAG)
    assert scene.ended(last_run_id) == "success"
    for kill in kills:
        rows = scene.query(
            "select name, status, airflow_task_id, airflow_try_number, load_id from analytics.audit_table"
            f" where airflow_run_id = '{kill.run_id}'"
        )
        missing = NODES - {name for name, status, *_ in rows if status in {"success", "pass"}}
        assert not missing, f"{kill}: no audit rows of {sorted(missing)}"
        for key in (lambda row: row[4], lambda row: (row[0], *row[2:4])):
            doubled = [value for value, count in Counter(map(key, rows)).items() if count > 1]
            assert not doubled, f"{kill}: audited twice: {doubled}"
    stored = seed.client(scene.settings, "s3").list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="kept_results/")
    assert stored["KeyCount"] == 0


def _run_with(scene: Scene, kill: Kill) -> None:
    scene.alerts()
    started = time.monotonic()
    kill.run_id = scene.client.trigger(DAG)
    time.sleep(max(0, started + kill.moment - time.monotonic()))
    kill.action(scene)
    state = scene.ended(kill.run_id)
    print(f"{kill}: {state}", flush=True)
    subjects = [alert["subject"] for alert in scene.alerts()]
    failures = [subject for subject in subjects if subject.startswith("FAILED")]
    assert len(failures) <= (state == "failed"), f"{kill}: {subjects}"
    if state == "failed":
        assert scene.clear(kill.run_id) == "success", f"{kill}: cleared"
    assert set(scene.states(kill.run_id).values()) <= ENDED, str(kill)
    assert state in FINAL
    for name in NAMES:
        assert scene.query(f"select run_id from analytics.{name}") == [(kill.run_id,)], f"{kill}: {name}"
    # No dbt process is left running.
    wait(lambda: not _dbt(scene), 60)
