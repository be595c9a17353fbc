"""What commands show: on a terminal and elsewhere, whatever characters the details hold."""

import io

import pytest
from rich.console import Console

from mwaa_local import progress
from mwaa_local.progress import Steps


def _show(monkeypatch: pytest.MonkeyPatch, terminal: bool, fails: bool, width: int = 60) -> str:
    output = io.StringIO()
    made = Console(file=output, force_terminal=terminal, width=width, color_system=None, highlight=False)
    monkeypatch.setattr(progress, "console", made)
    with Steps() as steps, steps.step("Load [raw]") as step:
        step.say("reading [/x] of [red]s3://bucket[/red], and what is too long for a line, and longer still")
        if fails:
            raise ValueError("no")
    return output.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_details_are_text_and_not_markup(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    shown = _show(monkeypatch, terminal, fails=False)
    assert "✓ Load [raw]" in shown
    if not terminal:
        assert "reading [/x] of [red]s3://bucket[/red]" in shown.replace("\n", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_that_failed_is_not_shown_as_done(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    output = io.StringIO()
    made = Console(file=output, force_terminal=terminal, width=60, color_system=None, highlight=False)
    monkeypatch.setattr(progress, "console", made)
    with pytest.raises(ValueError, match="no"), Steps() as steps, steps.step("Load"):
        raise ValueError("no")
    assert "✗ Load" in output.getvalue()
    assert "✓" not in output.getvalue()


def test_a_step_that_was_stopped_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=output, width=60, color_system=None, highlight=False))
    steps = Steps()
    steps.abandon()
    with pytest.raises(ValueError, match="no"), steps, steps.step("Load"):
        raise ValueError("no")
    assert output.getvalue().startswith("- Load (")


def test_a_long_detail_stays_on_one_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _show(monkeypatch, terminal=True, fails=False, width=40)
    assert all(len(line) <= 40 for line in shown.replace("\r", "\n").split("\n") if "\x1b" not in line)
    assert "longer still" not in shown
