"""The task that runs dbt hands status, rows and seconds of each node to the node's own task."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TaskInstance
from sensor_run import MODEL, PRODUCER, Run

from mwaa_pipelines.node_outcomes import OUTCOME_CHARACTERS, PER_XCOM, NodeOutcomes, log_event, read_outcomes, xcom_key
from mwaa_pipelines.parameters import prepare

ORDERS, ITEMS = "model.shop.orders", "model.shop.items"
OF_ORDERS, OF_ITEMS = f"tests of {ORDERS}", f"tests of {ITEMS}"


def result(kind: str, unique_id: str, node_status: str, **data: Any) -> str:
    """A line of dbt's output, as dbt 1.11 writes it with --log-format json."""
    node = {"unique_id": unique_id, "resource_type": unique_id.split(".")[0], "node_status": node_status}
    return json.dumps(
        {"info": {"name": f"Log{kind}Result"}, "data": {"execution_time": 0.454, "node_info": node, **data}}
    )


def pushed(ti: TaskInstance, number: int = 0) -> dict[str, Any]:
    """The outcomes in one of the XComs."""
    return ti.xcoms[ti.task_id, xcom_key(number)]


@pytest.fixture
def outcomes() -> NodeOutcomes:
    return NodeOutcomes({OF_ORDERS: ["test.shop.one", "test.shop.two"], OF_ITEMS: ["test.shop.two"]})


@pytest.mark.parametrize(
    ("line", "status", "outcome"),
    [
        (result("Model", ORDERS, "success", status="SELECT 16"), "success", f"{ORDERS}: success, SELECT 16, 0.45 s"),
        (result("Model", ORDERS, "error", status="ERROR"), "error", f"{ORDERS}: error, 0.45 s"),
        (
            result("Seed", "seed.shop.s", "success", status="success", result_message="INSERT 5"),
            "success",
            "seed.shop.s: success, INSERT 5, 0.45 s",
        ),
        (
            result("Function", "function.shop.f", "success", status="success"),
            "success",
            "function.shop.f: success, 0.45 s",
        ),
    ],
)
def test_outcome_of_a_node_is_pushed(
    outcomes: NodeOutcomes, ti: TaskInstance, line: str, status: str, outcome: str
) -> None:
    outcomes.read(line, ti)
    assert pushed(ti) == {outcome.split(":")[0]: {"status": status, "lines": [outcome]}}


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
    assert pushed(ti)[ORDERS]["lines"] == [f"{ORDERS}: error, 0.45 s\n  division by zero"]
    outcomes.read(failed[1], ti)
    assert pushed(ti)[ITEMS]["lines"] == [f"{ITEMS}: error, 0.45 s\n  no items"]


def test_outcomes_of_a_nodes_tests_are_pushed_together(outcomes: NodeOutcomes, ti: TaskInstance) -> None:
    outcomes.read(result("Test", "test.shop.two", "fail", status="fail", num_failures=3), ti)
    two = "test.shop.two: fail, 3 rows, 0.45 s"
    failed = {OF_ITEMS: {"status": "fail", "lines": [two]}}
    assert pushed(ti) == failed
    outcomes.read(result("Test", "test.shop.one", "pass", status="pass", num_failures=0), ti)
    both = {"status": "fail", "lines": [two, "test.shop.one: pass, 0.45 s"]}
    assert pushed(ti) == {**failed, OF_ORDERS: both}


@pytest.mark.parametrize(
    ("statuses", "status"), [(("pass", "warn"), "pass"), (("pass", "error"), "fail"), (("skipped", "pass"), "fail")]
)
def test_tests_of_a_node_passed_if_each_of_them_passed(
    outcomes: NodeOutcomes, ti: TaskInstance, statuses: tuple[str, str], status: str
) -> None:
    for name, of_test in zip(("one", "two"), statuses, strict=True):
        outcomes.read(result("Test", f"test.shop.{name}", of_test, status=of_test), ti)
    assert pushed(ti)[OF_ORDERS]["status"] == status


def test_outcome_of_thousands_of_nodes_is_short_and_begins_with_the_failed_ones(
    ti: TaskInstance, tmp_path: Path
) -> None:
    nodes = [f"model.shop.m{number:04}" for number in range(3000)]
    outcomes = NodeOutcomes({"models.marts": nodes})
    outcomes.log_file = tmp_path / "dbt.log"
    text = {"exc": "long" * 1000, "node_info": {"unique_id": ""}}
    errors = [
        {"info": {"name": "CatchableExceptionOnRun"}, "data": {**text, "node_info": {"unique_id": node}}}
        for node in nodes[-20:]
    ]
    outcomes.log_file.write_text("".join(f"{json.dumps(error)}\n" for error in errors))
    for node in nodes:
        status = "error" if node in nodes[-20:] else "success"
        outcomes.read(result("Model", node, status, status="x" * 1000 if node == nodes[0] else status), ti)
    outcome = pushed(ti)["models.marts"]
    assert outcome["status"] == "fail"
    assert len(json.dumps(outcome)) < OUTCOME_CHARACTERS * 1.2
    *lines, last = outcome["lines"]
    # All failed nodes, and as many errors as fit.
    assert [line[:16] for line in lines[:20]] == nodes[-20:]
    assert [line.endswith("\n  " + "long" * 1000) for line in lines[:20]] == [True] * 12 + [False] * 8
    assert lines[20] == f"{nodes[0]}: success, {'x' * 500}, 0.45 s"
    assert last == f"... and {len(nodes) - len(lines)} more nodes"


def test_full_xcom_is_followed_by_another(outcomes: NodeOutcomes, ti: TaskInstance) -> None:
    for number in range(PER_XCOM + 1):
        outcomes.read(result("Model", f"model.shop.m{number}", "success", status="SELECT"), ti)
    assert len(pushed(ti)) == PER_XCOM
    assert list(pushed(ti, 1)) == [f"model.shop.m{PER_XCOM}"]
    assert len(read_outcomes(lambda key: ti.xcom_pull(key=key))) == PER_XCOM + 1


@pytest.mark.parametrize("line", ["", "LogModelResult", '{"info": {"name": "LogModelResult"}}', '"LogModelResult"'])
def test_lines_without_a_result_are_ignored(outcomes: NodeOutcomes, ti: TaskInstance, line: str) -> None:
    outcomes.read(line, ti)
    assert ti.xcoms == {}


def test_outcomes_are_pushed_while_dbt_runs(run: Run) -> None:
    run.dbt(code=0, output=result("Model", MODEL, "success", status="SUCCESS"))
    task = run.task(PRODUCER)
    prepare(run.context)
    task.execute(run.context)
    assert run.ti.xcom_pull(key=xcom_key(0))[MODEL]["lines"] == [f"{MODEL}: success, 0.45 s"]
    # Cosmos has keys with the name of each node.
    assert [key for _, key in run.ti.xcoms if "departures" in key] == []


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        ('{"info": {"level": "info", "msg": "1 of 2 OK"}}', [("INFO", "1 of 2 OK")]),
        ('{"info": {"level": "warn", "msg": "100%s stale"}}', [("WARNING", "100%s stale")]),
        ('{"info": {"level": "error", "msg": "broken"}}', [("ERROR", "broken")]),
        ('{"info": {"level": "info", "msg": ""}}', []),
        ("Killed", [("INFO", "Killed")]),
        ("[]", [("INFO", "[]")]),
        ("", []),
    ],
)
def test_log_has_the_messages_of_dbt(
    line: str, logged: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    log_event(line)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == logged
