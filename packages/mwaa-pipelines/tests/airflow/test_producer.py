"""The task that runs dbt for all nodes does so again only if all nodes are cleared with it."""

import pytest
from sensor_run import PRODUCER, Run

from mwaa_pipelines.compatibility import AirflowSkipException

DEPARTURES = "transform_data.departures.run"


def execute(run: Run, try_number: int, max_tries: int) -> None:
    task = run.task(PRODUCER, try_number)
    run.ti.max_tries = max_tries
    task.execute(run.context)


def test_first_try_builds_all_nodes(run: Run) -> None:
    execute(run, 1, 0)
    (command,) = run.commands()
    assert command[:3] == ["build", "--exclude", "tag:audit tag:audit_view"]


def test_cleared_run_builds_all_nodes_again(run: Run) -> None:
    run.ti.states[DEPARTURES] = "deferred"
    execute(run, 2, 1)
    assert [command[0] for command in run.commands()] == ["build"]


def test_cleared_task_is_skipped_if_a_node_has_succeeded(run: Run) -> None:
    run.ti.states[DEPARTURES] = "success"
    with pytest.raises(AirflowSkipException, match="The task of each failed node runs it"):
        execute(run, 2, 1)
    assert run.commands() == []


@pytest.mark.parametrize(("try_number", "max_tries"), [(2, 0), (3, 1)])
def test_task_that_airflow_starts_again_is_skipped(run: Run, try_number: int, max_tries: int) -> None:
    # The worker that Airflow has lost may still run dbt.
    with pytest.raises(AirflowSkipException):
        execute(run, try_number, max_tries)
    assert run.commands() == []
