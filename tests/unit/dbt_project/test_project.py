"""The dbt project passes the linter and parses without a warehouse. `make lint` checks its conventions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_release.manifest import install_packages
from redshift_local.testing.preloaded_dbt import run_preloaded_dbt

REPOSITORY = Path(__file__).parents[3]
PROJECT = REPOSITORY / "dbt_project"


@pytest.fixture(scope="module", autouse=True)
def _packages():
    install_packages(PROJECT)


def dbt(target: Path, *arguments: str, project: Path = PROJECT, **variables: str) -> subprocess.CompletedProcess:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "REDSHIFT_", "AIRFLOW_"))
    }
    environment = {**inherited, "DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target), **variables}
    return run_preloaded_dbt(*arguments, cwd=project, env=environment)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict:
    """The manifest of `dbt parse` without variables, network or warehouse."""
    target = tmp_path_factory.mktemp("target")
    # dbt_project.yml can configure a folder that has no model yet.
    silent = ("--warn-error-options", '{"error": "all", "silence": ["UnusedResourceConfigPath"]}')
    parsed = dbt(target, *silent, "parse", "--target", "prod", REDSHIFT_HOST="no-such-host.invalid")
    assert parsed.returncode == 0, parsed.stdout
    return json.loads((target / "manifest.json").read_text())


def models(manifest: dict) -> dict[str, dict]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}


def test_no_node_has_the_name_of_the_project(manifest):
    # Cosmos runs a model by its name, and `dbt run --select flights` selects the whole project.
    nodes = [*manifest["nodes"].values(), *manifest["unit_tests"].values()]
    assert "flights" not in {node["name"] for node in nodes}


def test_dbt_generates_only_ignored_files(manifest):
    assert not [path for name in ("target", "logs") if (path := PROJECT / name).exists()]
    ignored = ["git", "check-ignore", "dbt_packages", "package-lock.yml"]
    assert subprocess.run(ignored, cwd=PROJECT, capture_output=True, check=False).returncode == 0


def test_audit_models_come_only_from_the_package(manifest):
    audit = [node for node in models(manifest).values() if node["name"].startswith("audit_")]
    assert {node["package_name"] for node in audit} == {"audit_trail"}
    tags = {node["name"]: node["tags"] for node in audit}
    assert tags.pop("audit_table") == ["audit"]
    assert len(tags) == 9
    assert set(map(tuple, tags.values())) == {("audit_view",)}


def test_audit_trail_does_not_depend_on_the_project(manifest):
    nodes = [node for node in manifest["nodes"].values() if node["package_name"] == "audit_trail"]
    assert {node["resource_type"] for node in nodes} == {"model", "test", "analysis", "operation"}
    used = {unique_id for node in nodes for unique_id in node["depends_on"]["nodes"]}
    macros, unseen = set(), {macro for node in nodes for macro in node["depends_on"]["macros"]}
    while unseen:
        macros |= unseen
        unseen = {macro for name in unseen for macro in manifest["macros"][name]["depends_on"]["macros"]} - macros
    used |= macros
    # dbt asks the project for the schema of every node.
    assert {name for name in used if ".flights." in name} <= {"macro.flights.generate_schema_name"}


def test_second_pipeline_builds_in_its_schema(tmp_path):
    parsed = dbt(tmp_path, "parse", "--target", "prod", REDSHIFT_SCHEMA="marketing")
    assert parsed.returncode == 0, parsed.stdout
    nodes = json.loads((tmp_path / "manifest.json").read_text())["nodes"].values()
    assert {node["schema"] for node in nodes if node["resource_type"] in ("model", "seed", "snapshot")} == {"marketing"}


def test_developers_cannot_build_in_production(tmp_path):
    parsed = dbt(tmp_path, "parse", "--target", "dev", REDSHIFT_SCHEMA="analytics")
    assert parsed.returncode == 2
    output = " ".join(parsed.stdout.split())
    assert "Target 'dev' would build in 'analytics', the production schema" in output
    assert "REDSHIFT_SCHEMA=dbt_<your name>" in output


def test_linter_passes_the_project_and_rejects_bad_sql(tmp_path):
    linter = [Path(sys.executable).with_name("sqlfluff"), "lint", "--disable-progress-bar"]
    linted = subprocess.run([*linter, "dbt_project"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    (tmp_path / ".sqlfluff").write_text(
        (PROJECT / ".sqlfluff").read_text().replace("load_macros_from_path = macros", "")
    )
    (tmp_path / "wrong.sql").write_text("SELECT  a , b from x\n")
    linted = subprocess.run(
        [*linter, tmp_path / "wrong.sql"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 1
    assert "CP01" in linted.stdout
