"""Progress output on a terminal and in a log file."""

import io

import pytest
from rich.console import Console

from mwaa_release import progress
from mwaa_release.progress import Steps, show_progress


def new_console(terminal: bool, width: int = 60) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None, highlight=False)


def text_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def show_one_step(console: Console, *, transient: bool = False) -> str:
    with Steps(console, transient=transient) as steps, steps.step("Load [raw]") as step:
        step._last_detail = 0.0
        step.say("reading [/x] of [red]s3://bucket[/red], and a detail that is too long for one line, and longer still")
    return text_on(console)


@pytest.mark.parametrize("terminal", [True, False])
def test_details_are_not_read_as_markup(terminal: bool) -> None:
    text = show_one_step(new_console(terminal))
    assert "✓ Load [raw]" in text
    if not terminal:
        assert "reading [/x] of [red]s3://bucket[/red]" in text.replace("\n", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_failed_step_is_marked_as_failed(terminal: bool) -> None:
    console = new_console(terminal)
    with pytest.raises(ValueError, match="no"), Steps(console) as steps, steps.step("Load"):
        raise ValueError("no")
    assert "✗ Load" in text_on(console)
    assert "✓" not in text_on(console)


def test_abandoned_step_is_marked_as_stopped() -> None:
    console = new_console(terminal=False)
    steps = Steps(console)
    steps.abandon()
    with pytest.raises(ValueError, match="no"), steps, steps.step("Load"):
        raise ValueError("no")
    assert text_on(console).startswith("- Load (")


def test_long_detail_stays_on_one_terminal_line() -> None:
    text = show_one_step(new_console(terminal=True, width=40))
    assert all(len(line) <= 40 for line in text.replace("\r", "\n").split("\n") if "\x1b" not in line)
    assert "longer still" not in text


def test_transient_step_writes_nothing_to_a_log_file() -> None:
    assert show_one_step(new_console(terminal=False), transient=True) == ""


def upload_and_fail() -> None:
    with show_progress() as show:
        for number in range(3):
            show("upload", number, 3)
        show("verify", 0, 1)
        raise ValueError("no")


@pytest.mark.parametrize("terminal", [True, False])
def test_action_ends_when_the_next_action_starts(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    console = new_console(terminal)
    monkeypatch.setattr(progress, "errors", console)
    with pytest.raises(ValueError, match="no"):
        upload_and_fail()
    text = text_on(console)
    assert text.rindex("✓ upload") < text.rindex("✗ verify")
    if not terminal:
        assert len(text.splitlines()) == 2
