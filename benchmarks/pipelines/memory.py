"""Peak memory of all processes of a stack."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from mwaa_local.processes import marked_processes

_SECONDS = 1.0


class Peak:
    """The highest measured total in bytes."""

    def __init__(self) -> None:
        self.value = 0

    def take(self, state: Path) -> None:
        """Measure once."""
        self.value = max(self.value, sum(memory(process) for process in marked_processes(state)))


def memory(process: psutil.Process) -> int:
    """Return the memory of a process in bytes: PSS if the system reports it, else RSS.

    PSS counts the process's share of shared pages. A process that has ended has no memory.
    """
    with contextlib.suppress(psutil.Error, OSError):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return pss_bytes(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        return process.memory_info().rss
    return 0


def pss_bytes(rollup: str) -> int:
    """Return the PSS in a smaps_rollup file. https://docs.kernel.org/filesystems/proc.html"""
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


@contextlib.contextmanager
def peak_memory(state: Path) -> Iterator[Peak]:
    """Measure the marked processes of `state` every second until the context ends."""
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
