"""On a real scheduler, a paused DAG causes an alert, and its next run says OK AGAIN."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mwaa_local.testing.monitoring import check, deploy_overdue_runs, write_memory
from mwaa_local.testing.scene import DAG, Scene, running, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Two hours ago, whatever the time is.
DUE = (datetime.now(UTC) - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
MODELS = {"one.sql": "{{ config(materialized='table') }} select 1 as id"}


class Scheduled(Scene):
    """A scene whose pipeline was due two hours ago. Airflow pauses new DAGs, as on MWAA."""

    settings_of_pipeline = f'schedule: "0 {DUE.hour} * * *"\n    overdue_minutes: 60'


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("overdue")
    with running(folder, MODELS, {}, Scheduled) as running_scene:
        deploy_overdue_runs(running_scene.settings, folder)
        yield running_scene


def test_paused_dag_causes_one_alert_until_its_run_succeeds(scene: Scene) -> None:
    assert scene.client.call("GET", f"/dags/{DAG}")["is_paused"]
    # The first check gives a new pipeline time.
    assert check(scene.settings) == (False, {})
    write_memory(scene.settings, {DAG: {"known_since": "2026-01-01T00:00:00+00:00"}})
    assert check(scene.settings) == (False, {DAG: "overdue"})
    (alert,) = scene.alerts()
    assert alert["subject"] == f"OVERDUE {DAG}"
    assert f"Run due:      {DUE.isoformat()}" in alert["message"]
    assert "Last success: none" in alert["message"]
    assert check(scene.settings) == (False, {})

    scene.client.call("PATCH", f"/dags/{DAG}", {"is_paused": False})
    # The scheduler starts the run that was due.
    runs = wait(lambda: scene.client.call("GET", f"/dags/{DAG}/dagRuns")["dag_runs"], 60)
    assert [run["run_type"] for run in runs] == ["scheduled"]
    assert scene.ended(runs[0]["dag_run_id"]) == "success"
    assert check(scene.settings) == (False, {DAG: "recovered"})
    assert [alert["subject"] for alert in scene.alerts()] == [f"OK AGAIN {DAG}"]
    assert check(scene.settings) == (False, {})
