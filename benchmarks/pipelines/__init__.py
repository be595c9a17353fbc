"""Benchmarks of the DAGs: a run by a real scheduler beside bare `dbt build`, Cosmos untuned, and the article's design.

They start a stack of their own, and stop it. The alternatives are in alternatives.py.
"""

import statistics
from collections.abc import Callable

from benchmarks import Figure
from benchmarks.pipelines.memory import watched
from benchmarks.pipelines.parse import parse
from benchmarks.pipelines.projects import Size
from benchmarks.pipelines.scene import Scene, Taken, staged

_TINY = Size("tiny", 20, 0, 4)
_SLOW = Size("slow", 100, 2, 8)
_MANY = Size("many", 200, 0, 4)
_BARE, _WATCHER, _LOCAL = "dbt build", "Cosmos's WATCHER, untuned", "the article's design, one dbt process a task, once"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; takes about twenty minutes.

    Raises:
        SetupError: a stand-in did not start, or a run failed.
    """
    say("starting a stack")
    with staged([(_TINY, ["watcher", "local"]), (_SLOW, ["watcher"]), (_MANY, [])]) as scene:
        state = scene.settings.state
        return [
            *_tiny(scene, say),
            *_slow(scene, say),
            *_memory(scene, say),
            *parse(state / "parse", state / "venvs" / "mwaa" / "bin" / "python", say),
        ]


def _tiny(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Models that take no time, to measure the overhead of Airflow and dbt."""
    bare, ours, watcher = in_turn(
        3,
        lambda: _bare(scene, _TINY, say),
        lambda: _dag(scene, "tiny", _TINY, say),
        lambda: _dag(scene, "tiny_watcher", _TINY, say),
    )
    local = _dag(scene, "tiny_local", _TINY, say)
    name = f"{_TINY.models} tiny models with a test each"
    last = f"{name}: until the last model is built"
    return [
        Figure(f"{name}: DAG run (must: 4)", ours.run, "s", _BARE, bare.run, 2.5),
        Figure(f"{name}: DAG run", ours.run, "s", _WATCHER, watcher.run),
        Figure(f"{name}: DAG run", ours.run, "s", _LOCAL, local.run),
        Figure(f"{last} (must: 2.5)", ours.models, "s", _BARE, bare.models, 1.8),
        Figure(last, ours.models, "s", _WATCHER, watcher.models),
        Figure(last, ours.models, "s", _LOCAL, local.models),
        *where_it_goes(f"{_TINY.models} tiny models", ours),
    ]


def _slow(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Models that the warehouse takes its time for. One process a task would take half an hour: not measured."""
    bare, ours = in_turn(2, lambda: _bare(scene, _SLOW, say), lambda: _dag(scene, "slow", _SLOW, say))
    watcher = _dag(scene, "slow_watcher", _SLOW, say)
    models = f"{_SLOW.models} models of {_SLOW.seconds:g} s"
    name = f"{models} and their tests, {_SLOW.threads} threads: DAG run"
    return [
        Figure(f"{name} (must: 1.8)", ours.run, "s", _BARE, bare.run, 1.25),
        Figure(name, ours.run, "s", f"{_WATCHER}, once", watcher.run),
        *where_it_goes(models, ours),
    ]


def _memory(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Memory of all processes of the stack, the warehouse's and AWS's included, all along a run."""
    with watched(scene.settings.state) as idle:
        pass
    with watched(scene.settings.state) as peak:
        _dag(scene, "many", _MANY, say)
    name = f"peak memory of the whole run, {_MANY.models} models"
    return [
        Figure(f"{name} (must: 3 GB)", peak.value / 1e9, "GB", goal=2),
        Figure(name, peak.value / 1e9, "GB", "the same processes before it", idle.value / 1e9),
    ]


def in_turn(times: int, *measured: Callable[[], Taken]) -> list[Taken]:
    """Measure several things in turn, so that a change of the machine's speed meets all; return their medians."""
    rounds = [[one() for one in measured] for _ in range(times)]
    return [median(list(taken)) for taken in zip(*rounds, strict=True)]


def median(taken: list[Taken]) -> Taken:
    """The median of each part."""
    return Taken(*(statistics.median(parts) for parts in zip(*(vars(one).values() for one in taken), strict=True)))


def where_it_goes(name: str, ours: Taken) -> list[Figure]:
    """The parts that a run's time is made of, one after another: the profile of a goal that is not met."""
    ends = [
        ("of it the audit group", ours.audit),
        ("then dbt's start, until the first model begins", ours.first),
        ("then the models", ours.models),
        ("then their tests and the audit rows, until dbt is over", ours.dbt),
        ("then the sensors that come after dbt, and the check", ours.run),
    ]
    starts = [0.0, *(end for _, end in ends)]
    return [Figure(f"{name}, {part}", end - start, "s") for (part, end), start in zip(ends, starts, strict=False)]


def _bare(scene: Scene, size: Size, say: Callable[[str], None]) -> Taken:
    say(f"dbt build of {size.models} models")
    return scene.bare(size)


def _dag(scene: Scene, dag_id: str, size: Size, say: Callable[[str], None]) -> Taken:
    say(f"a run of {dag_id}, {size.models} models")
    return scene.dag(dag_id, size)
