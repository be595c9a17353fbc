"""The hooks of `make hooks` reject a bad model with a fix, and accept a good one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.testing.repository import committed_copy, git

pytestmark = pytest.mark.slow

MODEL = "dbt_project/models/marts/punctual_carriers"
YAML = """\
models:
  - name: punctual_carriers
    description: One row for each airline.
    constraints:
      - type: primary_key
        columns: [carrier_code]
        warn_unenforced: false
    columns:
      - name: carrier_code
        description: Airline.
        data_type: varchar(8)
        data_tests: [unique, not_null]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = committed_copy(tmp_path_factory.mktemp("hooks") / "repository")
    prek = Path(sys.executable).with_name("prek")
    subprocess.run([prek, "validate-config", ".pre-commit-config.yaml"], cwd=folder, check=True)
    subprocess.run([prek, "install", "--quiet"], cwd=folder, check=True)
    return folder


def commit(repository: Path, files: dict[str, str]) -> tuple[int, str]:
    for name, content in files.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(content)
        git(repository, "add", name)
    completed = git(repository, "commit", "-m", "a change")
    return completed.returncode, completed.stdout + completed.stderr


def test_hooks_reject_a_bad_model_and_accept_the_fix(repository):
    code, output = commit(repository, {f"{MODEL}.sql": "SELECT cast('UA' as varchar(8)) as carrier_code\n"})
    assert code == 1
    assert "CP01" in output
    assert f"has no YAML; its place is models/marts/{Path(MODEL).name}.yml" in output
    good = {f"{MODEL}.sql": "select cast('UA' as varchar(8)) as carrier_code\n", f"{MODEL}.yml": YAML}
    code, output = commit(repository, good)
    assert code == 0, output


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("local/wrong.py", "import os\n", "D100"),
        ("dags/wrong.yml", "a:   1\n", "too many spaces"),
        ("wrong.sh", "#!/bin/sh\nread x; echo $x\n", "SC2162"),
        (
            ".github/workflows/wrong.yml",
            "on: push\njobs: {a: {runs-on: x, steps: [{uses: a/b@v1}]}}\n",
            "unpinned-uses",
        ),
        ("infra/wrong.yml", "Resources: {A: {Type: AWS::S3::Buckett}}\n", "E3006"),
    ],
)
def test_hooks_lint_each_kind_of_file(repository, name, content, words):
    code, output = commit(repository, {name: content})
    assert code == 1
    assert words in output
    git(repository, "rm", "--quiet", "--force", name)


def lint(repository: Path) -> str:
    command = [sys.executable, "-m", "workbench", "lint"]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False).stdout


def test_excluded_folder_is_not_linted(repository):
    project = {
        "shop/dbt_project.yml": "name:   shop\n",
        "shop/load.py": "import os\n",
        "shop/run.sh": "read x; echo $x\n",
    }
    code, output = commit(repository, project)
    assert code == 1
    for words in ("too many spaces", "D100", "SC2162"):
        assert words in output
    assert "shop/" in lint(repository)
    hooks = (repository / ".pre-commit-config.yaml").read_text()
    excluded = re.sub(r"\nexclude: (.+)\n", r"\nexclude: \1|^shop/\n", hooks)
    code, output = commit(repository, {".pre-commit-config.yaml": excluded})
    assert code == 0, output
    assert "shop/" not in lint(repository)
