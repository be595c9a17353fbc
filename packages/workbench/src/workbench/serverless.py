"""`make add-serverless`: what a repository needs to run pipelines in Amazon MWAA Serverless."""

from pathlib import Path

import mwaa_release.serverless
from workbench.template import add_files

_STACK = Path(mwaa_release.serverless.__file__).with_name("workflow.yml")


def add_serverless(repository: Path) -> list[str]:
    """Add the stack of a workflow to a repository, and return its path. See `add_files`."""
    return add_files(repository, {_STACK: f"infra/{_STACK.name}"})
