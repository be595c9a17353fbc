"""`make clean` stops the stand-ins, and deletes the state folder and nothing else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mwaa_local.settings import REPOSITORY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout whose Python writes its arguments to the file `calls`."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    python = tmp_path / ".local" / "venvs" / "tools" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >> calls\n')
    python.chmod(0o755)
    return tmp_path


def make_clean(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOCAL_", "MAKE"))}
    return subprocess.run(
        ["make", "clean"], cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False
    )


def test_clean_stops_the_stand_ins_and_deletes_their_state(folder: Path) -> None:
    for _ in range(2):
        completed = make_clean(folder)
        assert completed.returncode == 0, completed.stderr
        assert sorted(path.name for path in folder.iterdir()) == ["Makefile", "calls"]
    assert (folder / "calls").read_text() == "-m mwaa_local down\n"


def test_clean_refuses_to_delete_a_custom_state_folder(folder: Path, tmp_path: Path) -> None:
    """The folder could contain other files."""
    completed = make_clean(folder, LOCAL_DIR=str(tmp_path / "mine"))
    assert completed.returncode == 2
    assert f"LOCAL_DIR is set to {tmp_path / 'mine'}. Run make down" in completed.stderr
    assert (folder / ".local").is_dir()
    assert not (folder / "calls").exists()
