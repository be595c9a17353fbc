"""Empties the template of its sample: `python -m workbench.start_fresh [--yes]`.

Audit, DAGs, releases, tests and CI stay as they are. The tests of the machinery need some project to build, so the
sample moves to `tests/sample/`, out of the way of what a team builds. In other files, what stands between the lines
`sample: begin` and `sample: end` goes.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from mwaa_local.settings import REPOSITORY, SetupError
from mwaa_release.progress import console, errors

KEPT = Path("tests", "sample")
# The sample, within the dbt project. What the rest of macros/ and tests/generic/ holds is of use to any project.
MOVED = ("models/staging", "models/marts", "seeds", "snapshots", "tests/*.sql", "macros/minutes_after_midnight.sql")
# Folders that stay, empty.
_EMPTY = ("models/staging", "models/marts", "seeds", "snapshots")
_BLOCK = re.compile(r"^[^\n]*sample: begin[^\n]*\n.*?^[^\n]*sample: end[^\n]*\n", re.DOTALL | re.MULTILINE)
# Tests of this command and of the tutorial, which have no more to work on.
_DELETED = (
    "packages/workbench/tests/integration/test_start_fresh.py",
    "packages/workbench/tests/e2e/test_documentation.py",
)


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(
            f"git {arguments[0]}: {done.stderr.strip() or 'failed'}; this needs the repository's git history"
        )
    return done.stdout


def check(repository: Path) -> None:
    """Raise if the sample cannot be taken out, or could not be brought back.

    Raises:
        SetupError: it is gone already, or there are changes that are not committed.
    """
    if (repository / KEPT).exists():
        raise SetupError(f"the sample is out already: {KEPT}/ has what the tests keep of it")
    if _git(repository, "status", "--porcelain"):
        raise SetupError("there are changes that are not committed; type: git add --all && git commit, then this again")


def start_fresh(repository: Path) -> list[str]:
    """Take the sample out, and return what was changed: paths, relative to the repository.

    Args:
        repository: a git repository without uncommitted changes.

    Raises:
        SetupError: it cannot be done; nothing was changed.
    """
    check(repository)
    project, kept = repository / "dbt_project", repository / KEPT
    changed = []
    kept.mkdir(parents=True)
    shutil.copy(project / "dbt_project.yml", kept)
    for pattern in MOVED:
        for path in sorted(project.glob(pattern)):
            target = kept / path.relative_to(project)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            changed.append(str(path.relative_to(repository)))
    for name in _DELETED:
        (repository / name).unlink()
        changed.append(name)
    for name in _EMPTY:
        (project / name).mkdir(parents=True, exist_ok=True)
        (project / name / ".gitkeep").touch()
    for name in filter(None, _git(repository, "ls-files", "-z").split("\0")):
        path = repository / name
        if not path.is_file() or path.name == Path(__file__).name:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if (without := _BLOCK.sub("", text)) != text:
            path.write_text(without)
            changed.append(name)
    # Blank lines around a block that went are too many now.
    python = [name for name in changed if name.endswith(".py") and (repository / name).is_file()]
    if python:
        ruff = Path(sys.executable).with_name("ruff")
        subprocess.run([ruff, "format", "--quiet", *python], cwd=repository, check=True)
    return changed


def main() -> int:
    """Ask, then do it; return the exit code."""
    try:
        check(REPOSITORY)
        if "--yes" not in sys.argv:
            console.print(
                f"This moves {', '.join(MOVED)} of dbt_project/ to {KEPT}/, and commits nothing.", markup=False
            )
            if input("Type yes to go on: ").strip() != "yes":
                console.print("Nothing was changed.")
                return 1
        changed = start_fresh(REPOSITORY)
    except EOFError:
        errors.print("Nobody is there to be asked; type: make start-fresh YES=1", style="red")
        return 2
    except SetupError as error:
        errors.print(str(error), style="red", markup=False)
        return 2
    for name in changed:
        console.print(f"emptied {name}", markup=False)
    console.print("Next: make run, then commit. Until then `git reset --hard && git clean -fd` brings the sample back.")
    console.print("Your own: a source into dbt_project/models/staging/sources.yml, then make new-model.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
