"""What runs a task is killed in mid-run: the run ends red with one alert, and green once what failed is cleared."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.aws import seed
from local.mwaa.api import FINAL, Airflow
from local.processes import marked_processes
from local.settings import Passwords
from local.stack import connect, rows
from tests.fixtures.checkout import Checkout, copy_repository, new_checkout

# Stand-ins and several runs, beside whatever else the machine does.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

DAG = "flights_pipeline"
PRODUCER = "transform_data.dbt_producer_watcher"
UNWANTED = ("models/staging", "models/marts", "seeds", "snapshots", "analyses")
MODELS = {
    "one": "{{ config(materialized='table') }} select 1 as id",
    # Keeps dbt busy until it is killed.
    "slow": """{{ config(materialized='table') }}
with digits as ({% for digit in range(10) %}select {{ digit }} as d{{ ' union all ' if not loop.last }}{% endfor %})
select count(*) as id from digits as a
{%- for name in 'bcdefgh' %} cross join digits as {{ name }}{% endfor %}""",
    "reader": "{{ config(bind=false) }} select id from {{ ref('slow') }}",
}


class Scene:
    """Running stand-ins with a small project, and a client of Airflow."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.airflow: Airflow

    def up(self) -> None:
        done = self.checkout.command("up")
        assert done.returncode == 0, done.stdout + done.stderr
        passwords = Passwords.load(self.checkout.state)
        self.airflow = Airflow(self.checkout.settings.airflow_port, passwords.airflow_admin)

    def wait(self, there: Callable[[], Any], seconds: float = 900) -> Any:
        until = time.monotonic() + seconds
        while not (found := there()):
            assert time.monotonic() < until
            time.sleep(0.5)
        return found

    def dbt_at_work(self) -> psutil.Process | None:
        """The dbt process that builds everything, once it has finished a node."""
        for process in marked_processes(self.checkout.state):
            with contextlib.suppress(psutil.Error, OSError):
                command = process.cmdline()
                log = Path(process.cwd(), "logs", "dbt.log")
                if "build" in command and "--exclude" in command and '"NodeFinished"' in log.read_text():
                    return process
        return None

    def ended(self, run_id: str) -> str:
        return self.wait(lambda: (state := self.airflow.run_state(DAG, run_id)) in FINAL and state)

    def states(self, run_id: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.tasks(DAG, run_id)}

    def clear(self, run_id: str) -> str:
        """Clear what failed, as people are told to, and return how the run ends then."""
        which = {"dry_run": False, "only_failed": True, "reset_dag_runs": True, "dag_run_id": run_id}
        self.airflow.call("POST", f"/dags/{DAG}/clearTaskInstances", which)
        self.wait(lambda: self.airflow.run_state(DAG, run_id) not in FINAL, 60)
        return self.ended(run_id)

    def query(self, statement: str) -> list[Any]:
        passwords = Passwords.load(self.checkout.state)
        with contextlib.closing(connect(self.checkout.settings, "dbt_user", passwords.dbt_user)) as connection:
            return rows(connection, statement)[1]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    repository = copy_repository(tmp_path / "copy")
    project = repository / "dbt_project"
    for name in UNWANTED:
        shutil.rmtree(project / name, ignore_errors=True)
    for test in (project / "tests").glob("*.sql"):
        test.unlink()
    for name, sql in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(sql)
    with (repository / "startup.sh").open("a") as startup:
        # Otherwise Airflow takes five minutes to believe that a task is gone.
        for name, seconds in (("TIMEOUT", 20), ("TIMEOUT_DETECTION_INTERVAL", 5)):
            startup.write(f"export AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_{name}={seconds}\n")
    pipelines = repository / "dags" / "pipelines.yml"
    pipelines.write_text(pipelines.read_text().replace("retry_delay_seconds: 30", "retry_delay_seconds: 1"))
    made = Scene(new_checkout(tmp_path / "state", repository))
    try:
        made.up()
        yield made
    finally:
        made.checkout.command("down")


def kill_the_worker(dbt: psutil.Process) -> None:
    """As when a worker's memory runs out: dbt and the two Airflow processes above it are gone."""
    above = [process for process in dbt.parents() if "scheduler" not in " ".join(process.cmdline())]
    own = [process for process in above if "airflow" in " ".join(process.cmdline())]
    assert own
    for process in [*own, dbt]:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)


def test_a_run_whose_worker_is_killed_ends_red_with_one_alert_and_green_once_cleared(scene: Scene) -> None:
    run_id = scene.airflow.trigger(DAG)
    kill_the_worker(scene.wait(scene.dbt_at_work, 300))
    assert scene.ended(run_id) == "failed"
    states = scene.states(run_id)
    assert states[PRODUCER] == "failed"
    # Nothing waits for ever.
    assert set(states.values()) <= {"success", "failed", "skipped", "upstream_failed"}
    (alert,) = seed.read_alerts(scene.checkout.settings)
    assert alert["subject"].startswith("FAILED flights_pipeline: ")
    assert PRODUCER in alert["message"]

    assert scene.clear(run_id) == "success"
    assert scene.query("select id from analytics.one") == [(1,)]
    assert len(scene.query("select id from analytics.reader")) == 1
    audited = f"select name from analytics.audit_table where airflow_run_id = '{run_id}' and status = 'success'"
    assert {"one", "slow", "reader"} <= {name for (name,) in scene.query(audited)}
    # The task that sent the alert had succeeded, and was not cleared: one alert a run.
    assert seed.read_alerts(scene.checkout.settings) == []
