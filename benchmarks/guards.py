"""Benchmarks of the hooks of `git commit` for one changed model, and of `make lint` for a larger project."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import Figure, interleaved
from benchmarks.warehouse.stand_ins import seconds
from mwaa_local.settings import REPOSITORY, SetupError

_COMMITS = 5
_PAIRS = 3
_MODELS = 200
_CHANGED = Path("dbt_project", "models", "marts", "carriers.sql")


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the hooks and linters. This takes about two minutes.

    Raises:
        SetupError: a measured command failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        say("copying the repository")
        clone = Path(folder, "repository")
        _run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], REPOSITORY)
        (clone / ".local").mkdir()
        (clone / ".local" / "venvs").symlink_to(Path(sys.executable).parent.parent.parent)
        return [*_hooks(clone, say), _lint(clone, say)]


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _hooks(clone: Path, say: Callable[[str], None]) -> list[Figure]:
    """Measure the hooks for one changed and staged model, and the parts that decide how long they take."""
    say("hooks of one changed model")
    text = (clone / _CHANGED).read_text()

    def commit() -> float:
        (clone / _CHANGED).write_text(f"{text}-- {os.urandom(4).hex()}\n")
        _run(["git", "add", "--all"], clone)
        return seconds(lambda: _run([_tool("prek"), "run"], clone))

    commit()
    taken = statistics.median(commit() for _ in range(_COMMITS))
    parts = {
        "conventions alone": [sys.executable, "-m", "workbench", "conventions"],
        "sqlfluff alone": [_tool("sqlfluff"), "lint", "--disable-progress-bar", str(_CHANGED)],
        "dbt's imports alone": [sys.executable, "-c", "import dbt.cli.main, dbt.adapters.redshift"],
    }
    medians = interleaved(_COMMITS, *(partial(seconds, partial(_run, command, clone)) for command in parts.values()))
    name = "hooks of one changed model"
    return [
        Figure(name, taken, "s", goal=3),
        *(Figure(f"{name}: {part}", time, "s") for part, time in zip(parts, medians, strict=True)),
    ]


def _lint(clone: Path, say: Callable[[str], None]) -> Figure:
    """Compare `make lint` of 200 additional models and their YAML with sqlfluff alone."""
    say(f"make lint of {_MODELS} models")
    marts = clone / _CHANGED.parent
    properties = (marts / "carriers.yml").read_text()
    for number in range(_MODELS):
        shutil.copy(REPOSITORY / _CHANGED, marts / f"carriers_{number}.sql")
        described = properties.replace("- name: carriers\n", f"- name: carriers_{number}\n", 1)
        (marts / f"carriers_{number}.yml").write_text(described)
    sqlfluff = [_tool("sqlfluff"), "lint", "--disable-progress-bar", "dbt_project"]
    lint, alone = interleaved(
        _PAIRS,
        lambda: seconds(lambda: _run([sys.executable, "-m", "workbench", "lint"], clone)),
        lambda: seconds(lambda: _run(sqlfluff, clone)),
    )
    return Figure(f"make lint of {_MODELS} models", lint, "s", "sqlfluff alone", alone, 1.3)


def _run(command: list[str], folder: Path) -> None:
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SetupError(f"{' '.join(command)} failed:\n{(completed.stdout + completed.stderr)[-2000:]}")
