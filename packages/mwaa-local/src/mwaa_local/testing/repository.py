"""A committed copy of this working tree that tests can change. It shares the installed tools."""

import subprocess
from pathlib import Path

from mwaa_local.testing.checkout import copy_repository
from mwaa_local.testing.state import STATE


def git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in the repository, as a fixed user."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=repository, capture_output=True, text=True, check=False, timeout=300
    )


def committed_copy(folder: Path) -> Path:
    """Copy the working tree into `folder`, and commit it there."""
    copy_repository(folder)
    _share_tools(folder)
    # Packed like a clone from GitHub, because copier reads every file in .git too.
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "-q", "-m", "copy"),
        ("gc", "--quiet"),
    ):
        completed = git(folder, *arguments)
        assert completed.returncode == 0, completed.stderr
    return folder


def clone(source: Path, folder: Path) -> Path:
    """Clone a repository into `folder`, with the installed tools and a user for commits."""
    assert git(source, "clone", "--quiet", str(source), str(folder)).returncode == 0
    _share_tools(folder)
    for name, value in (("user.name", "test"), ("user.email", "test@example.com")):
        git(folder, "config", name, value)
    return folder


def commit(folder: Path, message: str = "change") -> None:
    """Commit everything."""
    for arguments in (("add", "--all"), ("commit", "--quiet", "--message", message)):
        completed = git(folder, *arguments)
        assert completed.returncode == 0, completed.stdout + completed.stderr


def _share_tools(folder: Path) -> None:
    (folder / ".local").mkdir()
    (folder / ".local" / "venvs").symlink_to(STATE / "venvs")
