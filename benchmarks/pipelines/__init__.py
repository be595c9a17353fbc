"""Benchmarks of the DAGs: a run on a real scheduler compared with `dbt build`, default Cosmos, and the article's DAG.

The suite starts and stops its own stack. The alternatives are in alternatives.py.
"""

from collections.abc import Callable

from benchmarks import Figure, Median
from benchmarks.pipelines.memory import of_all, of_tasks, of_triggerer, peak_memory
from benchmarks.pipelines.parse import parse
from benchmarks.pipelines.projects import Size
from benchmarks.pipelines.scene import RunTimes, Scene
from benchmarks.pipelines.stage import staged

_TINY = Size("tiny", 20, 0, 4)
_SLOW = Size("slow", 100, 2, 8)
_MANY = Size("many", 200, 0, 4)
_FAILING = Size("failing", 20, 0, 4, fails=True)
_HUGE = Size("huge", 1000, 0, 8)
_ROUNDS = 5
_BARE, _BASH, _WATCHER = (
    "dbt build, target kept",
    "one BashOperator with dbt build, target kept",
    "Cosmos's WATCHER, untuned",
)
# dbt parses the project, and the audit group creates its tables and views.
_FIRST = "the first of a release"
_LOCAL = "the article's design, one dbt process a task, once"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the DAGs. This takes about 40 minutes.

    Raises:
        SetupError: a stand-in did not start, or a run failed.
    """
    say("starting a stack")
    sizes = [(_TINY, ["bash", "watcher", "local"]), (_SLOW, ["watcher"]), (_MANY, []), (_FAILING, []), (_HUGE, [])]
    with staged(sizes) as scene:
        state = scene.settings.state
        return [
            *_tiny(scene, say),
            _failing(scene, say),
            # Before the others, because the triggerer keeps the memory that it needed once.
            *_huge(scene, say),
            *_slow(scene, say),
            *_memory(scene, say),
            *parse(state / "parse", state / "venvs" / "mwaa" / "bin" / "python", say),
        ]


def _tiny(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Measure the overhead of Airflow and dbt with models that take no time."""
    bare, ours, bash, watcher = interleaved_runs(
        _ROUNDS,
        lambda: _bare(scene, _TINY, say),
        lambda: _dag(scene, "tiny", _TINY, say),
        lambda: _dag(scene, "tiny_bash", _TINY, say),
        lambda: _dag(scene, "tiny_watcher", _TINY, say),
    )
    local = _dag(scene, "tiny_local", _TINY, say)
    name = f"{_TINY.models} tiny models with a test each"
    last = f"{name}: until the last model is built"
    return [
        Figure(f"{name}: DAG run (must: 2.6)", ours.run, "s", _BARE, bare.run, 2.0),
        Figure(f"{name}: DAG run", ours.run, "s", _BASH, bash.run),
        Figure(f"{name}: longer than {_BASH} (must: 6)", ours.run - bash.run, "s", goal=3),
        Figure(f"{name}: DAG run", ours.run, "s", _WATCHER, watcher.run),
        Figure(f"{name}: DAG run", ours.run, "s", _LOCAL, local.run),
        Figure(f"{last} (must: 2.5)", ours.models, "s", _BARE, bare.models, 1.8),
        Figure(last, ours.models, "s", _WATCHER, watcher.models),
        Figure(last, ours.models, "s", _LOCAL, local.models),
        *run_profile(f"{_TINY.models} tiny models", ours),
    ]


def _slow(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Measure models that are slow in the warehouse. The article's DAG is left out, because it takes half an hour."""
    measured = (lambda: _bare(scene, _SLOW, say), lambda: _dag(scene, "slow", _SLOW, say))
    first_bare, first = interleaved_runs(1, *measured)
    bare, ours = interleaved_runs(3, *measured)
    watcher = _dag(scene, "slow_watcher", _SLOW, say)
    models = f"{_SLOW.models} models of {_SLOW.seconds:g} s"
    name = f"{models} and their tests, {_SLOW.threads} threads: DAG run"
    return [
        Figure(f"{name} (must: 1.3)", ours.run, "s", _BARE, bare.run, 1.15),
        Figure(f"{name}, {_FIRST}", first.run, "s", f"{_BARE}, first run", first_bare.run),
        Figure(name, ours.run, "s", f"{_WATCHER}, once", watcher.run),
        *run_profile(models, ours),
    ]


def _failing(scene: Scene, say: Callable[[str], None]) -> Figure:
    """Measure how long people wait for the alert of a run in which a node fails twice."""

    def one() -> float:
        say(f"a run of {_FAILING.models} models that fails")
        return scene.seconds_to_alert(_FAILING)

    taken = Median.of([one() for _ in range(3)])
    return Figure("from the end of the last node to the alert of a failed run (must: 10)", taken, "s", goal=5)


def _memory(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Measure the peak memory of all processes of the stack, and of its tasks, during a run."""
    with peak_memory(scene.settings.state, all=of_all) as idle:
        pass
    with peak_memory(scene.settings.state, all=of_all, tasks=of_tasks) as peak:
        _dag(scene, "many", _MANY, say)
    name = f"peak memory of the whole run, {_MANY.models} models"
    whole, tasks = peak.values["all"], peak.values["tasks"]
    return [
        Figure(f"{name} (must: 3 GB)", whole / 1e9, "GB", goal=2),
        Figure(name, whole / 1e9, "GB", "the same processes before it", idle.values["all"] / 1e9),
        Figure("memory of a worker while a pipeline waits, without dbt (must: 250)", tasks / 1e6, "MB", goal=150),
    ]


def _huge(scene: Scene, say: Callable[[str], None]) -> list[Figure]:
    """Measure the overhead of many nodes. Each run takes minutes, so only the first and the second are measured."""
    first_bare, first = _bare(scene, _HUGE, say), _dag(scene, "huge", _HUGE, say)
    bare = _bare(scene, _HUGE, say)
    with peak_memory(scene.settings.state, triggerer=of_triggerer) as peak:
        ours = _dag(scene, "huge", _HUGE, say)
    nodes = f"{_HUGE.models:,} models with a test each"
    return [
        Figure(f"{nodes}: DAG run, once (must: 1.5)", ours.run, "s", f"{_BARE}, once", bare.run, 1.2),
        Figure(f"{nodes}: DAG run, {_FIRST}", first.run, "s", f"{_BARE}, first run", first_bare.run),
        Figure(f"{nodes}: memory of the triggerer (must: 800)", peak.values["triggerer"] / 1e6, "MB", goal=500),
        *run_profile(nodes, ours),
    ]


def interleaved_runs(times: int, *measured: Callable[[], RunTimes]) -> list[RunTimes]:
    """Measure several functions alternately, so that the machine's speed affects all, and return the medians."""
    rounds = [[one() for one in measured] for _ in range(times)]
    return [median(list(taken)) for taken in zip(*rounds, strict=True)]


def median(taken: list[RunTimes]) -> RunTimes:
    """Return the median of each part."""
    return RunTimes(*(Median.of(parts) for parts in zip(*(vars(one).values() for one in taken), strict=True)))


def run_profile(name: str, ours: RunTimes) -> list[Figure]:
    """Split the duration of a run into consecutive parts, which show where a missed goal loses time."""
    ends = [
        ("audit group", ours.audit),
        ("start of dbt, until the first model starts", ours.first),
        ("models", ours.models),
        ("last tests and audit rows, until dbt ends", ours.dbt),
        ("sensors after dbt, and dbt_check", ours.run),
    ]
    starts = [0.0, *(end for _, end in ends)]
    return [Figure(f"{name}, {part}", end - start, "s") for (part, end), start in zip(ends, starts, strict=False)]


def _bare(scene: Scene, size: Size, say: Callable[[str], None]) -> RunTimes:
    say(f"dbt build of {size.models} models")
    return scene.bare(size)


def _dag(scene: Scene, dag_id: str, size: Size, say: Callable[[str], None]) -> RunTimes:
    say(f"a run of {dag_id}, {size.models} models")
    return scene.dag(dag_id, size)
