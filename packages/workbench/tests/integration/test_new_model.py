"""`make new-model`: its files pass the conventions and the linters; invalid names are errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.settings import REPOSITORY, SetupError
from mwaa_local.testing.project import sample_project
from workbench.check_conventions import parse, problems
from workbench.new_model import new_model

BINARIES = Path(sys.executable).parent
ORDERS = """
sources:
  - name: shop
    description: The shop's till.
    config:
      loaded_at_field: loaded_at
      freshness: {warn_after: {count: 1, period: day}}
      meta: {owner: shop}
    tables:
      - name: orders
        description: "One row for each order: paid or not."
        columns:
          - {name: order_id, description: "Key, made by the till."}
          - {name: order, description: The ordered item.}
          - {name: loaded_at, description: 'When "loaded", UTC.'}
      - name: no_columns
        description: Listed without columns.
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = sample_project(tmp_path_factory.mktemp("repository") / "dbt_project")
    (folder / "models" / "staging" / "shop.yml").write_text(ORDERS)
    return folder


def test_new_model_passes_linters_and_conventions(project):
    written = new_model(project, "stg_orders", "staging") + new_model(project, "late_carriers", "marts")
    assert [path.name for path in written] == [
        "stg_orders.sql",
        "stg_orders.yml",
        "late_carriers.sql",
        "late_carriers.yml",
    ]
    assert '"order",' in written[0].read_text()
    assert parse(project, project.parent / "target")
    broken_rules = problems(project.parent / "target" / "manifest.json")
    # The new models do not read the other table of the source.
    assert [line for line in broken_rules if "no_columns" not in line] == []
    for command in (
        ["sqlfluff", "lint", "--disable-progress-bar", written[0], written[2]],
        ["yamllint", "--strict", "-c", REPOSITORY / ".yamllint.yml", written[1], written[3]],
    ):
        done = subprocess.run(
            [BINARIES / command[0], *command[1:]], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "layer", "words"),
    [
        ("late carriers", "marts", "lower-case letters, digits and underscores"),
        ("LateCarriers", "marts", "lower-case letters, digits and underscores"),
        ("late-carriers", "marts", "lower-case letters, digits and underscores"),
        ("../outside", "marts", "lower-case letters, digits and underscores"),
        ("1st", "marts", "start with a letter"),
        ("a" * 51, "marts", "be no longer than 50"),
        ("", "marts", "make new-model NAME=<name> LAYER=staging|marts"),
        ("late_carriers", "", "must be staging or marts"),
        ("late_carriers", "gold", "must be staging or marts"),
        ("order", "marts", "is a reserved word of Redshift"),
        ("departures", "marts", "dbt_project/models/marts/departures"),
        ("territory_airports", "marts", "dbt_project/seeds/territory_airports"),
        ("flights", "marts", "is the name of the project"),
        ("stg_flights_two", "marts", "NAME=flights_two"),
        ("orders_two", "staging", "NAME=stg_orders_two"),
        ("stg_unknown", "staging", "no source has a table unknown; there are: airlines, airports, flights"),
        ("stg_no_columns", "staging", "lists no columns"),
    ],
)
def test_invalid_model_is_an_error_and_writes_nothing(project, name, layer, words):
    before = sorted(project.rglob("*"))
    with pytest.raises(SetupError, match=re.escape(words)) as refused:
        new_model(project, name, layer)
    assert "\n" not in str(refused.value)
    assert sorted(project.rglob("*")) == before


def test_make_quotes_the_name():
    completed = subprocess.run(
        ["make", "--silent", "new-model", "LAYER=marts"],
        cwd=REPOSITORY,
        env={**os.environ, "NAME": "a'; touch x; '$(touch y)"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 2
    assert "lower-case letters" in completed.stderr
    assert not [name for name in ("x", "y") if (REPOSITORY / name).exists()]
