"""`make scan`: checks the stacks with checkov and the workflows with actionlint, in a separate environment."""

import os
import subprocess
import sys
from pathlib import Path

from mwaa_local.mwaa.image import find_uv, made_from, read
from mwaa_local.processes import base_environment
from mwaa_local.settings import REPOSITORY, Settings, SetupError
from mwaa_release.progress import console

REQUIREMENTS = Path(__file__).parent / "requirements" / "scan.txt"


def environment(settings: Settings) -> Path:
    """Return the folder of the scanners' executables. They are installed on first use, and again when a version
    changes or the checkout was moved.

    Raises:
        SetupError: uv could not install them.
    """
    home = (settings.state / "venvs" / "scan").resolve()
    expected = made_from(REQUIREMENTS, home)
    if read(home / ".ready") != expected:
        uv = find_uv(settings.state / "venvs")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            [uv, "pip", "sync", "--quiet", "--require-hashes", str(REQUIREMENTS)],
        ):
            if subprocess.run(command, env={**os.environ, "VIRTUAL_ENV": str(home)}, check=False).returncode:
                raise SetupError(
                    "the scanners could not be installed; is a package index reachable (UV_DEFAULT_INDEX)?"
                )
        (home / ".ready").write_text(expected)
    return home / "bin"


def stacks(repository: Path) -> list[str]:
    """Return the files of CloudFormation stacks: those of infra, and in the template those that `make add-…` copies."""
    added = (
        path
        for path in repository.glob("packages/*/src/*/*/*.yml")
        if path.read_text(encoding="utf-8").startswith("AWSTemplateFormatVersion")
    )
    own = (path for path in (repository / "infra").rglob("*.y*ml") if not path.name.startswith("."))
    return [str(path.relative_to(repository)) for path in (*sorted(own), *sorted(added))]


def scan(settings: Settings, repository: Path = REPOSITORY) -> int:
    """Run both scanners, print their findings, and return the number of scanners with findings."""
    binaries = environment(settings)
    workflows = sorted(str(path) for path in (repository / ".github" / "workflows").glob("*.yml"))
    failed = 0
    for name, arguments in (
        # With several folders, checkov looks at the first one again and again.
        ("checkov", ["--config-file", "infra/.checkov.yml", "--file", *stacks(repository)]),
        # Each `run` line is one command, so shellcheck is not needed.
        ("actionlint", ["-shellcheck=", "-pyflakes=", *workflows]),
    ):
        done = subprocess.run(
            [str(binaries / name), *arguments],
            cwd=repository,
            env={**base_environment(), "LOG_LEVEL": "ERROR", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        console.print(f"{'[green]✓[/]' if done.returncode == 0 else '[red]✗[/]'} {name}")
        if done.returncode:
            failed += 1
            console.print(done.stdout.rstrip(), markup=False)
    return failed
