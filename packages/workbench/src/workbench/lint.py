"""Run all linters in parallel, and report which ones have findings."""

import datetime
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from rich.markup import escape

from mwaa_local.settings import REPOSITORY
from mwaa_release.build import find_projects
from mwaa_release.contracts import outdated
from mwaa_release.progress import console

# dbt packages of this repository. A copy of the template has none.
_PACKAGES = [str(path.parent.relative_to(REPOSITORY)) for path in REPOSITORY.glob("packages/*/src/*/dbt_project.yml")]


def _excluded() -> str:
    return yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text()).get("exclude", "^$")


def has_conventions(project: Path) -> bool:
    """Whether the conventions apply to a dbt project. `make bring` excludes it in .pre-commit-config.yaml."""
    return not re.search(_excluded(), f"{project.name}/dbt_project.yml")


def _tracked(*patterns: str) -> list[str]:
    """Return the files that git tracks or would track, by pattern.

    Third-party files are excluded by .pre-commit-config.yaml.
    """
    excluded = _excluded()
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\n")
    names = {name for name in listed if name and not re.search(excluded, name)}
    return sorted(name for name in names if (REPOSITORY / name).is_file())


def lint(binaries: Path) -> int:
    """Run every linter, print its findings, and return the number of linters with findings.

    Also warn about contracts with AWS and GitHub that nobody has checked for long.

    Args:
        binaries: folder of the linters.
    """
    # Files such as .checkov.yml are settings of a tool.
    templates = [name for name in _tracked("infra/*.yml", "infra/*.yaml") if not Path(name).name.startswith(".")]
    python = ["pyproject.toml", *_tracked("*.py")]
    projects = [project.name for project in find_projects() if has_conventions(project)]
    commands = {
        # The slowest first.
        "conventions": ["python", "-m", "workbench", "conventions"],
        "sqlfluff": ["sqlfluff", "lint", "--disable-progress-bar", *projects, *_PACKAGES],
        "cfn-lint": ["cfn-lint", *templates] if templates else [],
        "zizmor": ["zizmor", "--offline", "--persona=pedantic", "--no-progress", "--quiet", ".github"],
        "yamllint": ["yamllint", "--strict", *_tracked("*.yml", "*.yaml")],
        "shellcheck": ["shellcheck", "startup.sh", ".ci/run", *_tracked("*.sh")],
        "ruff": ["ruff", "check", "--quiet", "--force-exclude", *python],
        "ruff format": ["ruff", "format", "--check", "--quiet", "--force-exclude", *python],
    }
    environment = {**os.environ, "NO_COLOR": "1"}

    processes: list[subprocess.Popen[str]] = []

    def run(command: list[str]) -> tuple[int, str]:
        tool, *arguments = command
        with subprocess.Popen(
            [str(binaries / tool), *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            processes.append(process)
            findings, _ = process.communicate()
            return process.returncode, findings

    failed = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        runs = {name: pool.submit(run, command) for name, command in commands.items() if command}
        try:
            for name, running in runs.items():
                with console.status(name):
                    code, findings = running.result()
                console.print(f"{'[green]✓[/]' if code == 0 else '[red]✗[/]'} {name}")
                if code:
                    failed += 1
                    console.print(findings.rstrip(), markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            raise
    for warning in outdated(datetime.datetime.now(datetime.UTC).date()):
        console.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)
    return failed
