"""Ratios and goals of benchmark figures."""

import pytest

from benchmarks import Figure, bench, interleaved, suites
from mwaa_local.settings import SetupError


def test_goal_applies_to_the_ratio_if_there_is_an_alternative() -> None:
    compared = Figure("gateway", 3.0, "ms", "PostgreSQL directly", 2.0, goal=1.4)
    assert compared.ratio == 1.5
    assert compared.met is False
    single = Figure("overhead", 1.2, "ms", goal=1.5)
    assert single.ratio is None
    assert single.met is True
    assert Figure("no goal", 1.0, "s").met is None


def test_interleaved_measures_in_turn_and_returns_medians() -> None:
    order: list[str] = []
    one, other = iter([1.0, 9.0, 2.0]), iter([4.0, 5.0, 6.0])
    medians = interleaved(3, lambda: order.append("one") or next(one), lambda: order.append("other") or next(other))
    assert medians == [2.0, 5.0]
    assert order == ["one", "other"] * 3


def test_unknown_suite_is_an_error(tmp_path) -> None:
    with pytest.raises(SetupError, match="unknown benchmarks: nothing"):
        bench(["nothing"], tmp_path / "bench.json")
    assert "nothing" not in suites()
