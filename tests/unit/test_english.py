"""The English of the repository stays within the limits of tests/check_english.py."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CHECK = [sys.executable, REPOSITORY / "tests" / "check_english.py"]


def check(repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CHECK, repository, "--list"], capture_output=True, text=True, check=False)


def test_text_is_within_the_limits():
    completed = check(REPOSITORY)
    assert completed.returncode == 0, completed.stdout


def test_hits_are_counted_and_exceed_the_limits(tmp_path):
    # Split, so that this file has no hits.
    (tmp_path / "page.md").write_text("{} dbt left is stored {}.\n".format("What", "".join(("an", "ew"))))
    (tmp_path / "code.py").write_text("found = 1\n")
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    completed = check(tmp_path)
    assert completed.returncode == 1
    assert [line.split(": ")[:2] for line in completed.stdout.splitlines()[:3]] == [
        ["code.py:1", "variable name"],
        ["page.md:1", "noun clause"],
        ["page.md:1", "".join(("an", "ew"))],
    ]
