"""`make new-domain` adds a project that follows the conventions, with everything that a pipeline needs."""

from pathlib import Path

import pytest

from mwaa_local.settings import SetupError
from mwaa_local.testing.repository import git
from mwaa_pipelines.config_file import read_pipelines
from mwaa_release.manifest import install_packages
from workbench.bring import OWNERS
from workbench.check_conventions import parse, problems
from workbench.new_domain import new_domain

PIPELINES = """
pipelines:
  # ours
  - dag_name: flights_pipeline
    project_name: flights
    redshift_connection_id: flights_redshift
    target_database: dev
    target_schema: analytics
"""
TEAMS = "# Teams such as @other/team.\n* @our-org/data-platform\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one pipeline, all of it committed."""
    folder = tmp_path / "repository"
    files = {
        "dags/pipelines.yml": PIPELINES,
        OWNERS: TEAMS,
        "dbt_project/dbt_project.yml": "name: flights\n",
        "dbt_project/.sqlfluff": "[sqlfluff]\n",
        ".gitignore": ".local/\ndbt_packages/\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    assert git(folder, "commit", "--quiet", "--message=start").returncode == 0
    return folder


@pytest.mark.slow
def test_domain_has_a_project_an_entry_and_an_owner(repository: Path) -> None:
    created = new_domain(repository, "sales")
    mart = "models/marts/sales_example"
    files = [".sqlfluff", "dbt_project.yml", f"{mart}.sql", f"{mart}.yml", "packages.yml", "profiles.yml"]
    assert git(repository, "status", "--porcelain").stdout.splitlines() == [
        f"M  {OWNERS}",
        "M  dags/pipelines.yml",
        *(f"A  sales/{file}" for file in files),
    ]
    assert created.files == len(files)
    assert (repository / OWNERS).read_text() == f"{TEAMS}/sales/ @our-org/sales\n"
    assert (repository / "dags" / "pipelines.yml").read_text().startswith(PIPELINES)
    file = read_pipelines(repository / "dags" / "pipelines.yml")
    assert file.problems == []
    assert [(entry.dag_name, entry.target_schema) for entry in file.pipelines][1] == ("sales_pipeline", "sales")
    assert created.grants == ["deploy warehouse-user --secret-name sales/dbt_user --target-schema sales"]
    parameters = "DbtUser=sales_user SecretName=sales/dbt_user ConnectionId=sales_redshift Database=dev"
    assert created.stack.startswith('aws cloudformation deploy --stack-name "$NAME-sales-credentials" --template-file')
    assert created.stack.endswith(parameters)
    install_packages(repository / "sales")
    assert parse(repository / "sales", repository / ".local" / "target")
    assert problems(repository / ".local" / "target" / "manifest.json") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must have only lower-case letters, digits and underscores"),
        ("Sales", "must have only lower-case letters, digits and underscores"),
        ("../sales", "must have only lower-case letters, digits and underscores"),
        ("user", "is a reserved word of Redshift"),
        ("flights", "has the name 'flights' too"),
        ("dags", "exists already, and the project needs this folder"),
        ("analytics", "builds in the schema 'analytics', which can have one owner only"),
    ],
)
def test_impossible_name_is_refused_and_nothing_changes(repository: Path, name: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        new_domain(repository, name)
    assert git(repository, "status", "--porcelain", "--ignored").stdout == ""
