"""`make add-serverless` adds a stack that the linters accept."""

import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.settings import SetupError
from mwaa_local.testing.repository import committed_copy, git
from workbench.serverless import add_serverless

BINARIES = Path(sys.executable).parent


def test_stack_passes_the_linters(tmp_path: Path) -> None:
    repository = committed_copy(tmp_path / "repository")
    assert add_serverless(repository) == ["infra/workflow.yml"]
    for command in (["cfn-lint", "infra/workflow.yml"], ["yamllint", "--strict", "infra/workflow.yml"]):
        done = subprocess.run([BINARIES / command[0], *command[1:]], cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(SetupError):
        add_serverless(repository)
    assert "infra/workflow.yml" in git(repository, "status", "--porcelain").stdout
