"""What a command shows while it works: on a terminal a spinner for each step, elsewhere a line for each that ended."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

# A log file has no width; tables there need not fold names.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


class Steps:
    """Steps that run one after another or side by side. Use as a context manager."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description}"), TimeElapsedColumn())
        self._live = Progress(*columns, console=console) if console.is_terminal else None

    def __enter__(self) -> "Steps":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @contextmanager
    def step(self, what: str) -> Iterator["Step"]:
        """Show that `what` is being done until the block ends."""
        step = Step(what, self._live)
        try:
            yield step
        except BaseException:
            step.end("[red]✗[/]")
            raise
        step.end("[green]✓[/]")


class Step:
    """One step. `say` adds a detail to its line."""

    def __init__(self, what: str, live: Progress | None) -> None:
        self._what = what
        self._live = live
        self._started = time.monotonic()
        self._shown = 0.0
        self._task: TaskID | None = live.add_task(what, total=1) if live else None

    def say(self, detail: str) -> None:
        """Show `detail` behind what is being done; elsewhere than on a terminal at most every 10 seconds."""
        if self._live and self._task is not None:
            self._live.update(self._task, description=f"{self._what}: {detail}")
        elif time.monotonic() - self._shown > 10:
            self._shown = time.monotonic()
            console.print(f"  {self._what}: {detail}")

    def end(self, sign: str) -> None:
        """Show that the step is over."""
        seconds = time.monotonic() - self._started
        if self._live and self._task is not None:
            self._live.update(self._task, description=self._what, completed=1)
        else:
            console.print(f"{sign} {self._what} ({seconds:.1f} s)")
