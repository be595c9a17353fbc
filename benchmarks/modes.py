"""Benchmarks of execution modes: the same projects under watcher, ecs and serverless, beside `dbt build`.

One after the other in one stack: the stand-ins of ECS and MWAA Serverless run dbt on the same CPUs as Airflow.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import Figure
from benchmarks.pipelines import interleaved_runs, run_profile
from benchmarks.pipelines.memory import of_tasks, peak_memory
from benchmarks.pipelines.projects import MODES, SERVERLESS_MODELS, WATCHER, Size
from benchmarks.pipelines.scene import RunTimes, Scene
from benchmarks.pipelines.stage import staged
from mwaa_local.aws.seed_ecs import stopped_tasks, task_events
from mwaa_local.target import ECS, SERVERLESS

_BARE = "dbt build, target kept"
# In the runner's log, before it logs in and starts dbt.
_RELEASE_COPIED = "Release "


@dataclass(frozen=True)
class Case:
    """A project to measure.

    Args:
        size: of the project; its name is the beginning of the pipelines' names.
        rounds: the number of runs in each mode.
        modes: the execution modes.
    """

    size: Size
    rounds: int
    modes: tuple[str, ...] = tuple(MODES)

    def size_in(self, mode: str) -> Size:
        """Return the project of one mode, which has its own schema and login."""
        return replace(self.size, name=f"{self.size.name}_{mode}", mode=mode)


@dataclass(frozen=True)
class Start:
    """Seconds that the start of dbt takes in a task of ECS, as medians of all tasks.

    Attributes:
        container: from RunTask until the container runs.
        runner: from there until the runner has copied the release.
    """

    container: float
    runner: float


# The stand-in runs the tasks of a workflow one after the other, each with its own dbt process: with a task for each of
# 100 models, that would take 20 minutes.
CASES = (
    Case(Size("tiny", 20, 0, 4), 3),
    Case(Size("slow", 100, 2, 8), 2, (WATCHER, ECS, SERVERLESS)),
)


def run(say: Callable[[str], None], cases: Sequence[Case] = CASES) -> list[Figure]:
    """Measure the modes. This takes about 25 minutes.

    Args:
        say: shows the progress.
        cases: the projects to measure.

    Raises:
        SetupError, DeployError: a stand-in did not start, or a run failed.
    """
    say("starting a stack, and installing the Airflow of MWAA Serverless")
    with staged([(case.size_in(mode), []) for case in cases for mode in case.modes]) as scene:
        return [figure for case in cases for figure in _measure(scene, case, say)]


def _measure(scene: Scene, case: Case, say: Callable[[str], None]) -> list[Figure]:
    def one(mode: str) -> RunTimes:
        size = case.size_in(mode)
        say(f"a run of {size.name}, {size.models} models")
        return scene.workflow(size) if size.is_workflow else scene.dag(size.name, size)

    def bare() -> RunTimes:
        say(f"dbt build of {case.size.models} models")
        return scene.bare(case.size_in(WATCHER))

    # The first runs of a release parse the project and create the audit trail, so only their memory is measured.
    memory: dict[str, float] = {}
    for mode in (WATCHER, ECS):
        with peak_memory(scene.settings.state, tasks=of_tasks) as peak:
            one(mode)
        memory[mode] = peak.values["tasks"] / 1e6
    bare()
    measured = [mode for mode in case.modes if mode != SERVERLESS_MODELS]
    bare_times, *times = interleaved_runs(case.rounds, bare, *(partial(one, mode) for mode in measured))
    by_mode = dict(zip(measured, times, strict=True))
    if SERVERLESS_MODELS in case.modes:
        by_mode[SERVERLESS_MODELS] = one(SERVERLESS_MODELS)
    dag_id = case.size_in(ECS).name
    tasks = [task for task in stopped_tasks(scene.settings) if task["startedBy"].startswith(f"{dag_id}/")]
    start = ecs_start([(task, task_events(scene.settings, task["taskArn"])) for task in tasks])
    return figures(case.size, bare_times, by_mode, start, memory)


def ecs_start(tasks: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]]) -> Start:
    """Return the medians of tasks.

    Args:
        tasks: as DescribeTasks returns them, each with its log as GetLogEvents returns it.
    """
    container = [(task["startedAt"] - task["createdAt"]).total_seconds() for task, _ in tasks]
    runner = [
        next(event["timestamp"] for event in log if _RELEASE_COPIED in event["message"]) / 1000
        - task["startedAt"].timestamp()
        for task, log in tasks
    ]
    return Start(statistics.median(container), statistics.median(runner))


def figures(
    size: Size, bare: RunTimes, by_mode: dict[str, RunTimes], start: Start, memory: dict[str, float]
) -> list[Figure]:
    """Return the figures of a project.

    Args:
        size: of the project.
        bare: the times of `dbt build`.
        by_mode: the times of the runs.
        start: of tasks of ECS.
        memory: of a worker in MB, with watcher and ecs.
    """
    models = f"{size.models} {f'models of {size.seconds:g} s' if size.seconds else 'tiny models'}"
    watcher, ecs = by_mode[WATCHER], by_mode[ECS]
    parts = zip(run_profile(f"{models}, ecs", ecs), run_profile("", watcher), strict=True)
    worker = f"memory of a worker, {models}, ecs"
    return [
        *(Figure(f"{models}, {mode}", times.run, "s", _BARE, bare.run) for mode, times in by_mode.items()),
        Figure(
            f"{models}, ecs without the container's start", ecs.run - start.container, "s", WATCHER, watcher.run, 1.1
        ),
        Figure(f"container's start, {models}: from RunTask until it runs", start.container, "s"),
        Figure(f"runner's start, {models}: until it has the files of the release", start.runner, "s"),
        *(Figure(part.name, part.value, "s", WATCHER, other.value) for part, other in parts),
        Figure(worker, memory[ECS], "MB", goal=150),
        Figure(worker, memory[ECS], "MB", f"{WATCHER}, without dbt", memory[WATCHER]),
    ]
