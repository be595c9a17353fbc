"""`make start-fresh`, in a repository of its own: refused while something could be lost, and what it leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.settings import SetupError
from mwaa_local.testing.repository import committed_copy, git
from mwaa_release.manifest import install_packages
from workbench.check_conventions import parse, problems
from workbench.start_fresh import start_fresh


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return committed_copy(tmp_path_factory.mktemp("fresh") / "repository")


def test_it_refuses_while_changes_are_not_committed(repository):
    note = repository / "note.txt"
    note.write_text("mine\n")
    with pytest.raises(SetupError, match="changes that are not committed; type: git add --all && git commit"):
        start_fresh(repository)
    note.unlink()
    assert git(repository, "status", "--porcelain").stdout == ""


def test_it_asks_first(repository):
    for answer, code in (("", 2), ("no\n", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "workbench.start_fresh"],
            cwd=repository,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "models/staging" in done.stdout
    assert git(repository, "status", "--porcelain").stdout == ""


def test_what_is_left_is_a_sound_project_with_the_audit_alone(repository):
    changed = start_fresh(repository)
    assert "dbt_project/models/marts" in changed
    project = repository / "dbt_project"
    assert not list(project.glob("models/**/*.sql"))
    install_packages(project)
    manifest = parse(project, repository / ".local" / "target")
    assert manifest
    assert problems(manifest) == []
    assert git(repository, "grep", "--files-with-matches", "sample: begin", "--", ".", ":!*start_fresh.py").stdout == ""
    ruff = Path(sys.executable).with_name("ruff")
    edited = [name for name in changed if name.endswith(".py") and (repository / name).exists()]
    assert edited
    for command in (["format", "--check"], ["check"]):
        subprocess.run([ruff, *command, "--quiet", *edited], cwd=repository, check=True)


def test_a_second_time_there_is_nothing_to_empty(repository):
    with pytest.raises(SetupError, match="the sample is out already"):
        start_fresh(repository)
