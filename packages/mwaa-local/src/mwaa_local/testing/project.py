"""The sample project, which tests of the machinery build."""

import shutil
from pathlib import Path

from mwaa_local.settings import REPOSITORY


def sample_project(folder: Path) -> Path:
    """Copy `dbt_project/` into `folder`, without what dbt generates, and return the folder."""
    shutil.copytree(REPOSITORY / "dbt_project", folder, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"))
    return folder
