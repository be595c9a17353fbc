"""The processes of a container: the first one, and those that it and its children start."""

import contextlib
import time

import psutil

# Between two searches for new processes. Each reads about every process of the machine.
_SEARCH_SECONDS = 0.5


class ProcessTree:
    """A process and its descendants, also those whose parent has ended.

    Args:
        pid: of the first process.
    """

    def __init__(self, pid: int) -> None:
        self._first = psutil.Process(pid)
        self._processes = {self._first}
        self._next_search = 0.0

    def memory(self) -> dict[psutil.Process, int]:
        """Return the memory of each process in bytes. A process that has just started can be missing."""
        if time.monotonic() >= self._next_search:
            self._search()
        sizes = {}
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                sizes[process] = process.memory_info().rss
        return sizes

    def kill(self) -> None:
        """Kill all of them."""
        self._search()
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _search(self) -> None:
        processes = set(self._processes)
        with contextlib.suppress(psutil.Error):
            processes |= set(self._first.children(recursive=True))
        # A new set, because another thread can read the old one.
        self._processes = {process for process in processes if process.is_running()}
        self._next_search = time.monotonic() + _SEARCH_SECONDS
