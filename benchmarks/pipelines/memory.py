"""Memory of all processes of a stack, at its peak."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from mwaa_local.processes import marked_processes

_SECONDS = 1.0


class Peak:
    """The highest sum seen, in bytes."""

    def __init__(self) -> None:
        self.value = 0

    def take(self, state: Path) -> None:
        """Look once."""
        self.value = max(self.value, sum(memory(process) for process in marked_processes(state)))


def memory(process: psutil.Process) -> int:
    """Memory of a process in bytes, of pages that several share its part: PSS, where the system tells it, else RSS.

    A process that has ended has none.
    """
    with contextlib.suppress(psutil.Error, OSError):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return proportional(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        return process.memory_info().rss
    return 0


def proportional(rollup: str) -> int:
    """The PSS that a smaps_rollup tells. https://docs.kernel.org/filesystems/proc.html"""
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


@contextlib.contextmanager
def watched(state: Path) -> Iterator[Peak]:
    """Look every second at the processes that carry the mark of `state`, until the block ends."""
    ended, peak = threading.Event(), Peak()
    peak.take(state)

    def watch() -> None:
        while not ended.wait(_SECONDS):
            peak.take(state)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
