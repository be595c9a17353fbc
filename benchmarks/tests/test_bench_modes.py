"""The benchmark of execution modes: its pipelines, and calculations with the measured times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import Figure, modes
from benchmarks.modes import CASES, Case, Start, ecs_start, figures
from benchmarks.pipelines.dag_files import write_pipelines
from benchmarks.pipelines.projects import MODES, Size
from benchmarks.pipelines.scene import RunTimes, workflow_times
from benchmarks.pipelines.stage import _dag_ids
from mwaa_pipelines.config_file import read_pipelines

START = datetime(2026, 11, 1, tzinfo=UTC)
SIZE = Size("tiny", 20, 0, 4)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_pipelines_of_all_modes_are_valid_and_share_no_login(tmp_path: Path) -> None:
    sizes = [case.size_in(mode) for case in CASES for mode in case.modes]
    write_pipelines(tmp_path / "pipelines.yml", sizes)
    file = read_pipelines(tmp_path / "pipelines.yml", airflow_version="3.3.1")
    assert file.problems == []
    chosen = {pipeline.dag_name: (pipeline.execution_mode, pipeline.serverless.tasks) for pipeline in file.pipelines}
    assert chosen == {
        "tiny_watcher": ("watcher", "one"),
        "tiny_ecs": ("ecs", "one"),
        "tiny_serverless": ("serverless", "one"),
        "tiny_serverless_models": ("serverless", "models"),
        "slow_watcher": ("watcher", "one"),
        "slow_ecs": ("ecs", "one"),
        "slow_serverless": ("serverless", "one"),
    }
    assert len({pipeline.target_schema for pipeline in file.pipelines}) == len(sizes)
    assert all(pipeline.turns == () for pipeline in file.pipelines)


def test_workflows_are_no_dags() -> None:
    sizes = [Case(SIZE, 1).size_in(mode) for mode in MODES]
    assert _dag_ids([(size, ["bash"] if size.mode == "watcher" else []) for size in sizes]) == [
        "tiny_watcher",
        "tiny_watcher_bash",
        "tiny_ecs",
    ]


def test_times_of_a_workflow_come_from_its_tasks() -> None:
    tasks = [
        {"TaskId": "audit_dbt_task", "EndedAt": after(9)},
        {"TaskId": "transform_data.one", "EndedAt": after(30)},
        {"TaskId": "transform_data.two", "EndedAt": after(20)},
        {"TaskId": "dbt_check", "EndedAt": after(31)},
        {"TaskId": "sns_notification_for_failure"},
    ]
    times = workflow_times(START, tasks, after(15), after(28))
    assert times == RunTimes(run=31, models=28, audit=9, first=15, dbt=30)
    assert workflow_times(START, tasks[1:], after(15), after(28)).audit == 0


def test_start_of_a_container_ends_when_it_runs_and_that_of_the_runner_with_the_release() -> None:
    def task(container: float, copied: float) -> tuple[dict, list[dict]]:
        milliseconds = int(after(copied).timestamp() * 1000)
        log = [
            {"timestamp": milliseconds - 500, "message": "12:00:00  Found credentials"},
            {"timestamp": milliseconds, "message": "12:00:01  Release 20261101T000000Z-1a2b3c4 of tiny: 40 files"},
            {"timestamp": milliseconds + 500, "message": "12:00:02  Release 2 of dbt"},
        ]
        return {"createdAt": START, "startedAt": after(container)}, log

    assert ecs_start([task(30, 32), task(20, 21), task(40, 49)]) == Start(30, 2)


def test_goal_of_ecs_leaves_out_the_start_of_the_container() -> None:
    times = {"watcher": RunTimes(run=10, models=6), "ecs": RunTimes(run=42, models=38)}
    by_name = {
        (figure.name, figure.against): figure
        for figure in figures(SIZE, RunTimes(5, 4), times, Start(30, 1), {"watcher": 150, "ecs": 151})
    }
    ecs = by_name["20 tiny models, ecs without the container's start", "watcher"]
    assert (ecs.ratio, ecs.met) == (1.2, False)
    assert by_name["container's start, 20 tiny models: from RunTask until it runs", None].value == 30
    assert by_name["20 tiny models, ecs", modes._BARE].ratio == 42 / 5
    assert by_name["memory of a worker, 20 tiny models, ecs", None].met is False
    assert _met(times, container=31, memory=150) == [True, True]


def _met(times: dict[str, RunTimes], container: float, memory: float) -> list[bool | None]:
    measured: list[Figure] = figures(SIZE, RunTimes(5, 4), times, Start(container, 1), {"watcher": 150, "ecs": memory})
    return [figure.met for figure in measured if figure.goal is not None]
