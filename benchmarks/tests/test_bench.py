"""Ratios and goals of benchmark figures."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import Figure, Median, bench, interleaved, suites
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
    assert [(median.low, median.high) for median in medians] == [(1.0, 9.0), (4.0, 6.0)]
    assert order == ["one", "other"] * 3


def test_unknown_suite_is_an_error(tmp_path) -> None:
    with pytest.raises(SetupError, match="unknown benchmarks: nothing"):
        bench(["nothing"], tmp_path / "bench.json")
    assert "nothing" not in suites()


def test_median_is_shown_and_stored_with_its_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spread, once = Figure("spread", Median.of([3.0, 1.0, 2.5]), "s", "other", 2.5), Figure("once", 4.0, "s")
    monkeypatch.setattr("benchmarks.importlib.import_module", lambda _: SimpleNamespace(run=lambda say: [spread, once]))
    bench(["audit"], tmp_path / "bench.json")
    stored = json.loads((tmp_path / "bench.json").read_text())
    assert [(figure["value"], figure.get("low"), figure.get("high")) for figure in stored] == [
        (2.5, 1.0, 3.0),
        (4.0, None, None),
    ]
    assert "2.5 s (1 to 3)" in " ".join(capsys.readouterr().out.split())
