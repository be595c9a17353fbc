"""`make bring`, `make start-fresh` and `make upgrade` that are stopped at any moment change nothing, or have ended.

INTERRUPTED_MOMENTS sets the number of moments for each command.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mwaa_local.testing.repository import clone, commit, committed_copy, git

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("default_hangup")]

MOMENTS = int(os.environ.get("INTERRUPTED_MOMENTS", "2"))
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Command:
    """A command of the workbench in a repository without uncommitted changes."""

    def __init__(self, repository: Path, temporary: Path, *arguments: str) -> None:
        self.repository, self.temporary = repository, temporary
        temporary.mkdir()
        self._command = [sys.executable, "-m", "workbench", *arguments]

    def begin(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command,
            cwd=self.repository,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def run(self) -> float:
        """Run it to its end, undo its changes, and return the seconds it took."""
        started = time.monotonic()
        process = self.begin()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert self.changes(), output
        self.undo()
        return time.monotonic() - started

    def changes(self) -> str:
        return git(self.repository, "status", "--porcelain").stdout

    def undo(self) -> None:
        for arguments in (("reset", "--quiet", "--hard"), ("clean", "--quiet", "--force", "-d")):
            assert git(self.repository, *arguments).returncode == 0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return committed_copy(tmp_path_factory.mktemp("template") / "template")


def bring(template: Path, folder: Path) -> Command:
    project = folder / "plain"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: plain\nversion: '1.0'\nprofile: default\n")
    (project / "models" / "one.sql").write_text("select 1 as id\n")
    return Command(clone(template, folder / "clone"), folder / "temporary", "bring", "--", str(project))


def start_fresh(template: Path, folder: Path) -> Command:
    return Command(clone(template, folder / "clone"), folder / "temporary", "start-fresh", "--yes")


def upgrade(template: Path, folder: Path) -> Command:
    newer = clone(template, folder / "template")
    copy = clone(newer, folder / "copy")
    started = Command(copy, folder / "started", "start-fresh", "--yes").begin()
    assert started.wait(300) == 0, started.stdout.read()
    commit(copy)
    (newer / "startup.sh").write_text((newer / "startup.sh").read_text() + "# newer\n")
    commit(newer)
    return Command(copy, folder / "temporary", "upgrade", "--yes")


@pytest.mark.parametrize("prepare", [bring, start_fresh, upgrade], ids=lambda function: function.__name__)
def test_command_that_is_stopped_changes_nothing_or_has_ended(
    template: Path, tmp_path: Path, prepare: Callable[[Path, Path], Command]
) -> None:
    command = prepare(template, tmp_path)
    seconds = command.run()
    for number in range(MOMENTS):
        process, received = command.begin(), SIGNALS[number % len(SIGNALS)]
        time.sleep(seconds * (number + 0.5) / MOMENTS)
        moment = f"{received.name} after {seconds * (number + 0.5) / MOMENTS:.1f} of {seconds:.1f} s"
        group = [child for child in psutil.process_iter() if _group(child.pid) == process.pid]
        # A terminal sends its signals to all processes of the command.
        if received == signal.SIGTERM:
            process.terminate()
        else:
            os.killpg(process.pid, received)
        stopped = time.monotonic()
        output, _ = process.communicate(timeout=60)
        assert time.monotonic() - stopped < 5, moment
        assert process.returncode in (0, 130), f"{moment}: {output}"
        assert bool(command.changes()) == (process.returncode == 0), f"{moment}: {output}"
        assert "Traceback" not in output, moment
        assert list(command.temporary.iterdir()) == [], moment
        assert psutil.wait_procs(group, timeout=5)[1] == [], moment
        command.undo()
    command.run()


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
