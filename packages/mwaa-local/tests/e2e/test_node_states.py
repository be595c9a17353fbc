"""What people see of a run's nodes on a real scheduler: failures, selections, cleared tasks, a paused DAG."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mwaa_local.mwaa.api import FINAL
from mwaa_local.stack import connect
from mwaa_local.testing.scene import CHECK, DAG, ENDED, PRODUCER, Scene, running, wait

# Time for the stand-ins and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GROUP = "transform_data."
RUN = '\'{{ env_var("AIRFLOW_CTX_DAG_RUN_ID", "") }}\' as run_id'
TABLE = "{{ config(materialized='table') }} "
SWITCHES = "{{ source('landing', 'switches') }}"
MODELS = {
    # Fails while `divisor` is 0.
    "root.sql": f"{TABLE}select 1 / divisor as id, {RUN} from {SWITCHES}",
    "leaf.sql": f"{TABLE}select id, {RUN} from {{{{ ref('root') }}}}",
    # Its test fails unless `quality` is 1.
    "tested.sql": f"{TABLE}select quality as id, {RUN} from {SWITCHES}",
    "after_test.sql": f"{TABLE}select id, {RUN} from {{{{ ref('tested') }}}}",
    "apart.sql": f"{TABLE}select 1 as id, {RUN}",
    "properties.yml": """
sources:
  - name: landing
    tables: [{name: switches, columns: [{name: key, data_tests: [not_null]}]}]
models:
  - {name: leaf, columns: [{name: id, data_tests: [not_null]}]}
  - {name: tested, columns: [{name: id, data_tests: [{accepted_values: {arguments: {values: [1], quote: false}}}]}]}
""",
}
NODES = {"root_run", "leaf.run", "leaf.test", "tested.run", "tested.test", "after_test_run", "apart_run"}
MODEL_NAMES = {"root", "leaf", "tested", "after_test", "apart"}
ALL_SUCCEED = dict.fromkeys(NODES, "success")
NOT_NULL_LEAF, VALUES_OF_TESTED = "not_null_leaf_id", "accepted_values_tested_id__False__1"

# The change to the switches, the nodes that do not succeed, with words of their logs, and the subject of the alert.
FAILURES: dict[str, tuple[str, dict[str, str], str]] = {
    "a model fails": (
        "divisor = 0",
        {
            "root_run": "division by zero",
            "leaf.run": f"Not run, because {GROUP}root_run failed",
            "leaf.test": f"Not run, because {GROUP}",
        },
        "model.flights.root",
    ),
    "a test fails": (
        "quality = 2",
        {
            "tested.test": "Got 1 result, configured to fail if != 0",
            "after_test_run": f"Not run, because {GROUP}tested.test failed",
        },
        VALUES_OF_TESTED,
    ),
    "a test of a source fails": (
        "key = null",
        {
            "root_run": "model.flights.root is not run again, because test.flights.source_not_null",
            "leaf.run": f"Not run, because {GROUP}root_run failed",
            "leaf.test": f"Not run, because {GROUP}",
            "tested.run": "model.flights.tested is not run again, because test.flights.source_not_null",
            "tested.test": f"Not run, because {GROUP}tested.run failed",
            "after_test_run": f"Not run, because {GROUP}tested.",
        },
        "source_not_null_landing_switches_key",
    ),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("states"), MODELS, {}) as scene:
        scene.query("create table landing.switches as select 1 as divisor, 1 as quality, 1 as key", "awsuser")
        yield scene


def node_states(scene: Scene, run_id: str) -> dict[str, str | None]:
    states = scene.states(run_id)
    return {node: states[f"{GROUP}{node}"] for node in NODES}


def built_by(scene: Scene, run_id: str) -> set[str]:
    """Return the models whose table was built by a run."""
    return {name for name in MODEL_NAMES if scene.query(f"select run_id from analytics.{name}") == [(run_id,)]}


def times_audited(scene: Scene, run_id: str) -> Counter[str]:
    """Return how often a run built each node, by name."""
    query = f"select name from analytics.audit_table where airflow_run_id = '{run_id}' and resource_type <> 'operation'"
    return Counter(name for (name,) in scene.query(query))


def trigger(scene: Scene, **conf: Any) -> str:
    return scene.client.call("POST", f"/dags/{DAG}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]


def clear(scene: Scene, run_id: str, **which: Any) -> str:
    """Clear tasks of a run as its page in Airflow does. Return the run's state at the end."""
    body = {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "dag_run_id": run_id, **which}
    assert scene.client.call("POST", f"/dags/{DAG}/clearTaskInstances", body)["total_entries"]
    wait(lambda: scene.client.run_state(DAG, run_id) not in FINAL, 60)
    return scene.ended(run_id)


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FAILURES)
def test_nodes_end_with_the_cause_and_succeed_once_it_is_gone(scene: Scene, case: str) -> None:
    change, unsuccessful, subject = FAILURES[case]
    scene.alerts()
    scene.query(f"update landing.switches set {change}", "awsuser")
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id) == "failed"
    assert node_states(scene, run_id) == ALL_SUCCEED | dict.fromkeys(unsuccessful, "failed")
    for node, words in unsuccessful.items():
        assert words in scene.log(run_id, f"{GROUP}{node}"), node
    (alert,) = scene.alerts()
    assert subject in alert["subject"] + alert["message"]

    scene.query("update landing.switches set divisor = 1, quality = 1, key = 1", "awsuser")
    if case == "a test fails":
        # The test alone would read the same table again.
        assert scene.clear(run_id) == "failed"
        assert scene.alerts() == []
        assert clear(scene, run_id, task_ids=[f"{GROUP}tested.run"], include_downstream=True) == "success"
    else:
        assert scene.clear(run_id) == "success"
    assert node_states(scene, run_id) == ALL_SUCCEED
    assert built_by(scene, run_id) == MODEL_NAMES
    # The task of the alert is downstream of the cleared node. Clearing the failed tasks does not clear it.
    assert [alert["subject"] for alert in scene.alerts()] == ([f"OK AGAIN {DAG}"] if case == "a test fails" else [])


# --- select, clear and pause ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_id(scene: Scene) -> str:
    """A run that has succeeded. The tests clear it again and again."""
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id) == "success"
    assert node_states(scene, run_id) == ALL_SUCCEED
    return run_id


def test_cleared_run_builds_every_node_again_in_one_process(scene: Scene, run_id: str) -> None:
    before = times_audited(scene, run_id)
    assert clear(scene, run_id) == "success"
    assert node_states(scene, run_id) == ALL_SUCCEED
    nodes = (*MODEL_NAMES, NOT_NULL_LEAF, VALUES_OF_TESTED)
    assert {(before[name], times_audited(scene, run_id)[name]) for name in nodes} == {(1, 2)}
    query = f"select distinct airflow_task_id from analytics.audit_table where airflow_run_id = '{run_id}'"
    assert (PRODUCER,) in (tasks := scene.query(query))
    assert not [task for (task,) in tasks if task.endswith(("run", "test"))]
    assert built_by(scene, run_id) == MODEL_NAMES


def test_nodes_that_a_selection_leaves_out_succeed_and_are_not_built(scene: Scene, run_id: str) -> None:
    assert built_by(scene, run_id) == MODEL_NAMES
    selected = trigger(scene, select=["apart"])
    assert scene.ended(selected) == "success"
    assert node_states(scene, selected) == ALL_SUCCEED
    assert built_by(scene, selected) == {"apart"}
    assert built_by(scene, run_id) == MODEL_NAMES - {"apart"}


def test_cleared_node_is_built_again_alone(scene: Scene, run_id: str) -> None:
    before = times_audited(scene, run_id)
    assert clear(scene, run_id, task_ids=[f"{GROUP}apart_run"]) == "success"
    assert node_states(scene, run_id) == ALL_SUCCEED
    assert times_audited(scene, run_id) == before + Counter(["apart"])


def test_nodes_downstream_of_a_cleared_node_are_built_again(scene: Scene, run_id: str) -> None:
    before = times_audited(scene, run_id)
    assert clear(scene, run_id, task_ids=[f"{GROUP}root_run"], include_downstream=True) == "success"
    assert node_states(scene, run_id) == ALL_SUCCEED
    assert times_audited(scene, run_id) == before + Counter(["root", "leaf", NOT_NULL_LEAF])


def test_paused_dag_finishes_its_nodes_and_the_rest_after_it_is_unpaused(scene: Scene) -> None:
    with contextlib.closing(connect(scene.settings, "awsuser", scene.passwords.awsuser)) as connection:
        connection.cursor().execute("lock landing.switches")
        run_id = scene.client.trigger(DAG)
        wait(lambda: scene.dbt_at_work(1), 120)
        scene.client.call("PATCH", f"/dags/{DAG}", {"is_paused": True})
        connection.rollback()
    wait(lambda: scene.states(run_id)[PRODUCER] in ENDED, 120)
    wait(lambda: node_states(scene, run_id) == ALL_SUCCEED, 60)
    assert (scene.client.run_state(DAG, run_id), scene.states(run_id)[CHECK]) == ("running", None)
    scene.client.call("PATCH", f"/dags/{DAG}", {"is_paused": False})
    assert scene.ended(run_id) == "success"
    assert built_by(scene, run_id) == MODEL_NAMES
