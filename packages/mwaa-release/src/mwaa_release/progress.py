"""Progress of a command: a spinner per step on a terminal, and a line per finished step in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Display
from rich.progress import SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

# Tables in a log file are wide enough for long names.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
# Errors and progress go to stderr, so that they are not mixed with results in a file or pipe.
errors = Console(highlight=False, stderr=True, soft_wrap=True)

DONE = "[green]✓[/]"
FAILED = "[red]✗[/]"
STOPPED = "[bright_black]-[/]"


class Progress(Protocol):
    """Reports the progress of an action. It is fast enough to be called for every object."""

    def __call__(self, action: str, done: int, total: int) -> None:
        """Report that `done` of the `total` parts of `action` are done."""


def no_progress(action: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show each action as a step on stderr. An action ends when the next one begins."""
    with Steps(errors) as steps:
        step: Step | None = None

        def show(action: str, done: int, total: int) -> None:
            nonlocal step
            if step is None or step.action != action:
                if step:
                    step.end(DONE)
                step = steps.begin(action)
            step.say(f"{done} of {total}")

        try:
            yield show
        except BaseException as error:
            if step:
                step.end(STOPPED if isinstance(error, KeyboardInterrupt) else FAILED)
            raise
        if step:
            step.end(DONE)


class Steps:
    """Steps that run sequentially or in parallel. Use as a context manager.

    Args:
        output: where the steps are shown; default: stdout.
        transient: show the steps only while they run, and only on a terminal.
    """

    def __init__(self, output: Console | None = None, *, transient: bool = False) -> None:
        self._output = output or console
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        columns = (_SignColumn(), text, TimeElapsedColumn())
        is_terminal = self._output.is_terminal
        self._live = Display(*columns, console=self._output, expand=True, transient=transient) if is_terminal else None
        self._quiet = transient and not is_terminal
        self._abandoned = False

    def __enter__(self) -> "Steps":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def abandon(self) -> None:
        """Show the remaining steps as stopped, because another step has failed."""
        self._abandoned = True

    def begin(self, action: str) -> "Step":
        """Show `action` until `end` of the returned step is called."""
        return Step(action, self._output, self._live, self._quiet)

    @contextmanager
    def step(self, action: str) -> Iterator["Step"]:
        """Show `action` until the block ends."""
        step = self.begin(action)
        try:
            yield step
        except BaseException as error:
            step.end(STOPPED if self._abandoned or isinstance(error, KeyboardInterrupt) else FAILED)
            raise
        step.end(DONE)


class Step:
    """One step. `say` adds a detail to its line."""

    def __init__(self, action: str, output: Console, live: Display | None, quiet: bool) -> None:
        self.action = action
        self._output = output
        self._live = live
        self._quiet = quiet
        self._started = self._last_detail = time.monotonic()
        self._task: TaskID | None = live.add_task(escape(action), total=1, sign="") if live else None

    def say(self, detail: str) -> None:
        """Show `detail` behind the action; in a log file at most every 10 seconds."""
        if self._live and self._task is not None:
            self._live.update(self._task, description=f"{escape(self.action)}: {escape(detail)}")
        elif not self._quiet and time.monotonic() - self._last_detail > 10:
            self._last_detail = time.monotonic()
            self._output.print(f"  {escape(self.action)}: {escape(detail)}")

    def end(self, sign: str) -> None:
        """Show that the step has ended."""
        seconds = time.monotonic() - self._started
        if self._live and self._task is not None:
            self._live.update(self._task, description=escape(self.action), completed=1, sign=sign)
        elif not self._quiet:
            self._output.print(f"{sign} {escape(self.action)} ({seconds:.1f} s)")


class _SignColumn(SpinnerColumn):
    """A spinner that becomes the sign of the step's result."""

    def render(self, task: Task) -> Text:
        return Text.from_markup(task.fields["sign"]) if task.finished else super().render(task)
