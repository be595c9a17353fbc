"""Peak memory of processes of a stack."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from mwaa_local.processes import marked_processes

_SECONDS = 1.0


def of_all(command: str) -> bool:
    """Choose all processes, including warehouse and AWS."""
    return bool(command)


def of_triggerer(command: str) -> bool:
    """Choose Airflow's triggerer."""
    return " triggerer" in command


def of_tasks(command: str) -> bool:
    """Choose the processes of running tasks, without those that they start, such as dbt."""
    return command.startswith("airflow worker -- ") and "<idle>" not in command


class Peaks:
    """The highest measured totals in bytes.

    Args:
        chosen: which processes belong to a total, by its name: functions of a process's command line.
    """

    def __init__(self, chosen: Mapping[str, Callable[[str], bool]]) -> None:
        self._chosen = chosen
        self.values = dict.fromkeys(chosen, 0)

    def take(self, state: Path) -> None:
        """Measure once."""
        totals = dict.fromkeys(self._chosen, 0)
        for process in marked_processes(state):
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                for name, belongs in self._chosen.items():
                    if belongs(command):
                        totals[name] += memory(process)
        self.values = {name: max(value, totals[name]) for name, value in self.values.items()}


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
def peak_memory(state: Path, **chosen: Callable[[str], bool]) -> Iterator[Peaks]:
    """Measure the marked processes of `state` every second until the context ends. See Peaks."""
    ended, peaks = threading.Event(), Peaks(chosen)
    peaks.take(state)

    def watch() -> None:
        while not ended.wait(_SECONDS):
            peaks.take(state)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()
