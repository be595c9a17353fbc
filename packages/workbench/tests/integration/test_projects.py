"""Commands on models find the project of a model among several projects."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mwaa_local.settings import REPOSITORY, Settings, SetupError
from workbench import commands
from workbench.build import Builder
from workbench.choose_project import NoModelError, NoTestError, all_projects, in_projects, one_project, projects_with
from workbench.cli import add_commands
from workbench.commands import open_project
from workbench.watch import Loop, is_source

PIPELINES = """
pipelines:
  - dag_name: zoo_pipeline
    project_name: zoo
    redshift_connection_id: zoo
    secret_name: zoo/dbt_user
    target_database: dev
    target_schema: zoo
    sns_lambda_function_name: sns_notification
    start_date: 2026-01-01
"""


@pytest.fixture
def projects(tmp_path: Path) -> list[Path]:
    """A repository with three projects. The pipelines file names only the last of them."""
    for name, files in {
        "bar": ["models/drinks.sql", "models/staging/stg_orders.sql"],
        "shop": ["models/orders.sql", "models/staging/stg_orders.sql", "snapshots/prices.yml"],
        "zoo": ["animals/cats.py", "seeds/food.csv", "models/not_configured.sql"],
    }.items():
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
        paths = "\nmodel-paths: [animals]" if name == "zoo" else ""
        (tmp_path / name / "dbt_project.yml").write_text(f"name: {name}\nprofile: {name}{paths}\n")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "pipelines.yml").write_text(PIPELINES)
    return all_projects(tmp_path)


def test_project_of_the_first_pipeline_is_first(projects: list[Path]):
    assert [folder.name for folder in projects] == ["zoo", "bar", "shop"]
    assert one_project("", projects).name == "zoo"
    (projects[0].parent / "dags" / "pipelines.yml").write_text("pipelines: [\n")
    assert [folder.name for folder in all_projects(projects[0].parent)] == ["bar", "shop", "zoo"]


@pytest.mark.parametrize(
    ("models", "name", "expected"),
    [
        ("orders", "", ["shop"]),
        ("orders+", "", ["shop"]),
        ("2+orders+1 tag:mart", "", ["shop"]),
        ("@prices", "", ["shop"]),
        ("food cats", "", ["zoo"]),
        ("orders,tag:mart drinks", "", ["shop", "bar"]),
        # Every project can have these.
        ("", "", ["zoo", "bar", "shop"]),
        ("tag:mart", "", ["zoo", "bar", "shop"]),
        ("not_configured", "", ["zoo", "bar", "shop"]),
        ("stg_orders", "bar", ["bar"]),
        ("", "shop/", ["shop"]),
    ],
)
def test_project_is_found_by_the_name_of_a_model(projects: list[Path], models: str, name: str, expected: list[str]):
    assert [folder.name for folder in projects_with(models, name, projects)] == expected


def test_model_of_two_projects_is_refused(projects: list[Path]):
    with pytest.raises(SetupError, match=r"stg_orders is in bar and shop. Name the project, .* P=bar M='stg_orders\+'"):
        projects_with("stg_orders+", "", projects)


def test_unknown_project_gets_a_suggestion(projects: list[Path]):
    with pytest.raises(SetupError, match=r"P=shpo: the dbt projects are zoo, bar, shop. Did you mean 'shop'\?"):
        projects_with("orders", "shpo", projects)


def test_projects_without_a_match_do_not_count(projects: list[Path]):
    def run(folder: Path) -> int:
        commands_of = {"bar": 0, "shop": 1}
        if folder.name not in commands_of:
            raise NoModelError(commands.Problem("no model here"))
        return commands_of[folder.name]

    assert in_projects(run, "tag:mart", projects) == 1
    assert in_projects(run, "tag:mart", projects[:2]) == 0
    with pytest.raises(NoModelError, match="no model here"):
        in_projects(run, "food", projects[:1])
    with pytest.raises(NoModelError, match="there is no model fodo") as raised:
        in_projects(run, "fodo", [projects[0], projects[0]])
    assert raised.value.problem.hint == "did you mean food?"


def test_models_without_tests_are_not_called_missing(projects: list[Path]):
    def run(folder: Path) -> int:
        problem = commands.Problem(f"{folder.name} says so")
        raise NoTestError(problem) if folder.name == "bar" else NoModelError(problem)

    with pytest.raises(NoTestError, match="bar says so"):
        in_projects(run, "tag:mart", projects)


@pytest.fixture
def second(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project like the first one, with a schema of its own, a source, and a profile for production only."""
    folder = shutil.copytree(template, tmp_path / "cafe")
    for path in folder.rglob("*.yml"):
        path.write_text(path.read_text().replace("shop", "cafe"))
    (folder / "profiles.yml").write_text("cafe: {target: prod, outputs: {prod: {type: redshift, host: none}}}\n")
    freshness = "{loaded_at_field: paid_at, freshness: {warn_after: {count: 1, period: day}}}"
    sources = f"sources: [{{name: till, schema: till, config: {freshness}, tables: [{{name: tips}}]}}]\n"
    (folder / "models/staging/sources.yml").write_text(sources)
    (folder / "models/marts/tips.sql").write_text(
        "{{ config(schema='bar', contract={'enforced': false}) }}select * from {{ source('till', 'tips') }}\n"
    )
    monkeypatch.setattr("workbench.commands.all_projects", lambda: [template, folder])
    return folder


def test_second_project_builds_in_its_own_schemas(settings: Settings, second: Path, superuser, capsys):
    superuser(
        "create schema if not exists till",
        "drop table if exists till.tips",
        "create table till.tips as select 5 as tip",
    )
    assert commands.build(settings, "dear_items", folder=second) == 0
    assert commands.build(settings, "tips", folder=second) == 0
    assert commands.show(settings, "tips", 10, folder=second) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5"
    assert commands.compile_model(settings, "dear_items", folder=second) == 0
    assert '"dev"."dbt_local_cafe"."items"' in capsys.readouterr().out
    schemas = {schema for (schema,) in superuser("select distinct table_schema from svv_tables")}
    assert {name for name in schemas if name.startswith("dbt_local")} == {"dbt_local_cafe", "dbt_local_cafe_bar"}


def test_freshness_reads_sources_that_were_not_read_before(settings: Settings, second: Path, superuser, capsys):
    superuser(
        "drop schema if exists till cascade",
        "create schema till",
        "create table till.tips as select getdate() as paid_at",
    )
    assert commands.freshness(settings, second) == 0
    assert "till.tips\tfresh" in capsys.readouterr().out


def test_invalid_project_file_is_reported_with_its_line(
    settings: Settings, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "models/staging/only_here.sql").write_text("select 1 as a\n")
    (broken / "dbt_project.yml").write_text("name: shop\nprofile: shop\n  version: '1.0'\n")
    (broken / "packages.yml").write_text("packages: [{local: ../package}]\n")
    monkeypatch.setattr("workbench.choose_project.find_projects", lambda repository: [broken, folder])
    app = typer.Typer()
    add_commands(app, lambda: contextlib.nullcontext(settings))
    failed = CliRunner().invoke(app, ["build", "only_here"])
    assert failed.exit_code == 1
    assert "  dbt_project.yml:3: " in failed.output
    # The other project builds.
    assert CliRunner().invoke(app, ["build", "sales", "--project", "shop"]).exit_code == 0


def test_saved_files_belong_to_their_project(tmp_path: Path):
    shop = tmp_path / "shop"
    assert is_source(shop / "models/a.sql", shop)
    assert is_source(shop / "animals/target/a.sql", shop)
    for generated in ("target/a.sql", "dbt_packages/x/models/a.sql", "package-lock.yml"):
        assert not is_source(shop / generated, shop)
    assert not is_source(tmp_path / "shop_too/models/a.sql", shop)
    shop.mkdir()
    (shop / "dbt_project.yml").write_text("packages-install-path: deps\ntarget-path: out\nlog-path: out/logs\n")
    for generated in ("out/a.sql", "deps/x/models/a.sql"):
        assert not is_source(shop / generated, shop)
    assert is_source(shop / "target/a.sql", shop)


def test_saved_file_survives_a_stopped_warehouse(settings: Settings, folder: Path, tmp_path: Path, capsys):
    dbt_project = open_project(settings, folder)
    loop = Loop(dbt_project, Builder(dbt_project, settings))
    loop.saved({folder / "seeds/sales.csv"})
    model = folder / "models/marts/dear_items.sql"
    model.write_text("select item, amount from {{ ref('items') }}\n")
    passwords = settings.state / "passwords.json"
    stopped = passwords.rename(tmp_path / "passwords.json")
    try:
        loop.saved({model})
    finally:
        stopped.rename(passwords)
    output = capsys.readouterr().out
    assert "the warehouse did not answer: no stand-ins are running" in output
    assert "start it again with: make up. The next save builds these changes too" in output
    loop.saved({model})
    assert "dear_items table, 3 rows" in capsys.readouterr().out


def test_saved_file_survives_an_error_of_this_machine(settings: Settings, folder: Path, capsys):
    dbt_project = open_project(settings, folder)
    loop = Loop(dbt_project, Builder(dbt_project, settings))
    (folder / "models/staging/stg_new.sql").write_text("select 1 as a\n")
    failures = dbt_project.state / "failing_tests.json"
    failures.unlink(missing_ok=True)
    failures.mkdir()
    try:
        loop.saved({folder / "models/staging/stg_new.sql"})
    finally:
        failures.rmdir()
    output = capsys.readouterr().out
    assert f"Is a directory: '{failures}'" in output
    assert "the warehouse did not answer" not in output


def test_make_passes_the_project():
    targets = ("dev", "build", "test-models", "show", "compile", "diff", "freshness", "docs", "new-model")
    dry_run = subprocess.run(["make", "-n", *targets, "P=shop"], cwd=REPOSITORY, capture_output=True, text=True)
    for target in targets:
        line = next(line for line in dry_run.stdout.splitlines() if f"-m workbench {target}" in line)
        assert '--project "$P"' in line
    # The variable of another program does not select a project.
    command = [sys.executable, "-m", "workbench", "new-model", "late", "nowhere"]
    refused = subprocess.run(command, env={"P": "elsewhere"}, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "LAYER=" in refused.stderr
