"""Check a dbt project's conventions without a warehouse: `python -m workbench conventions`.

dbt parses the project and treats warnings as errors, then dbt-score applies the rules of `conventions.py`.
"""

import json
import os
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
from mwaa_release.build import find_projects
from mwaa_release.errors import DeployError
from mwaa_release.list_nodes import list_nodes
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.pipelines import PIPELINES, pipelines_by_project, project_environment
from mwaa_release.run_dbt import Listing
from mwaa_release.selections import find_problems, list_arguments

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
    return target / "manifest.json" if _parse(project, target) else None


def _parse(project: Path, target: Path) -> Any:
    flags = ["--quiet", "--no-version-check", f"--warn-error-options={_WARNINGS}"]
    return dbtRunner().invoke([*flags, "parse", *_options(project, target)]).result


def _options(project: Path, target: Path) -> list[str]:
    places = {"project-dir": project, "profiles-dir": project, "target-path": target, "log-path": target}
    return [f"--{name}={path}" for name, path in places.items()]


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
    target = settings.state / "lint"
    os.environ.update(project_environment(project))
    manifest = parse(project, target)
    if manifest is None:
        return 1
    lines = [f"{project.name}/{line}" for line in problems(manifest)]
    lines += find_pipeline_problems(PIPELINES, project, target)
    for line in lines:
        print(line)
    return len(lines)


def find_pipeline_problems(pipelines_file: Path, project: Path, target: Path) -> list[str]:
    """Return one line for each problem that would fail `mwaa_release build`: settings, names, and selectors.

    Args:
        pipelines_file: dags/pipelines.yml of the project's repository.
        project: folder of a project that dbt can parse. Selectors for other projects are not checked.
        target: folder for dbt's output, with that of `parse`.
    """
    projects = [project_name(path) for path in find_projects(pipelines_file.parent.parent)]
    try:
        by_project = pipelines_by_project(pipelines_file, projects, complete=True)
    except DeployError as error:
        return str(error).splitlines()
    pipelines = by_project[project_name(project)]
    listed = list_nodes(_parse(project, target), list_arguments(pipelines), _options(project, target))
    listings = {name: Listing(**listing) for name, listing in listed.items()}
    manifest = json.loads((target / "manifest.json").read_bytes())
    return find_problems(pipelines, manifest, listings, pipelines_file.relative_to(pipelines_file.parent.parent))
