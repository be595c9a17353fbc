"""Check the conventions of the dbt projects without a warehouse: `python -m workbench conventions`.

dbt parses a project and treats warnings as errors, then dbt-score applies the rules of `conventions.py`. Projects that
`make bring` added have conventions of their own. dbt only parses them, because pipelines and other projects read them.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbt.cli.main import dbtRunner
from dbt_common.exceptions import DbtBaseException
from dbt_score.config import Config
from dbt_score.evaluation import Evaluation
from dbt_score.formatters import Formatter
from dbt_score.models import Evaluable, ManifestLoader
from dbt_score.rule_registry import RuleRegistry
from dbt_score.scoring import Score, Scorer

from mwaa_local.settings import Settings
from mwaa_release.build import find_projects
from mwaa_release.errors import DeployError
from mwaa_release.list_nodes import list_nodes
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.pipelines import PIPELINES, dbt_environment, pipelines_by_project, project_environment
from mwaa_release.products import ParsedProject, find_product_problems
from mwaa_release.run_dbt import Listing
from mwaa_release.selections import find_problems, list_arguments
from workbench.lint import has_conventions
from workbench.problems import Problem
from workbench.unknown_keys import EVENTS, UnknownKeys

RULES = "workbench.conventions"
# dbt_project.yml can configure a folder that has no model yet. Unknown keys are reported with their lines.
_WARNINGS = json.dumps({"error": "all", "warn": ["UnusedResourceConfigPath", *EVENTS]})


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


def parse(project: Path, target: Path, has_conventions: bool = True) -> Any:
    """Let dbt parse the changed files of a project, and return its manifest, which is also `target`/manifest.json.

    Args:
        project: folder of the project.
        target: folder for dbt's output.
        has_conventions: whether a warning is a mistake.

    Returns:
        None if dbt found a mistake, which dbt prints.
    """
    return parse_and_find_unknown_keys(project, target, has_conventions)[0]


def parse_and_find_unknown_keys(project: Path, target: Path, has_conventions: bool) -> tuple[Any, list[Problem]]:
    """Return what `parse` does, and the keys that dbt does not know if these are mistakes."""
    flags = ["--quiet", "--no-version-check", *([f"--warn-error-options={_WARNINGS}"] if has_conventions else [])]
    keys = UnknownKeys(project, target / "unknown_keys.json")
    runner = dbtRunner(callbacks=[keys.on_event])
    done = runner.invoke([*flags, "--show-all-deprecations", "parse", *_options(project, target)])
    # dbt prints its own errors, but not those of its options, such as a wrong value of a DBT_ variable.
    if done.exception and not isinstance(done.exception, DbtBaseException):
        print(f"{project.name}: dbt could not start: {type(done.exception).__name__}: {done.exception}")
    return done.result, keys.problems() if has_conventions else []


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
    """Print each broken convention and each problem of a pipeline, and return how many there are.

    A project that dbt cannot parse counts as one. dbt prints the reason.
    """
    lines: list[str] = []
    manifests: dict[Path, Any] = {}
    for project in find_projects():
        install_packages(project)
        os.environ.update(project_environment(project))
        target = settings.state / "lint" / project.name
        manifests[project], unknown_keys = parse_and_find_unknown_keys(project, target, has_conventions(project))
        lines += [f"{project.name}/{key.place}: {key.message}; {key.hint}" for key in unknown_keys]
        if manifests[project] is not None and has_conventions(project):
            lines += [f"{project.name}/{line}" for line in problems(target / "manifest.json")]
    unusable = sum(manifest is None for manifest in manifests.values())
    if not unusable:
        lines += find_pipeline_problems(PIPELINES, manifests, settings.state / "lint")
    for line in lines:
        print(line)
    return len(lines) + unusable


def find_pipeline_problems(pipelines_file: Path, manifests: Mapping[Path, Any], target: Path) -> list[str]:
    """Return one line for each problem that would fail `mwaa_release build`: settings, names, selectors and access.

    Args:
        pipelines_file: dags/pipelines.yml of the projects' repository.
        manifests: those of all its projects, by folder.
        target: folder with dbt's output for each project.
    """
    named = {project_name(project): project for project in manifests}
    try:
        by_project = pipelines_by_project(pipelines_file, named, complete=True)
    except DeployError as error:
        return str(error).splitlines()
    file = pipelines_file.relative_to(pipelines_file.parent.parent)
    lines, parsed = [], []
    for name, project in named.items():
        os.environ.update(dbt_environment(by_project[name]))
        folder = target / project.name
        listed = list_nodes(manifests[project], list_arguments(by_project[name]), _options(project, folder))
        listings = {name_in_release: Listing(**listing) for name_in_release, listing in listed.items()}
        content = json.loads((folder / "manifest.json").read_text())
        selection_problems = find_problems(by_project[name], content, listings, file)
        lines += selection_problems
        if not selection_problems:
            parsed.append(ParsedProject(content, by_project[name], listings))
    return lines + find_product_problems(parsed, file)
