"""`make dev` builds saved files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mwaa_local.settings import Settings
from workbench.build import Builder
from workbench.commands import build, open_project
from workbench.warehouse import drop_schemas
from workbench.watch import Loop, show_pipeline_problems

Save = Callable[[str, str], str]


@pytest.fixture(scope="module")
def folder(template: Path) -> Path:
    """A project that the tests change one after the other."""
    return shutil.copytree(template, template.with_name("watched") / "shop")


@pytest.fixture(scope="module")
def loop(warehouse_settings: Settings, folder: Path) -> Loop:
    """The watch loop of a project that is already built."""
    drop_schemas(warehouse_settings, "dbt_", but="")
    assert build(warehouse_settings, "", folder=folder) == 0
    dbt_project = open_project(warehouse_settings, folder)
    return Loop(dbt_project, Builder(dbt_project, warehouse_settings))


@pytest.fixture
def save(loop: Loop, folder: Path, capsys) -> Save:
    """A function that writes a file and returns the output of the watch loop."""

    def go(name: str, text: str) -> str:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        loop.saved({folder / name})
        return capsys.readouterr().out

    return go


def test_pipelines_file_is_checked_with_its_selectors(loop: Loop, folder: Path, capsys):
    path = folder.parent / "dags" / "pipelines.yml"
    path.parent.mkdir()
    entry = "pipelines: [{dag_name: nightly, project_name: PROJECT, redshift_connection_id: shop_redshift, "
    entry += "target_database: dev, target_schema: shop, select: [SELECTOR]}]\n"

    def problems(project: str, selector: str) -> str:
        path.write_text(entry.replace("PROJECT", project).replace("SELECTOR", selector))
        show_pipeline_problems({folder: loop}, path)
        return " ".join(capsys.readouterr().out.split())

    assert problems("shop", "stg_sales+") == ""
    assert "pipeline nightly: select.0: 'stg_sale+' selects nothing to build in the dbt project 'shop'" in problems(
        "shop", "stg_sale+"
    )
    assert "dags/pipelines.yml: pipeline nightly: select.0: dbt refuses 'mart:x': " in problems("shop", "'mart:x'")
    assert "the repository has no dbt project 'shopp'. Did you mean 'shop'?" in problems("shopp", "stg_sales+")


def test_saved_model_is_built_with_children_and_tests(save: Save):
    output = save(
        "models/marts/items.sql",
        "select item, cast(sum(amount) as bigint) as amount\nfrom {{ ref('stg_sales') }} group by 1\n",
    )
    assert "items.sql" in output
    assert "2 built, 3 tests passed" in output
    assert "same rows as before" in output


def test_failed_nodes_are_retried_with_the_next_save(save: Save):
    right = "select item, cast(sum(amount) as bigint) as amount from {{ ref('stg_sales') }} group by 1\n"
    output = save("models/marts/items.sql", right.replace("sum(amount)", "sum(amont)"))
    assert 'column "amont" does not exist' in output
    # dbt cannot parse the project now. The next save builds these changes too.
    assert "unexpected" in save("models/marts/dear_items.sql", "select {{ 1\n")
    assert "1 failed" in save("models/marts/dear_items.sql", "select item, amount from {{ ref('items') }}\n")
    output = save("models/marts/items.sql", right)
    assert "2 built, 3 tests passed" in output
    assert "+1 rows" in output


def test_invalid_list_of_packages_does_not_end_the_loop(save: Save, folder: Path):
    output = save("packages.yml", "packages: [\n")
    assert f"{folder / 'packages.yml'} is not valid YAML" in output
    assert "line 2" in output
    (folder / "packages.yml").unlink()
    settings = (folder / "dbt_project.yml").read_text()
    assert "dbt_project.yml:" in save("dbt_project.yml", f"{settings}: [\n")
    assert "Nothing to build" in save("dbt_project.yml", settings)


def test_new_models_macros_tests_and_descriptions_are_built(save: Save):
    assert "1 built" in save("models/staging/stg_new.sql", "select 1 as a\n")
    assert "1 tests passed" in save(
        "models/staging/stg_new.yml", "models: [{name: stg_new, columns: [{name: a, data_tests: [unique]}]}]\n"
    )
    assert "Nothing to build" in save("macros/one.sql", "{% macro one() %}1{% endmacro %}\n")
    assert "1 built" in save("models/staging/stg_new.sql", "select {{ one() }} as a\n")
    output = save("macros/one.sql", "{% macro one() %}2{% endmacro %}\n")
    assert "+1 rows, -1 rows" in output or "1 rows changed" in output


def test_folder_with_the_name_of_a_saved_model_is_not_built(save: Save):
    assert "1 built" in save("models/staging/stg_new/stg_inner.sql", "select 1 as b\n")
    assert "1 built" in save("models/staging/stg_new.sql", "select 4 as a\n")


def test_misspelt_key_of_a_saved_file_is_shown(save: Save):
    output = save(
        "models/staging/stg_sales.sql", "{{ config(materialised='view') }}\nselect * from {{ ref('sales') }}\n"
    )
    assert "models/staging/stg_sales.sql:1: dbt does not know the key 'materialised'" in output
    assert "did you mean materialized?" in output
    output = save("models/staging/stg_sales.sql", "select * from {{ ref('sales') }}\n")
    assert "does not know" not in output
