"""`make bring` adds a dbt project to a repository with one command, or changes nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mwaa_local.settings import SetupError
from mwaa_local.testing.repository import git
from mwaa_pipelines.config_file import read_pipelines
from mwaa_release.errors import DeployError
from workbench.bring import HOOKS, SEEDS_MACRO, bring

PIPELINES = """
defaults: {start_date: 2026-01-01, owner: data} # of all
pipelines:
  # ours
  - dag_name: flights_pipeline
    project_name: flights
    redshift_connection_id: flights_redshift
    target_database: dev
    target_schema: marts
"""
REVERSED = PIPELINES[PIPELINES.index("pipelines:") :] + "defaults: {start_date: 2026-01-01, owner: data}\n"
SHOP = {
    "dbt_project.yml": """
name: shop
version: "1.0"
profile: store
seeds: {+schema: raw}
on-run-end: "select 1"
""",
    "packages.yml": "packages:\n    # Ours.\n    - local: packages/money\n",
    "packages/money/dbt_project.yml": "name: money\nversion: '1.0'\n",
    "profiles.yml": "store: {outputs: {prod: {password: \"{{ env_var('STORE_PASSWORD') }}\"}}}\n",
    ".gitignore": "profiles.yml\n",
    "ci/sample.profiles.yml": "{{ env_var('CI_PASSWORD') }}\n",
    ".sqlfluff": "[sqlfluff]\n",
    "target/manifest.json": "{}\n",
    "seeds/countries.csv": "id\n1\n",
    "models/orders.sql": "select * from {{ source('web', 'orders') }} where region = '{{ env_var('SHOP_REGION') }}'\n",
    "models/places.sql": "select id from {{ source('world', 'countries') }}\n",
    "models/sources.yml": "sources: [{name: web, schema: landing, tables: [{name: orders}]}, "
    "{name: flights, schema: marts, tables: [{name: daily}]}, "
    "{name: world, schema: shop_raw, tables: [{name: countries}]}, "
    "{name: own, schema: shop, tables: [{name: carts}]}]\n",
}

PLAIN = {"dbt_project.yml": "name: plain\nversion: '1.0'\nprofile: default\n"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one pipeline, all of it committed."""
    folder = write(
        tmp_path / "repository",
        {"dags/pipelines.yml": PIPELINES, HOOKS: "# Checks.\nrepos: []\n", ".gitignore": "dbt_packages/\n"},
    )
    git(folder, "init", "--quiet")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    git(folder, "add", "--all")
    assert git(folder, *identity, "commit", "--quiet", "--message=start").returncode == 0
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with its own package, hook, seed schema, source and variable."""
    return write(tmp_path / "shop", SHOP)


def test_project_gets_all_that_a_pipeline_needs(repository: Path, shop: Path) -> None:
    before = contents(shop)
    brought = bring(repository, shop)
    assert contents(shop) == before
    status = git(repository, "status", "--porcelain").stdout.splitlines()
    assert [line for line in status if not line.startswith("A  shop/")] == [f"M  {HOOKS}", "M  dags/pipelines.yml"]
    added = {line.removeprefix("A  shop/") for line in status if line.startswith("A  shop/")}
    assert added == set(SHOP) - {".gitignore", "target/manifest.json"} | {SEEDS_MACRO}
    assert len(added) == brought.files

    file = read_pipelines(repository / "dags" / "pipelines.yml")
    assert file.problems == []
    assert [(entry.dag_name, entry.target_schema, entry.env) for entry in file.pipelines] == [
        ("flights_pipeline", "marts", {}),
        ("shop_pipeline", "shop", {"SHOP_REGION": "not-set"}),
    ]
    assert (repository / "dags" / "pipelines.yml").read_text().startswith(PIPELINES)
    profile = yaml.safe_load((repository / "shop" / "profiles.yml").read_text())
    assert profile["store"]["outputs"]["prod"]["schema"] == "shop"
    assert (repository / "shop" / "packages.yml").read_text() == (
        "packages:\n    - local: ../.local/audit_trail\n    # Ours.\n    - local: packages/money\n"
    )
    assert (repository / HOOKS).read_text() == "# Checks.\nexclude: ^shop/\nrepos: []\n"
    assert brought.grants == [
        "deploy warehouse-user --secret-name shop/dbt_user --source-schema landing --public-schema marts "
        "--target-schema shop",
        'create schema "shop_raw" authorization <username of shop/dbt_user>;',
    ]
    # dbt sees the seed as the parent of the model, so it is no warning.
    assert "'world.countries': 'countries'" in (repository / "shop" / SEEDS_MACRO).read_text()
    variables, sources, own_schema, hooks = brought.warnings
    assert "set SHOP_REGION in `env:`" in variables
    assert sources.endswith("landing.orders, marts.daily, shop.carts")
    assert own_schema.startswith("the pipeline would build in the schema of its sources, shop.")
    assert hooks.endswith("shop-on-run-end-0")


@pytest.mark.slow
def test_schema_of_the_pipeline_can_be_chosen(repository: Path, tmp_path: Path) -> None:
    plain = write(tmp_path / "outer" / "plain", PLAIN)
    # The only project in the folder.
    brought = bring(repository, plain.parent, "plain_marts")
    assert (brought.name, brought.warnings) == ("plain", [])
    assert brought.grants == ["deploy warehouse-user --secret-name plain/dbt_user --target-schema plain_marts"]
    assert yaml.safe_load((repository / "plain" / "profiles.yml").read_text())["default"]["outputs"]["prod"][
        "schema"
    ] == ("plain_marts")


@pytest.mark.slow
def test_tests_of_a_package_bring_the_package_and_get_a_profile(repository: Path, tmp_path: Path) -> None:
    # As in packages of the hub: the tests are a project in the package's folder.
    package = write(
        tmp_path / "package",
        {
            "dbt_project.yml": "name: money\nversion: '1.0'\n",
            "packages.yml": "packages: [{local: ../../dates}]\n",
            "../dates/dbt_project.yml": "name: dates\nversion: '1.0'\n",
            "models/prices.sql": "select 1 as price\n",
            "tests/dbt_project.yml": "name: money_tests\nversion: '1.0'\nmodels: {}",
            "tests/packages.yml": "packages:\n  # The package.\n  - local: ../\n",
            "tests/models/spent.sql": "select * from {{ ref('prices') }}\n",
        },
    )
    # What `dbt deps` leaves.
    (package / "tests" / "dbt_packages").mkdir()
    (package / "tests" / "dbt_packages" / "money").symlink_to(package)
    bring(repository, package / "tests")
    copied = contents(repository / "money_tests")
    assert copied["packages/money/models/prices.sql"] == b"select 1 as price\n"
    assert not [file for file in copied if "packages/money/tests" in file]
    assert "packages/dates/dbt_project.yml" in copied
    assert copied["packages.yml"].decode() == (
        "packages:\n  - local: ../.local/audit_trail\n  # The package.\n  - local: packages/money\n"
    )
    assert (
        copied["dbt_project.yml"].decode() == "name: money_tests\nversion: '1.0'\nmodels: {}\n\nprofile: money_tests\n"
    )
    assert list(yaml.safe_load(copied["profiles.yml"])) == ["money_tests"]


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("packages.yml", "packages: []\n", {"packages": [{"local": "../.local/audit_trail"}]}),
        (
            "dependencies.yml",
            "projects: [{name: other}]\npackages: [{local: packages/money}]\n",
            {
                "projects": [{"name": "other"}],
                "packages": [{"local": "packages/money"}, {"local": "../.local/audit_trail"}],
            },
        ),
        (
            "packages.yml",
            "packages:\n  - local: ../.local/audit_trail\n",
            {"packages": [{"local": "../.local/audit_trail"}]},
        ),
    ],
)
def test_every_form_of_a_package_list_gets_the_audit_trail(
    tmp_path: Path, file: str, before: str, after: dict[str, Any]
) -> None:
    from workbench.bring import _add_audit_trail

    (tmp_path / file).write_text(before)
    _add_audit_trail(tmp_path)
    assert yaml.safe_load((tmp_path / file).read_text()) == after
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("project", "own", "message"),
    [
        ({"notes.txt": ""}, {}, "it has no dbt_project.yml. Name its folder: make bring P=<folder>"),
        ({"a/dbt_project.yml": "name: a", "b/dbt_project.yml": "name: b"}, {}, "it contains a, b. Name its folder"),
        ({"dbt_project.yml": "name: flights"}, {}, "pipeline flights_pipeline in dags/pipelines.yml is for a project"),
        (
            PLAIN,
            {"plain/notes.txt": "ours"},
            "plain exists already, and the project needs this folder. Rename or delete it",
        ),
        (PLAIN, {"other/dbt_project.yml": "name: plain"}, "other has the name 'plain' too"),
        (PLAIN, {"dags/pipelines.yml": REVERSED}, "does not end with its list of pipelines"),
        (PLAIN, {"dags/pipelines.yml": "pipelines: 1\n"}, "must contain a list under the key 'pipelines'"),
        ({**PLAIN, "packages.yml": "packages: [{local: ../money}]\n"}, {}, "money is not a dbt project"),
        ({**PLAIN, "models/a.sql": "select * from {{ ref('missing') }}"}, {}, "'missing' which was not found"),
    ],
)
def test_refusal_names_the_cause_and_changes_nothing(
    repository: Path, tmp_path: Path, project: dict[str, str], own: dict[str, str], message: str
) -> None:
    source = write(tmp_path / "source", project)
    if own:
        write(repository, own)
        git(repository, "add", "--all")
        git(repository, "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "-m=own")
    before = contents(repository)
    with pytest.raises((SetupError, DeployError), match=r".") as raised:
        bring(repository, source)
    assert message in str(raised.value)
    assert contents(repository) == before
    assert git(repository, "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("path", "schema", "message"),
    [
        ("", "", "no dbt project is given. Name its folder: make bring P=<folder>"),
        ("nowhere", "", "nowhere does not exist. Name the folder of a dbt project: make bring P=<folder>"),
        ("notes.txt", "", "notes.txt is not one dbt project: it has no dbt_project.yml"),
        ("plain/dbt_project.yml", "marts", "builds in the schema 'marts', which can have one owner only"),
        ("plain", "My Schema", "dags/pipelines.yml: pipeline plain_pipeline: target_schema: String should match"),
    ],
)
def test_wrong_argument_is_refused_with_the_cause(
    repository: Path, tmp_path: Path, path: str, schema: str, message: str
) -> None:
    write(tmp_path, {"notes.txt": "", **{f"plain/{name}": text for name, text in PLAIN.items()}})
    with pytest.raises(SetupError) as raised:
        bring(repository, tmp_path / path if path else Path(), schema)
    assert message in str(raised.value)
    assert git(repository, "status", "--porcelain").stdout == ""


def test_uncommitted_changes_are_refused(repository: Path, shop: Path) -> None:
    (repository / "notes.txt").write_text("mine\n")
    with pytest.raises(SetupError, match="there are uncommitted changes"):
        bring(repository, shop)


def test_project_inside_of_the_repository_is_refused(repository: Path) -> None:
    inside = write(repository / ".git" / "shop", PLAIN)
    with pytest.raises(SetupError, match="is in this repository already"):
        bring(repository, inside)
