"""The task that runs dbt hands status, rows and seconds of each node to the node's own task."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TaskInstance
from sensor_run import MODEL, PRODUCER, Run

from mwaa_pipelines.node_outcomes import NodeOutcomes, outcome_key
from mwaa_pipelines.parameters import prepare

ORDERS, ITEMS = "model.shop.orders", "model.shop.items"


def result(kind: str, unique_id: str, node_status: str, **data: Any) -> str:
    """A line of dbt's output, as dbt 1.11 writes it with --log-format json."""
    node = {"unique_id": unique_id, "resource_type": unique_id.split(".")[0], "node_status": node_status}
    return json.dumps(
        {"info": {"name": f"Log{kind}Result"}, "data": {"execution_time": 0.454, "node_info": node, **data}}
    )


@pytest.fixture
def outcomes() -> NodeOutcomes:
    return NodeOutcomes({ORDERS: ["test.shop.one", "test.shop.two"], ITEMS: ["test.shop.two"]})


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (result("Model", ORDERS, "success", status="SELECT 16"), f"{ORDERS}: success, SELECT 16, 0.45 s"),
        (result("Model", ORDERS, "error", status="ERROR"), f"{ORDERS}: error, 0.45 s"),
        (
            result("Seed", "seed.shop.s", "success", status="success", result_message="INSERT 5"),
            "seed.shop.s: success, INSERT 5, 0.45 s",
        ),
        (result("Function", "function.shop.f", "success", status="success"), "function.shop.f: success, 0.45 s"),
    ],
)
def test_outcome_of_a_node_is_pushed(outcomes: NodeOutcomes, ti: TaskInstance, line: str, outcome: str) -> None:
    outcomes.read(line, ti)
    assert ti.xcom_pull(key=outcome_key(outcome.split(":")[0], of_tests=False)) == [outcome]


def test_outcome_of_a_failed_node_has_the_error_of_dbts_log(
    outcomes: NodeOutcomes, ti: TaskInstance, tmp_path: Path
) -> None:
    outcomes.log_file = tmp_path / "dbt.log"
    failed = [result("Model", node, "error", status="ERROR") for node in (ORDERS, ITEMS)]

    def error(node: str, text: str) -> str:
        return json.dumps(
            {"info": {"name": "CatchableExceptionOnRun"}, "data": {"exc": text, "node_info": {"unique_id": node}}}
        )

    outcomes.log_file.write_text(f"not JSON\n{error(ITEMS, 'no items')}\n{error(ORDERS, 'division by zero')}\n{{")
    outcomes.read(failed[0], ti)
    assert ti.xcom_pull(key=outcome_key(ORDERS, of_tests=False)) == [f"{ORDERS}: error, 0.45 s\n  division by zero"]
    outcomes.read(failed[1], ti)
    assert ti.xcom_pull(key=outcome_key(ITEMS, of_tests=False)) == [f"{ITEMS}: error, 0.45 s\n  no items"]


def test_outcomes_of_a_nodes_tests_are_pushed_together(outcomes: NodeOutcomes, ti: TaskInstance) -> None:
    outcomes.read(result("Test", "test.shop.two", "fail", status="fail", num_failures=3), ti)
    two = "test.shop.two: fail, 3 rows, 0.45 s"
    assert ti.xcoms == {("dbt_check", outcome_key(ITEMS, of_tests=True)): [two]}
    outcomes.read(result("Test", "test.shop.one", "pass", status="pass", num_failures=0), ti)
    assert ti.xcom_pull(key=outcome_key(ORDERS, of_tests=True)) == [two, "test.shop.one: pass, 0.45 s"]


@pytest.mark.parametrize("line", ["", "LogModelResult", '{"info": {"name": "LogModelResult"}}', '"LogModelResult"'])
def test_lines_without_a_result_are_ignored(outcomes: NodeOutcomes, ti: TaskInstance, line: str) -> None:
    outcomes.read(line, ti)
    assert ti.xcoms == {}


def test_outcome_is_pushed_before_the_status_while_dbt_runs(run: Run) -> None:
    run.dbt(code=0, output=result("Model", MODEL, "success", status="SUCCESS"))
    task = run.task(PRODUCER)
    prepare(run.context)
    task.execute(run.context)
    keys = [key for _, key in run.ti.pushed if key.startswith("model__")]
    assert keys[:2] == ["model__flights__departures_outcome", "model__flights__departures_status"]
    assert run.ti.xcom_pull(key=outcome_key(MODEL, of_tests=False)) == [f"{MODEL}: success, 0.45 s"]
