"""Finds the repository that a command works on, and the folder for its state."""

import os
from pathlib import Path

MARKER = Path("dags") / "pipelines.yml"


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
