"""The virtual environment of Amazon's image."""

import subprocess
from pathlib import Path

import pytest

from mwaa_local.mwaa import image
from mwaa_local.mwaa.environment import Mwaa
from mwaa_local.serverless import airflow_folder
from mwaa_local.settings import Passwords, Settings


def test_environments_are_created_by_their_real_path(tmp_path: Path) -> None:
    # uv writes the path into the scripts, and a test's folder with the symbolic link is deleted after some runs.
    shared, state = tmp_path / "shared", tmp_path / "state"
    shared.mkdir()
    state.mkdir()
    (state / "venvs").symlink_to(shared)
    mwaa = Mwaa(Settings(state, 1, 2, 3), Passwords("", "", "", "", ""), None, "bucket")
    assert mwaa.venv == shared / "mwaa"
    assert airflow_folder(state) == shared / "mwaa-serverless"


def test_environment_of_a_moved_checkout_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []

    def run(command: list[str], *_: object) -> None:
        if command[1] == "venv":
            created.append(Path(command[-1]))
            created[-1].mkdir(exist_ok=True)

    monkeypatch.setattr(image, "run", run)
    monkeypatch.setattr(
        image.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "airflow==3.3.1\n")
    )
    old, new = tmp_path / "old", tmp_path / "new"
    for venvs in (old, old):
        image.Image(venvs / "mwaa", tmp_path / "logs").install()
    assert created == [old / "mwaa"]
    old.rename(new)
    image.Image(new / "mwaa", tmp_path / "logs").install()
    assert created == [old / "mwaa", new / "mwaa"]
