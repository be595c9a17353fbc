"""How the tool tells what it is doing: a function of what, how many parts are done, and how many there are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar


class Progress(Protocol):
    """Called as work goes on; cheap enough to be called for every object."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say that of `what`, `done` of `total` parts are done."""


def no_progress(what: str, done: int, total: int) -> None:
    """Say nothing."""


@contextmanager
def shown() -> Iterator[Progress]:
    """A bar on a terminal, a line for each kind of work elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        said: set[str] = set()

        def say(what: str, done: int, total: int) -> None:
            if what not in said:
                said.add(what)
                print(what, file=sys.stderr, flush=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show
