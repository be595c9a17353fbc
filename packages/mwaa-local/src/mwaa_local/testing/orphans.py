"""Ends stand-ins of tests that were killed.

A test process holds a lock in the state folder of each of its checkouts. The kernel releases it when the process ends,
however it ends.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

import psutil

from mwaa_local.processes import MARK, sweep

_NAME = "tests.lock"
# Open until this process ends.
_locks: list[IO[str]] = []


def own_stand_ins(state: Path) -> None:
    """Let the stand-ins of a state folder end with this process at the latest. Call this before they start."""
    lock = (state / _NAME).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _locks.append(lock)


def end_orphans() -> int:
    """End the stand-ins in state folders whose test process has ended. Return the number of their processes."""
    states = [state for state in _states() if _is_orphaned(state)]
    # Nobody needs what they would save, and a person who pressed Ctrl-C waits.
    count = sweep(*states, seconds=1)
    for state in states:
        for name in ("passwords.json", "stack.json"):
            (state / name).unlink(missing_ok=True)
    return count


def _states() -> set[Path]:
    """Return the state folders of all running stand-ins of this user."""
    states = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if state := process.environ().get(MARK):
                states.add(Path(state))
    return states - {Path(os.environ.get(MARK, ""))}


def _is_orphaned(state: Path) -> bool:
    try:
        with (state / _NAME).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        # A test owns them, or they are not of a test.
        return False
