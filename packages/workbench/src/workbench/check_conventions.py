"""Checks a dbt project's conventions: `python -m workbench conventions`. It needs no warehouse.

dbt reads the project (a warning of dbt's is a mistake here), then dbt-score holds it against `conventions.py`.
"""

from pathlib import Path
from typing import Any

from dbt.cli.main import dbtRunner
from dbt_score.config import Config
from dbt_score.evaluation import Evaluation
from dbt_score.formatters import Formatter
from dbt_score.models import Evaluable, ManifestLoader
from dbt_score.rule_registry import RuleRegistry
from dbt_score.scoring import Score, Scorer

from mwaa_local.settings import REPOSITORY, Settings
from mwaa_release.manifest import install_packages

RULES = "workbench.conventions"
# A folder of dbt_project.yml that has no model yet is no mistake.
_WARNINGS = '{"error": "all", "warn": ["UnusedResourceConfigPath"]}'


class _Problems(Formatter):
    """Keeps what was found as lines that begin with a file. dbt-score itself would let a rule pass that raised."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lines: list[str] = []

    def evaluable_evaluated(self, evaluable: Evaluable, results: dict[Any, Any], _score: Score) -> None:
        for rule, result in results.items():
            if isinstance(result, Exception):
                raise result
            if result:
                self.lines.append(
                    f"{evaluable.original_file_path}: {evaluable.name} {result.message} [{rule.__name__}]"
                )

    def project_evaluated(self, _score: Score) -> None:
        self.lines.sort()


def parse(project: Path, target: Path) -> Path | None:
    """Let dbt read the files of a project that changed since the last time, and return the manifest's path.

    Returns:
        None if dbt found a mistake, which it has printed with its file.
    """
    places = [f"--project-dir={project}", f"--profiles-dir={project}", f"--target-path={target}"]
    flags = ["--quiet", "--no-version-check", f"--warn-error-options={_WARNINGS}", f"--log-path={target}"]
    return target / "manifest.json" if dbtRunner().invoke([*flags, "parse", *places]).success else None


def problems(manifest: Path) -> list[str]:
    """Return one line for each broken convention, beginning with the file.

    Args:
        manifest: dbt's manifest of the project.

    Raises:
        Exception: a rule has a bug.
    """
    config = Config()
    config.rule_namespaces = [RULES]
    registry = RuleRegistry(config)
    registry.load_all()
    loader = ManifestLoader(manifest)
    formatter = _Problems(loader, config)
    Evaluation(registry, loader, formatter, Scorer(config), config).evaluate()
    return formatter.lines


def check(settings: Settings) -> int:
    """Print each broken convention of the project, and return how many there are.

    A project that dbt cannot read counts as one; dbt has printed why.
    """
    project = REPOSITORY / "dbt_project"
    install_packages(project)
    manifest = parse(project, settings.state / "lint")
    if manifest is None:
        return 1
    lines = problems(manifest)
    for line in lines:
        print(f"{project.name}/{line}")
    return len(lines)
