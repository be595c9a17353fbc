"""`make add-serverless`: what a repository needs to run pipelines in Amazon MWAA Serverless."""

import shutil
from pathlib import Path

import mwaa_release.serverless
from workbench.template import check_clean

_STACK = Path(mwaa_release.serverless.__file__).with_name("workflow.yml")


def add_serverless(repository: Path) -> list[str]:
    """Copy the stack of a workflow into a repository, and return its path. Replaces an earlier version.

    Args:
        repository: without uncommitted changes, so that git can undo this.

    Raises:
        SetupError: the repository has uncommitted changes.
    """
    check_clean(repository)
    target = Path("infra", _STACK.name)
    shutil.copyfile(_STACK, repository / target)
    return [str(target)]
