"""In a large project, one sensor watches the nodes of a folder, and runs those again that did not succeed."""

from typing import Any

import pytest
from conftest import DAGS, DagBag, serialized
from sensor_run import MODEL, PRODUCER, Run, deferral

from mwaa_pipelines import folders
from mwaa_pipelines.compatibility import AirflowException, AirflowFailException
from mwaa_pipelines.node_ids import CHOSEN, LEFT_OUT
from mwaa_pipelines.node_outcomes import xcom_key
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.run_outcome import nodes_to_report
from mwaa_pipelines.sensor_kinds import FolderSensor
from mwaa_pipelines.sensors import STARTS_IN_TRIGGERER

MARTS, STAGING, SEEDS, SNAPSHOTS = (
    f"transform_data.{path}" for path in ("models.marts", "models.staging", "seeds", "snapshots")
)
# A test of another folder would also read these models.
BUILD = ["build", "--indirect-selection", "empty", "--select", CHOSEN]


def built(run: Run) -> list[set[str]]:
    """The nodes that each dbt command builds."""
    assert run.commands() == [BUILD] * len(run.commands())
    return [set(ids[CHOSEN]) for ids in run.selected()]


@pytest.fixture
def dag(dag: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sample's DAG if it were large."""
    monkeypatch.setattr(folders, "MOST_TASKS", 10)
    return DagBag(DAGS).dags[dag.dag_id]


def test_each_folder_has_a_task_that_starts_with_the_run(dag: Any, manifest: dict[str, Any]) -> None:
    sensors = {task.task_id: task for task in dag.tasks if isinstance(task, FolderSensor)}
    assert set(sensors) == {MARTS, STAGING, SEEDS, SNAPSHOTS}
    audit = "audit_dbt_task.audit_table_model_build"
    assert sensors[STAGING].upstream_task_ids == {audit}
    assert sensors[MARTS].upstream_task_ids == {STAGING, SEEDS}
    assert dag.get_task("dbt_check").upstream_task_ids == {MARTS, SNAPSHOTS, f"{PRODUCER}_done"}
    watched = [node for task in sensors.values() for node in task.node_ids]
    nodes = manifest["nodes"].values()
    expected = [
        node["unique_id"]
        for node in nodes
        if node["package_name"] != "audit_trail"
        and any(
            parent.startswith(("model.", "seed.", "snapshot."))
            for parent in [node["unique_id"], *node["depends_on"].get("nodes", [])]
        )
    ]
    assert sorted(watched) == sorted(expected)
    producer = dag.get_task(PRODUCER)
    assert producer.watched_together == {task.outcome_key: task.node_ids for task in sensors.values()}
    assert producer.base_cmd == ["build"]
    for task in sensors.values():
        assert task.trigger_rule == ("always" if STARTS_IN_TRIGGERER else "all_success")
        assert task.start_trigger_args.trigger_kwargs["outcome_key"] == task.task_id.removeprefix("transform_data.")
    # The nodes are neither stored nor sent to the triggerer.
    assert MODEL not in str(serialized(dag)["dag"])


def test_folder_without_a_report_names_its_failures_and_then_runs_what_did_not_succeed(run: Run, dag: Any) -> None:
    marts = dag.get_task(MARTS)
    others = [node for node in marts.node_ids if node != MODEL]
    run.producer("failed", {MODEL: "error", others[0]: "skipped", **dict.fromkeys(others[1:], "success")})
    sensor = run.task(MARTS)
    waiting = deferral(lambda: sensor.resume_on_worker(run.context, {"attempt": 1}))
    assert waiting.trigger.serialize()[1]["attempt"] == 2
    run.task(MARTS).resume_on_worker(run.context, {"attempt": 2})
    assert built(run) == [{MODEL, others[0]}]


def test_folder_of_skipped_nodes_fails_if_a_folder_that_it_needs_failed(run: Run) -> None:
    sensor = run.task(MARTS)
    run.producer("failed", {"model.flights.stg_flights": "error", MODEL: "skipped"})
    run.ti.states[STAGING] = "failed"
    with pytest.raises(AirflowFailException, match=r"models\.marts failed, or a task that it needs"):
        sensor.execute(run.context)
    assert run.commands() == []


def test_last_failure_of_a_folder_fails_its_task(run: Run) -> None:
    run.producer("failed", {MODEL: "error"})
    run.dbt(code=1, status="error")
    with pytest.raises(AirflowException):
        run.task(MARTS).resume_on_worker(run.context, {"attempt": 2})


def test_built_folder_ends_without_a_worker_and_a_cleared_one_runs_all_its_nodes(run: Run, dag: Any) -> None:
    marts = dag.get_task(MARTS)
    run.producer("success", dict.fromkeys(marts.node_ids, "success"))
    run.producer("success", **{xcom_key(0): {"models.marts": {"status": "pass", "lines": []}}})
    run.task(MARTS).execute(run.context)
    assert run.commands() == []
    run.task(MARTS, try_number=2).execute(run.context)
    assert built(run) == [set(marts.node_ids)]


def test_retry_runs_only_what_the_earlier_ones_did_not_build(run: Run, dag: Any) -> None:
    marts = dag.get_task(MARTS)
    other = next(node for node in marts.node_ids if node != MODEL)
    passed = [node for node in marts.node_ids if node not in (MODEL, other)]
    # The worker of the task that runs dbt for all was lost.
    run.producer("failed")
    statuses = {other: "error", **dict.fromkeys(passed, "success")}
    run.dbt(code=1, status="error", nodes=statuses, invocation="first")
    sensor = run.task(MARTS)
    sensor.node_retries = 2
    deferral(lambda: sensor.resume_on_worker(run.context, {"attempt": 1}))
    run.dbt(code=1, status="success", nodes={other: "error"}, invocation="second")
    deferral(lambda: sensor.resume_on_worker(run.context, {"attempt": 2}))
    run.dbt(code=0, status="success", nodes={other: "success"}, invocation="third")
    sensor.resume_on_worker(run.context, {"attempt": 3})
    assert built(run) == [set(marts.node_ids), {MODEL, other}, {other}]
    # dbt_check sees the latest result of each node.
    results = {entry["unique_id"]: entry["status"] for entry in run.ti.xcoms[MARTS, RESULTS_KEY]["results"]}
    assert results == dict.fromkeys(marts.node_ids, "success")


def test_cleared_run_runs_only_what_did_not_succeed_again(run: Run, dag: Any) -> None:
    marts = dag.get_task(MARTS)
    run.producer("failed", {**dict.fromkeys(marts.node_ids, "success"), MODEL: "error"}, try_number=2)
    run.task(MARTS, try_number=2).resume_on_worker(run.context, {"attempt": 1})
    assert built(run) == [{MODEL}]


@pytest.mark.parametrize("chosen", [[], ["departures", "weather_delays"]])
def test_interrupted_dbt_leaves_the_nodes_that_it_did_not_reach_to_their_folder(
    run: Run, dag: Any, chosen: list[str]
) -> None:
    marts = dag.get_task(MARTS)
    run.params = {"select": chosen}
    run.dbt(code=2, selected=2)
    with pytest.raises(AirflowException, match="non-zero exit code 2"):
        run.task(PRODUCER).execute(run.context)
    run.ti.states[PRODUCER] = "failed"
    run.dbt(code=0)
    run.task(MARTS).resume_on_worker(run.context, {"attempt": 1})
    _, command = run.commands()
    # dbt decides which of them the run's selection has.
    own = [f"{CHOSEN},departures", f"{CHOSEN},weather_delays", "--exclude"] if chosen else [CHOSEN]
    start = command.index("--select") + 1
    assert command[start : start + 3] == own
    assert run.selected()[1][CHOSEN] == [node for node in marts.node_ids if node != MODEL]


@pytest.mark.parametrize("is_lost", [False, True])
def test_run_with_a_selection_runs_only_selected_nodes_and_their_tests_again(run: Run, dag: Any, is_lost: bool) -> None:
    marts = dag.get_task(MARTS)
    tests = {
        node.unique_id for node in marts.nodes if node.unique_id.startswith("test.") and node.depends_on == [MODEL]
    }
    passed = sorted(tests)[0]
    again = set(marts.node_ids) if is_lost else {MODEL, *tests} - {passed}
    run.params = {"select": ["departures"]}
    skipped = dict.fromkeys(tests, "skipped")
    run.producer("failed", None if is_lost else {**skipped, MODEL: "error", passed: "pass"})
    run.task(MARTS).resume_on_worker(run.context, {"attempt": 2})
    (command,) = run.commands()
    left_out = [] if is_lost else [LEFT_OUT]
    assert command == [
        "build",
        "--select",
        f"{CHOSEN},departures",
        "--exclude",
        *left_out,
        "tag:audit",
        "tag:audit_view",
    ]
    (ids,) = run.selected()
    assert set(ids[CHOSEN]) == again
    # Without them, dbt would also run tests that passed, and those of other folders.
    assert (passed in ids.get(LEFT_OUT, [])) is not is_lost
    # No node of this folder was selected.
    if not is_lost:
        run.task(SEEDS).resume_on_worker(run.context, {"attempt": 1})
        assert len(run.commands()) == 1


def test_lost_worker_leaves_all_nodes_of_a_folder_without_an_outcome_to_its_task(run: Run, dag: Any) -> None:
    run.producer("failed")
    run.task(STAGING).execute(run.context)
    assert built(run) == [set(dag.get_task(STAGING).node_ids)]


def test_failures_of_a_folder_are_reported_by_node(run: Run, dag: Any) -> None:
    tasks = {task.task_id: task for task in dag.tasks if task.task_id.startswith("transform_data.")}
    entry = {"execution_time": 1.0, "message": "broken", "rows": None}
    results = [
        {"unique_id": MODEL, "status": "error", **entry},
        {"unique_id": "model.flights.airports", "status": "success", **entry},
    ]
    process = {
        "results": results,
        "generated_at": "2026-01-01",
        "invocation_id": "i",
        "try_number": 1,
        "is_complete": True,
    }
    run.ti.xcoms[PRODUCER, RESULTS_KEY] = process
    states = {**dict.fromkeys(tasks, "success"), PRODUCER: "failed", MARTS: "failed"}
    failed, _, built = nodes_to_report(run.ti, tasks, states)
    assert [(node["unique_id"], node["status"]) for node in failed] == [(MODEL, "error")]
    assert built == {"model.flights.airports": None}
    # The folder's task built it on a retry.
    fixed = {**process, "generated_at": "2026-01-02", "results": [{**results[0], "status": "success"}], "try_number": 2}
    run.ti.xcoms[MARTS, RESULTS_KEY] = fixed
    states[MARTS] = "success"
    assert nodes_to_report(run.ti, tasks, states)[0] == []
