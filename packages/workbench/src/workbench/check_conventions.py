"""Check a dbt project's conventions without a warehouse: `python -m workbench conventions`.

dbt parses the project and treats warnings as errors, then dbt-score applies the rules of `conventions.py`.
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
# dbt_project.yml can configure a folder that has no model yet.
_WARNINGS = '{"error": "all", "warn": ["UnusedResourceConfigPath"]}'


class _Problems(Formatter):
    """Collects broken rules as lines that start with a file. dbt-score itself passes a rule that raised an error."""

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
    """Let dbt parse the changed files of a project, and return the manifest's path.

    Returns:
        None if dbt found a mistake. dbt prints it with its file.
    """
    places = [f"--project-dir={project}", f"--profiles-dir={project}", f"--target-path={target}"]
    flags = ["--quiet", "--no-version-check", f"--warn-error-options={_WARNINGS}", f"--log-path={target}"]
    return target / "manifest.json" if dbtRunner().invoke([*flags, "parse", *places]).success else None


def problems(manifest: Path) -> list[str]:
    """Return one line for each broken convention; a line starts with the file.

    Args:
        manifest: dbt's manifest of the project.

    Raises:
        Exception: a rule raised an error.
    """
    config = Config()
    config.rule_namespaces = [RULES]
    registry = RuleRegistry(config)
    registry.load_all()
    loader = ManifestLoader(manifest)
    collector = _Problems(loader, config)
    Evaluation(registry, loader, collector, Scorer(config), config).evaluate()
    return collector.lines


def check(settings: Settings) -> int:
    """Print each broken convention of the project, and return how many there are.

    A project that dbt cannot parse counts as one. dbt prints the reason.
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
