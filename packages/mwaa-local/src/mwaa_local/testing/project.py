"""dbt projects for tests: the sample, and other projects with the audit trail."""

import shutil
from pathlib import Path

from audit_report import DBT_PACKAGE
from mwaa_local.settings import REPOSITORY
from mwaa_release.manifest import install_packages


def sample_project(folder: Path) -> Path:
    """Copy `dbt_project/` and its packages into `folder`, without other generated files, and return the folder."""
    project = REPOSITORY / "dbt_project"
    install_packages(project)
    shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("target", "logs"))
    return folder


def add_audit_trail(project: Path) -> None:
    """Add the audit trail to a project that lists no packages."""
    (project / "packages.yml").write_text(f"packages:\n  - local: {DBT_PACKAGE}\n")
