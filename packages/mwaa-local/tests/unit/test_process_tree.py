"""The processes of a container of the ECS stand-in are measured without reading about all processes each time."""

import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from mwaa_local.aws import process_tree
from mwaa_local.aws.process_tree import ProcessTree

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""


def test_processes_are_searched_for_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = 0
    children = psutil.Process.children

    def count(process: psutil.Process, **arguments: Any) -> list[psutil.Process]:
        nonlocal searches
        searches += 1
        return children(process, **arguments)

    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    tree = ProcessTree(parent.pid)
    try:
        while not (descendants := children(psutil.Process(parent.pid))):
            time.sleep(0.05)
        monkeypatch.setattr(process_tree, "_SEARCH_SECONDS", 600)
        monkeypatch.setattr(psutil.Process, "children", count)
        for _ in range(20):
            sizes = tree.memory()
        assert sizes.keys() == {psutil.Process(parent.pid), *descendants}
        assert all(size > 1_000_000 for size in sizes.values())
        assert searches == 1
        parent.kill()
        parent.wait()
    finally:
        tree.kill()
    # Also one whose parent has ended.
    (child,) = descendants
    child.wait(10)
