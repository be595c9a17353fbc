"""Keys that dbt ignores are reported with their line and the similar name. Needs no warehouse."""

import shutil
from pathlib import Path

import pytest

from workbench.check_conventions import parse_and_find_unknown_keys
from workbench.problems import Problem
from workbench.unknown_keys import misspelt

MODEL, MODEL_YAML, SEED_YAML = "models/staging/keys.sql", "models/staging/keys.yml", "seeds/keys.yml"
PROJECT = "name: shop\nprofile: shop\nseeds:\n  shop:\n    +quote_columns: false\nmodels:\n  shop:\n"
META = "remove it, or move it below config: meta:"


def unknown_keys(folder: Path, state: Path, files: dict[str, str]) -> list[Problem]:
    for name, text in {MODEL: "select 1 as id\n", **files}.items():
        if not (folder / name).is_file() or (folder / name).read_text() != text:
            (folder / name).write_text(text)
    manifest, problems = parse_and_find_unknown_keys(folder, state, has_conventions=True)
    assert manifest
    return problems


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "shop")


@pytest.mark.parametrize(
    ("file", "text", "line", "message", "hint"),
    [
        (
            MODEL,
            "-- materialised='table'\n{{ config(tags='a',\n  materialised='table') }}\nselect 1 as id\n",
            3,
            "dbt does not know the key 'materialised'",
            "did you mean materialized?",
        ),
        (
            MODEL_YAML,
            "models:\n  - name: keys\n    discription: D.\n",
            3,
            "dbt does not know the key 'discription'",
            "did you mean description?",
        ),
        (
            MODEL_YAML,
            "models:\n  - name: keys\n    columns:\n      - name: id\n        data_test: [unique]\n",
            5,
            "dbt does not know the key 'data_test'",
            "did you mean data_tests?",
        ),
        (
            MODEL_YAML,
            "models:\n  - name: keys\n    config:\n      unique-key: id\n",
            4,
            "dbt does not know the key 'unique-key'",
            "did you mean unique_key?",
        ),
        (
            MODEL_YAML,
            "models:\n  - name: keys\n    materialised: table\n",
            3,
            "dbt does not know the key 'materialised'",
            "did you mean config: {materialized: …}?",
        ),
        (
            MODEL_YAML,
            "models:\n  - name: keys\n    materialized: table\n",
            3,
            "'materialized' must be below config:",
            "write it below config:",
        ),
        (
            MODEL_YAML,
            "modles:\n  - name: keys\n",
            1,
            "dbt does not know the key 'modles'",
            "did you mean models?",
        ),
        (
            "dbt_project.yml",
            f"{PROJECT}    staging:\n      +materialised: table\n",
            9,
            "dbt does not know the key '+materialised'",
            "did you mean materialized?",
        ),
        (
            MODEL_YAML,
            "models:\n  - name: keys\n    config: {refreshed_by_our_macro: true}\n",
            3,
            "dbt does not know the key 'refreshed_by_our_macro'",
            META,
        ),
    ],
)
def test_key_is_reported_with_line_and_similar_name(
    project: Path, tmp_path: Path, file: str, text: str, line: int, message: str, hint: str
) -> None:
    (problem,) = unknown_keys(project, tmp_path / "state", {file: text})
    assert (problem.place, problem.message, problem.hint) == (f"{file}:{line}", message, hint)
    assert misspelt([problem]) == ([problem] if hint.startswith("did you mean") else [])


def test_configs_of_redshift_and_hooks_are_known(project: Path, tmp_path: Path) -> None:
    configs = (
        "dist='id', sort=['id'], sort_type='compound', bind=false, backup=false, auto_refresh=true, query_group='q'"
    )
    yaml_configs = "{dist: id, sort: id, bind: false, query_group: q, pre-hook: [select 1], post_hook: [select 1]}"
    files = {
        MODEL: f"{{{{ config({configs}, pre_hook='select 1', unique_key='id') }}}}\nselect 1 as id\n",
        MODEL_YAML: f"models:\n  - name: keys\n    config: {yaml_configs}\n",
        "dbt_project.yml": f"{PROJECT}    +dist: id\n    +query_group: q\n    +post_hook: select 1\n",
    }
    assert unknown_keys(project, tmp_path / "state", files) == []


def test_key_is_reported_until_its_file_changes(project: Path, tmp_path: Path) -> None:
    wrong = {MODEL_YAML: "models:\n  - name: keys\n    discription: D.\n"}
    # dbt itself repeats no warning about a file that it does not read again.
    for _ in range(2):
        assert len(unknown_keys(project, tmp_path / "state", wrong)) == 1
    assert unknown_keys(project, tmp_path / "state", {MODEL_YAML: "models:\n  - name: keys\n"}) == []


def test_keys_of_a_package_are_not_reported(project: Path, tmp_path: Path) -> None:
    package = tmp_path / "lib"
    (package / "models").mkdir(parents=True)
    (package / "dbt_project.yml").write_text("name: lib\nmodels:\n  lib:\n    +materialised: table\n")
    (package / "models" / "lib_keys.sql").write_text("{{ config(materialised='table') }}\nselect 1 as id\n")
    (package / "models" / "lib_keys.yml").write_text("models:\n  - name: lib_keys\n    discription: D.\n")
    (project / "packages.yml").write_text(f"packages:\n  - local: {package}\n")
    (project / "dbt_packages").mkdir()
    (project / "dbt_packages" / "lib").symlink_to(package)
    assert unknown_keys(project, tmp_path / "state", {}) == []
