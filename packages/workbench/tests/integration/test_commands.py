"""build, test-models, show, compile, docs and diff, on a small project and a real warehouse."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mwaa_local.settings import Settings, SetupError
from mwaa_local.stack import PROJECT
from workbench import commands
from workbench.diff import diff
from workbench.problems import ProjectError


def test_build_adds_missing_parents_and_shows_changes(settings: Settings, folder: Path, capsys):
    assert commands.build(settings, "dear_items", folder=folder) == 0
    first = capsys.readouterr().out
    assert "items table, 3 rows" in first
    assert "was missing" in first
    assert "4 built" in first

    (folder / "seeds/sales.csv").write_text("sale_id,item,amount\n1,pen,5\n2,desk,101\n4,bed,50\n")
    assert commands.build(settings, "sales+", folder=folder) == 0
    second = capsys.readouterr().out
    # `item` is a key because of its test. dear_items has no key.
    assert "+1 rows, -1 rows, 1 rows changed" in second
    assert "desk  amount: 100 → 101" in second
    assert "+2 rows, -2 rows" in second
    assert "4 built, 4 tests passed" in second

    assert commands.build(settings, "items", folder=folder) == 0
    third = capsys.readouterr().out
    assert "same rows as before" in third
    assert "1 built, 3 tests passed" in third


def test_build_shows_changed_columns(settings: Settings, folder: Path, capsys):
    assert commands.build(settings, "stg_sales", folder=folder) == 0
    capsys.readouterr()
    (folder / "models/staging/stg_sales.sql").write_text(
        "select sale_id, cast(amount as numeric(9, 2)) as amount, 'x' as kind from {{ ref('sales') }}\n"
    )
    assert commands.build(settings, "stg_sales", folder=folder) == 0
    output = capsys.readouterr().out
    assert "column added: kind" in output
    assert "column removed: item" in output
    assert "type changed: amount (integer → numeric)" in output


def test_failed_test_shows_rows(settings: Settings, folder: Path, capsys):
    (folder / "seeds/sales.csv").write_text("sale_id,item,amount\n7,pen,5\n7,desk,100\n")
    assert commands.build(settings, "stg_sales", folder=folder) == 1
    output = capsys.readouterr().out
    assert "models/staging/stg_sales.yml:4: unique of sale_id: 1 rows fail" in output
    assert "7\t2" in output
    assert "1 failed" in output


def test_failed_unit_test_shows_expected_and_actual(settings: Settings, folder: Path, capsys):
    model = folder / "models/marts/items.sql"
    model.write_text(model.read_text().replace("sum(", "max("))
    assert commands.build(settings, "items", folder=folder) == 1
    output = capsys.readouterr().out
    assert "models/marts/items.yml:" in output
    assert "5→3" in output or "5 → 3" in output


def test_check_runs_the_tests_of_a_model(settings: Settings, folder: Path, capsys):
    assert commands.check(settings, "items", folder=folder) == 0
    assert "3 tests passed" in capsys.readouterr().out
    with pytest.raises(ProjectError, match="dear_items has no tests"):
        commands.check(settings, "dear_items", folder=folder)


def test_show_prints_rows_of_the_saved_model(settings: Settings, folder: Path, capsys):
    (folder / "models/marts/dear_items.sql").write_text(
        "select item, amount from {{ ref('items') }} where amount > 50\n"
    )
    assert commands.show(settings, "dear_items", 10, folder=folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "desk\t100"


def test_compile_prints_the_sql(settings: Settings, folder: Path, capsys):
    assert commands.compile_model(settings, "dear_items", folder=folder) == 0
    assert 'from "dev"."dbt_local"."items" where amount > 10' in capsys.readouterr().out


def test_docs_are_one_file(settings: Settings, folder: Path, tmp_path: Path):
    assert commands.docs(settings, tmp_path / "docs.html", folder=folder) == 0
    text = (tmp_path / "docs.html").read_text()
    assert "model.shop.dear_items" in text
    assert "<html" in text


@pytest.fixture
def committed(folder: Path) -> Path:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "as it was"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True)
    return folder


def test_diff_compares_with_main(settings: Settings, committed: Path, capsys):
    assert diff(settings, "dear_items", "", committed) == 0
    assert "same 2 rows, same columns" in capsys.readouterr().out

    (committed / "dbt_project.yml").write_text(
        (committed / "dbt_project.yml").read_text().replace("dear: 10", "dear: 50")
    )
    assert diff(settings, "dear_items", "main", committed) == 0
    output = capsys.readouterr().out
    assert "-1 rows" in output
    assert "item: lamp, amount: 20" in output

    shutil.copy(committed / "models/staging/stg_sales.sql", committed / "models/staging/stg_more.sql")
    assert diff(settings, "stg_more", "main", committed) == 0
    assert "new: the other commit does not have this model" in capsys.readouterr().out

    with pytest.raises(SetupError, match="git does not know nowhere; choose a base: BASE="):
        diff(settings, "items", "nowhere", committed)


MODEL = "models/marts/dear_items.sql"


@pytest.mark.parametrize(
    ("file", "text", "where", "message", "hint"),
    [
        (MODEL, "select 1\nfrom {{ ref('items' }}", f"{MODEL}:2", "unexpected '}', expected ')'", None),
        (
            MODEL,
            "select 1\nfrom {{ ref('itmes') }}",
            f"{MODEL}:2",
            "ref('itmes') does not match a model",
            "did you mean items?",
        ),
        (
            MODEL,
            "select 1\nfrom {{ source('shop', 'x') }}",
            f"{MODEL}:2",
            "source shop.x is not declared",
            "declare it in models/staging/sources.yml, or correct the name",
        ),
        (
            "models/staging/items.sql",
            "select 1 as a",
            "models/",
            "items exists twice: models/marts/items.sql, models/staging/items.sql",
            "rename or remove one of them",
        ),
        (
            "models/marts/Dear Ones.sql",
            "select 1 as a",
            "models/marts/Dear Ones.sql",
            "'Dear Ones' has a space in its name",
            "rename it: dear_ones",
        ),
        (
            "models/marts/items.yml",
            "models:\n  - name: a\n   description: x\n",
            "models/marts/items.yml:3",
            "Syntax",
            None,
        ),
    ],
)
def test_parse_errors_name_file_and_line_with_a_hint(
    settings: Settings, folder: Path, file: str, text: str, where: str, message: str, hint: str | None
):
    (folder / file).write_text(text)
    with pytest.raises(ProjectError) as raised:
        commands.build(settings, "dear_items", folder=folder)
    problem = raised.value.problem
    assert problem.place.startswith(where)
    assert message in problem.message or message in str(problem)
    assert hint is None or problem.hint == hint


@pytest.mark.parametrize(
    ("file", "text", "lines"),
    [
        (
            MODEL,
            "select\n    item,\n    amuont as amount\nfrom {{ ref('items') }}",
            [
                f'{MODEL}:3: column "amuont" does not exist\n        amuont as amount\n        ^\n',
                "→ did you mean amount",
            ],
        ),
        (
            MODEL,
            "-- items.amuont\nwith paid as (select item, amount as amuont from {{ ref('items') }})\n"
            "select paid.item,\n\t items.amuont as amount\nfrom paid inner join {{ ref('items') }} on true",
            [f"{MODEL}:4: column", "items.amuont", "\n         items.amuont as amount\n         ^\n"],
        ),
        (
            MODEL,
            "select item, cast(amount as varchar) as amount, 1 as extra from {{ ref('items') }}",
            [
                f"{MODEL}",
                "breaks its contract: amount: is TEXT, the contract says BIGINT; extra: is not in the contract",
                "→ change the SELECT or the model's YAML",
            ],
        ),
        (
            MODEL,
            "select item, amount from {{ ref('items') }}\nwhere {{ cheap() }}",
            [f"{MODEL}:2: cheap is not a macro or variable of this project"],
        ),
        (
            MODEL,
            "select item, amount from {{ ref('items') }}\nwhere amount > {{ var('dearest') }}",
            [f"{MODEL}:2: var('dearest') has no value", "→ give it one under vars in dbt_project.yml"],
        ),
        (
            "seeds/sales.csv",
            "sale_id,item,amount\n1,pen,5\n2,desk,many\n",
            ["seeds/sales.csv:3: value 'many' is not of type integer", "→ correct the CSV"],
        ),
        (
            "models/marts/bare.sql",
            "select 1 as a",
            ["models/marts/bare.sql", "no columns in a YAML file", "→ write its YAML beside it"],
        ),
    ],
)
def test_build_errors_name_file_and_line_with_a_hint(
    settings: Settings, folder: Path, capsys, file: str, text: str, lines: list[str]
):
    (folder / file).write_text(text)
    assert commands.build(settings, f"{Path(file).stem}", folder=folder) == 1
    output = capsys.readouterr().out
    for line in lines:
        assert line in output
    assert "Traceback" not in output
    assert "1 failed" in output


def test_unknown_model_gets_a_suggestion(settings: Settings, folder: Path):
    with pytest.raises(ProjectError, match="there is no model Items") as raised:
        commands.build(settings, "Items", folder=folder)
    assert raised.value.problem.hint == "did you mean items?"


def test_default_is_the_project_of_the_repository():
    assert (PROJECT / "dbt_project.yml").is_file()
