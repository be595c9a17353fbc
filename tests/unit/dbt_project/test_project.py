"""The dbt project as it lies there: in style, parsable with nothing at hand. Conventions are `make lint`'s."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PROJECT = REPOSITORY / "dbt_project"
DBT = Path(sys.executable).with_name("dbt")


def dbt(target: Path, *arguments: str, project: Path = PROJECT, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "REDSHIFT_", "AIRFLOW_"))}
    return subprocess.run(
        [DBT, "--no-use-colors", *arguments],
        cwd=project,
        env={**kept, "DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict:
    """What `dbt parse` makes of the project with no variable set, no network and no warehouse."""
    target = tmp_path_factory.mktemp("target")
    # Settings of a folder that holds no model yet are no mistake.
    silent = ("--warn-error-options", '{"error": "all", "silence": ["UnusedResourceConfigPath"]}')
    parsed = dbt(target, *silent, "parse", "--target", "prod", REDSHIFT_HOST="no-such-host.invalid")
    assert parsed.returncode == 0, parsed.stdout
    return json.loads((target / "manifest.json").read_text())


def models(manifest: dict) -> dict[str, dict]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}


def test_nothing_has_the_name_of_the_project(manifest):
    # `dbt run --select flights`, which is how Cosmos would run a model of that name, means the whole project.
    nodes = [*manifest["nodes"].values(), *manifest["unit_tests"].values()]
    assert "flights" not in {node["name"] for node in nodes}


def test_nothing_is_written_into_the_project(manifest):
    assert not [path for name in ("target", "logs", "dbt_packages") if (path := PROJECT / name).exists()]


def test_the_audit_group_holds_one_model_and_the_views_are_built_by_the_other(manifest):
    tags = {name: node["tags"] for name, node in models(manifest).items() if name.startswith("audit_")}
    assert tags.pop("audit_table") == ["audit"]
    assert tags
    assert all(each == ["audit_view"] for each in tags.values())


def test_the_audit_uses_what_a_project_takes_over_with_it_and_nothing_else(manifest):
    # docs/how-to/bring-a-project.md says what to copy.
    taken = ("macros/audit/", "models/audit/", "tests/generic/unique_combination.sql")
    audit = [node for node in manifest["nodes"].values() if node["original_file_path"].startswith("models/audit/")]
    assert {node["resource_type"] for node in audit} == {"model", "test"}
    macros, looked_at = manifest["macros"], set()
    left = {name for node in audit for name in node["depends_on"]["macros"]}
    left |= {"macro.flights.begin_audit", "macro.flights.log_audit_table"}
    while left:
        looked_at |= left
        left = {name for each in left for name in macros[each]["depends_on"]["macros"]} - looked_at
    own = {name: macros[name]["original_file_path"] for name in looked_at if macros[name]["package_name"] == "flights"}
    assert {name: path for name, path in own.items() if not path.startswith(taken)} == {}
    assert {model for node in audit for model in node["depends_on"]["nodes"]} <= {node["unique_id"] for node in audit}


def test_the_project_needs_no_package(manifest):
    assert not list(PROJECT.glob("packages.yml")) + list(PROJECT.glob("dependencies.yml"))
    assert manifest["metadata"]["project_name"] == "flights"


def test_a_second_pipeline_builds_in_a_schema_of_its_own(tmp_path):
    parsed = dbt(tmp_path, "parse", "--target", "prod", REDSHIFT_SCHEMA="marketing")
    assert parsed.returncode == 0, parsed.stdout
    nodes = json.loads((tmp_path / "manifest.json").read_text())["nodes"].values()
    assert {node["schema"] for node in nodes if node["resource_type"] in ("model", "seed", "snapshot")} == {"marketing"}


def test_a_developer_is_kept_out_of_the_production_schema(tmp_path):
    parsed = dbt(tmp_path, "parse", "--target", "dev", REDSHIFT_SCHEMA="analytics")
    assert parsed.returncode == 2
    said = " ".join(parsed.stdout.split())
    assert "Target 'dev' would build in 'analytics', the production schema" in said
    assert "REDSHIFT_SCHEMA=dbt_<your name>" in said


def test_the_linter_is_content_and_finds_what_is_wrong(tmp_path):
    linter = [Path(sys.executable).with_name("sqlfluff"), "lint", "--disable-progress-bar"]
    found = subprocess.run([*linter, "dbt_project"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    (tmp_path / ".sqlfluff").write_text(
        (PROJECT / ".sqlfluff").read_text().replace("load_macros_from_path = macros", "")
    )
    (tmp_path / "wrong.sql").write_text("SELECT  a , b from x\n")
    found = subprocess.run([*linter, tmp_path / "wrong.sql"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "CP01" in found.stdout
