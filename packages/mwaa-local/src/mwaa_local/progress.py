"""What a command shows while it works: on a terminal a spinner for each step, elsewhere a line for each that ended."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

# A log file has no width; tables there need not fold names.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
# What went wrong, kept out of a file or pipe that takes the results.
errors = Console(highlight=False, stderr=True, soft_wrap=True)

DONE = "[green]✓[/]"
FAILED = "[red]✗[/]"
STOPPED = "[bright_black]-[/]"


class Steps:
    """Steps that run one after another or side by side. Use as a context manager."""

    def __init__(self) -> None:
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        columns = (_SignColumn(), text, TimeElapsedColumn())
        self._live = Progress(*columns, console=console, expand=True) if console.is_terminal else None
        self._abandoned = False

    def __enter__(self) -> "Steps":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def abandon(self) -> None:
        """From here on, a step that ends was stopped because another had failed: it is not to blame."""
        self._abandoned = True

    @contextmanager
    def step(self, what: str) -> Iterator["Step"]:
        """Show that `what` is being done until the block ends."""
        step = Step(what, self._live)
        try:
            yield step
        except BaseException as error:
            step.end(STOPPED if self._abandoned or isinstance(error, KeyboardInterrupt) else FAILED)
            raise
        step.end(DONE)


class Step:
    """One step. `say` adds a detail to its line."""

    def __init__(self, what: str, live: Progress | None) -> None:
        self._what = escape(what)
        self._live = live
        self._started = time.monotonic()
        self._shown = 0.0
        self._task: TaskID | None = live.add_task(self._what, total=1, sign="") if live else None

    def say(self, detail: str) -> None:
        """Show `detail` behind what is being done; elsewhere than on a terminal at most every 10 seconds."""
        if self._live and self._task is not None:
            self._live.update(self._task, description=f"{self._what}: {escape(detail)}")
        elif time.monotonic() - self._shown > 10:
            self._shown = time.monotonic()
            console.print(f"  {self._what}: {escape(detail)}")

    def end(self, sign: str) -> None:
        """Show that the step is over."""
        seconds = time.monotonic() - self._started
        if self._live and self._task is not None:
            self._live.update(self._task, description=self._what, completed=1, sign=sign)
        else:
            console.print(f"{sign} {self._what} ({seconds:.1f} s)")


class _SignColumn(SpinnerColumn):
    """A spinner that turns into the sign of how the step ended."""

    def render(self, task: Task) -> Text:
        return Text.from_markup(task.fields["sign"]) if task.finished else super().render(task)
