"""A large project on a real scheduler: each folder is a task, which runs again what did not succeed."""

from collections import Counter
from collections.abc import Iterator

import pytest

from mwaa_local.testing.scene import DAG, PRODUCER, Scene, running

# Time for the stand-ins and two runs of a large project on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

GROUP = "transform_data.models."
STAGING = [f"stg_{number}" for number in range(240)]
# A view would not fail.
TABLE = "{{ config(materialized='table') }} "
# Fails in the process that builds all nodes, and succeeds when its folder's task runs it again.
FLAKY = (
    TABLE + "select 1 / {{ 0 if env_var('AIRFLOW_CTX_TRY_NUMBER', '1') == '1' else 1 }} as id from {{ ref('stg_0') }}"
)
MODELS = {
    **{f"staging/{name}.sql": "select 1 as id" for name in STAGING},
    "core/flaky.sql": FLAKY,
    "core/root.sql": TABLE + "select 1 / divisor as id from {{ source('landing', 'switch') }}",
    "core/leaf.sql": "select id from {{ ref('root') }}",
    "core/beside.sql": "select 1 as id",
    "reports/report.sql": "select id from {{ ref('leaf') }} union all select id from {{ ref('flaky') }}",
    "apart/alone.sql": "select id from {{ ref('stg_1') }}",
    "properties.yml": """
sources: [{name: landing, tables: [{name: switch}]}]
models:
  - {name: stg_0, columns: [{name: id, data_tests: [not_null]}]}
  - {name: leaf, columns: [{name: id, data_tests: [not_null]}]}
""",
}
FOLDERS = {"staging", "core", "reports", "apart"}
TESTS = {"not_null_stg_0_id", "not_null_leaf_id"}
TEST_OF_LEAF = "not_null_leaf_id"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("folders"), MODELS, {}) as scene:
        scene.query("create table landing.switch as select 1 as divisor", "awsuser")
        yield scene


def test_model_that_recovers_on_retry_lets_the_folders_after_it_run(scene: Scene) -> None:
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id, 600) == "success"
    states = scene.states(run_id)
    assert {task_id.removeprefix(GROUP): state for task_id, state in states.items() if task_id.startswith(GROUP)} == (
        dict.fromkeys(FOLDERS, "success")
    )
    assert states[PRODUCER] == "failed"
    rows = _audit_rows(scene, run_id)
    assert (rows.pop(("flaky", "error")), rows.pop(("report", "skipped"))) == (1, 1)
    # Only what did not succeed ran again.
    assert rows == dict.fromkeys([(name, "success") for name in _models()] + [(test, "pass") for test in TESTS], 1)
    log = scene.log(run_id, f"{GROUP}staging")
    assert "dbt reported pass for models.staging" in log
    assert [name for name in STAGING if f"model.flights.{name}: success" not in log] == []
    assert scene.alerts() == []


def test_failed_folder_is_named_by_its_node_and_runs_when_it_is_cleared(scene: Scene) -> None:
    scene.query("update landing.switch set divisor = 0", "awsuser")
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id, 600) == "failed"
    states = scene.states(run_id)
    expected = {"staging": "success", "core": "failed", "reports": "failed", "apart": "success"}
    assert {folder: states[GROUP + folder] for folder in FOLDERS} == expected
    assert "division by zero" in scene.log(run_id, f"{GROUP}core")
    assert f"Not run, because {GROUP}core failed" in scene.log(run_id, f"{GROUP}reports")
    (alert,) = scene.alerts()
    assert "model.flights.root" in alert["subject"]
    assert "model.flights.flaky" not in alert["message"]

    scene.query("update landing.switch set divisor = 1", "awsuser")
    assert scene.clear(run_id) == "success"
    rows = _audit_rows(scene, run_id)
    # The first process, the retry, and the cleared task.
    assert {status: rows["root", status] for status in ("error", "success")} == {"error": 2, "success": 1}
    # A cleared task builds its whole folder.
    assert rows["beside", "success"] == 2
    assert (rows["report", "success"], rows["alone", "success"], rows["stg_0", "success"]) == (1, 1, 1)
    assert rows[TEST_OF_LEAF, "pass"] == 1


def _models() -> set[str]:
    return {path.rpartition("/")[2].removesuffix(".sql") for path in MODELS if path.endswith(".sql")}


def _audit_rows(scene: Scene, run_id: str) -> Counter[tuple[str, str]]:
    """How many rows of the run each node has with each status, without the audit trail's own nodes."""
    query = f"select name, status from analytics.audit_table where airflow_run_id = '{run_id}'"
    return Counter((name, status) for name, status in scene.query(query) if name in _models() | TESTS)
