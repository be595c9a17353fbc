"""Finds the repository that a command works on, and the folder for its state."""

import os
import re
import subprocess
from pathlib import Path

MARKER = Path("dags") / "pipelines.yml"
_REMOTE = re.compile(r"github\.com[:/](?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?")


def find_repository(start: Path | None = None) -> Path:
    """Return the nearest folder, at or above `start`, that contains `dags/pipelines.yml`.

    Args:
        start: where to look first; default: the working directory.

    Returns:
        The repository, or `start` if no folder contains the file. The command's own error then names the missing
        file.
    """
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / MARKER).is_file()), start)


REPOSITORY = find_repository()


def state_folder() -> Path:
    """Return the folder for installed tools, logs and artifacts: `LOCAL_DIR`, or `.local` if that is unset or empty.

    A relative path starts at the repository.
    """
    return (REPOSITORY / (os.environ.get("LOCAL_DIR") or ".local")).resolve()


def github_name(repository: Path = REPOSITORY) -> str:
    """Return this repository's `owner/name` from a job's variables or the remote `origin`, or an empty string."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return name
    git = ["git", "-C", str(repository), "remote", "get-url", "origin"]
    address = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    match = _REMOTE.search(address)
    return match["name"] if match and match.end() == len(address) else ""


def github_address(repository: Path = REPOSITORY) -> str:
    """Return the web address of this repository on GitHub, or an empty string."""
    name = github_name(repository)
    return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}" if name else ""
