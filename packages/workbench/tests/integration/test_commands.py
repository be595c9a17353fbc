"""build, test-models, show, compile, docs and diff, on a small project and a real warehouse."""

import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mwaa_local.settings import Settings, SetupError
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


def test_build_prints_the_time_since_the_command_started(settings: Settings, folder: Path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "STARTED", time.monotonic() - 1000)
    assert commands.build(settings, "sales", folder=folder) == 0
    assert "1 built in 100" in capsys.readouterr().out


def test_failed_test_shows_rows(settings: Settings, folder: Path, capsys):
    (folder / "seeds/sales.csv").write_text("sale_id,item,amount\n7,pen,5\n7,desk,100\n")
    assert commands.build(settings, "stg_sales", folder=folder) == 1
    output = capsys.readouterr().out
    assert "models/staging/stg_sales.yml:4: unique of sale_id: 1 rows fail" in output
    assert "7\t2" in output
    assert "1 failed" in output
    assert "still failing" not in output
    assert commands.build(settings, "stg_sales", folder=folder) == 1
    assert "unique of sale_id: 1 rows fail, still failing (1 before)\n" in capsys.readouterr().out
    (folder / "seeds/sales.csv").write_text("sale_id,item,amount\n7,pen,5\n")
    assert commands.build(settings, "sales stg_sales", folder=folder) == 0
    capsys.readouterr()
    (folder / "seeds/sales.csv").write_text("sale_id,item,amount\n7,pen,5\n7,desk,100\n")
    assert commands.build(settings, "sales stg_sales", folder=folder) == 1
    assert "still failing" not in capsys.readouterr().out


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


SOURCES = """
sources:
  - name: till
    schema: landing
    config:
      loaded_at_field: loaded_at
      freshness: {warn_after: {count: 2, period: hour}, error_after: {count: 2, period: day}}
    tables: [{name: sold}, {name: returned}, {name: lost}, {name: empty}, {name: missing}]
"""


def test_freshness_of_each_source_is_printed(settings: Settings, folder: Path, superuser, capsys):
    ages = {"sold": "1 hour", "returned": "5 hours", "lost": "3 days"}
    for name, age in ages.items():
        superuser(f"create table landing.{name} as select getdate() - interval '{age}' as loaded_at")
    superuser("create table landing.empty (loaded_at timestamp)")
    superuser("grant select on all tables in schema landing to dbt_user")
    (folder / "models/sources.yml").write_text(SOURCES)
    assert commands.freshness(settings, folder) == 1
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    # Without the time of the newest row.
    assert [(*line[:2], *line[3:]) for line in lines[1:]] == [
        ("till.empty", "stale", "", "no row has a loaded_at"),
        ("till.lost", "stale", "72.0", ""),
        ("till.missing", "not measured", "", 'relation "landing.missing" does not exist'),
        ("till.returned", "late", "5.0", ""),
        ("till.sold", "fresh", "1.0", ""),
    ]
    assert datetime.fromisoformat(lines[-1][2]) <= datetime.now(UTC).replace(tzinfo=None)


def test_freshness_names_the_settings_that_measure_it(settings: Settings, folder: Path):
    with pytest.raises(ProjectError, match="no source has a freshness"):
        commands.freshness(settings, folder)


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
    assert "same code and same inputs as of main" in (output := capsys.readouterr().out)
    assert "built" not in output
    with (committed / "models/marts/dear_items.sql").open("a") as file:
        file.write("-- a comment\n")
    assert diff(settings, "items", "", committed) == 0
    assert "same code and same inputs as of main" in capsys.readouterr().out
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


def test_models_of_one_name_in_two_schemas_are_compared_with_themselves(settings: Settings, folder: Path, capsys):
    for number in (1, 2):
        (folder / f"models/staging/same_{number}.sql").write_text(
            f"{{{{ config(schema='same_{number}', alias='same') }}}}select {number} as number\n"
        )
    assert commands.build(settings, "same_1 same_2", folder=folder) == 0
    assert commands.build(settings, "same_1 same_2", folder=folder) == 0
    assert capsys.readouterr().out.count("same rows as before") == 2


def test_changed_yaml_can_change_any_model(settings: Settings, folder: Path):
    (folder / "models/sources.yml").write_text(
        "sources: [{name: till, tables: [{name: tips, columns: [{name: tip, data_tests: [not_null]}]}]}]\n"
    )
    dbt_project = commands.open_project(settings, folder)
    for file in ("models/sources.yml", "models/marts/dear_items.yml", "seeds/sales.csv", "macros/deleted.sql"):
        assert dbt_project.depends_on("model.shop.items", [file])
    assert not dbt_project.depends_on("model.shop.items", ["models/marts/dear_items.sql"])


def test_unknown_model_gets_a_suggestion(settings: Settings, folder: Path):
    with pytest.raises(ProjectError, match="there is no model Items") as raised:
        commands.build(settings, "Items", folder=folder)
    assert raised.value.problem.hint == "did you mean items?"
