"""Benchmarks: each figure is compared with an alternative that is measured in the same run on the same machine.

A module of this package is a suite. Its `run(say)` measures and returns figures; `say` shows the progress.
"""

import importlib
import json
import pkgutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from mwaa_local.settings import SetupError
from mwaa_release.progress import Steps, console


class Median(float):
    """The median of several rounds. `low` and `high` are the lowest and the highest of them."""

    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> "Median":
        """Return the median of the rounds, at least one."""
        value = cls(statistics.median(rounds))
        value.low, value.high = min(rounds), max(rounds)
        return value


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: the name of the measurement.
        value: the median of several rounds, or the only measured value, in `unit`.
        unit: the unit, such as "s", "ms" or "MB".
        against: the alternative measured in the same run, or None without one.
        baseline: the alternative's median, in `unit`.
        goal: the highest acceptable ratio (with an alternative) or value (without), or None.
    """

    name: str
    value: float
    unit: str
    against: str | None = None
    baseline: float | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return value / baseline, or None without an alternative."""
        return self.value / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        """Return whether the goal is met, or None without a goal."""
        measured = self.value if self.against is None else self.ratio
        return None if self.goal is None or measured is None else measured <= self.goal


def interleaved(rounds: int, *measured: Callable[[], float]) -> list[Median]:
    """Measure functions alternately, so that the machine's speed affects all of them, and return the medians."""
    taken = [[one() for one in measured] for _ in range(rounds)]
    return [Median.of(times) for times in zip(*taken, strict=True)]


def suites() -> list[str]:
    """Return the names of the suites."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def bench(names: list[str], output: Path) -> list[Figure]:
    """Run the named suites, or all without names, show their figures, and write them to `output` as JSON.

    Raises:
        SetupError: a suite does not exist.
    """
    if unknown := sorted(set(names) - set(suites())):
        raise SetupError(f"unknown benchmarks: {', '.join(unknown)}; choose from: {', '.join(suites())}")
    figures: list[Figure] = []
    for name in names or suites():
        with Steps() as steps, steps.step(f"Benchmark {name}") as step:
            figures += importlib.import_module(f"{__name__}.{name}").run(step.say)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps([_entry(figure) for figure in figures], indent=2) + "\n")
    table = Table(title="Benchmarks", title_justify="left")
    for heading, justify in (("figure", "left"), ("value", "right"), ("against", "left"), ("baseline", "right")):
        table.add_column(heading, justify=justify)
    table.add_column("ratio", justify="right")
    table.add_column("goal")
    for figure in figures:
        sign = {True: "[green]met[/]", False: "[red]not met[/]", None: ""}[figure.met]
        table.add_row(
            figure.name,
            _text(figure.value, figure.unit),
            figure.against or "",
            _text(figure.baseline, figure.unit) if figure.baseline is not None else "",
            f"{figure.ratio:.2f}" if figure.ratio is not None else "",
            f"{figure.goal:g} {sign}" if figure.goal is not None else "",
        )
    console.print(table)
    return figures


def _entry(figure: Figure) -> dict[str, object]:
    spread = {"low": figure.value.low, "high": figure.value.high} if isinstance(figure.value, Median) else {}
    return {**asdict(figure), **spread, "ratio": figure.ratio}


def _text(value: float, unit: str) -> str:
    spread = f" ({value.low:.3g} to {value.high:.3g})" if isinstance(value, Median) and value.low < value.high else ""
    return f"{value:.3g} {unit}{spread}"
