"""A small project, and a warehouse for it."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbt_common.behavior_flags import BehaviorFlagRendered

from mwaa_local.settings import REPOSITORY, Passwords, Settings
from mwaa_local.stack import connect, rows
from mwaa_release.redshift import apply_grants
from workbench.warehouse import drop_schemas

_FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
vars: {dear: 10}
models: {shop: {marts: {+materialized: table, +contract: {enforced: true}}}}
seeds: {shop: {+column_types: {amount: integer}}}
""",
    "seeds/sales.csv": "sale_id,item,amount\n1,pen,5\n2,desk,100\n3,lamp,20\n",
    "models/staging/stg_sales.sql": "select sale_id, item, amount from {{ ref('sales') }}\n",
    "models/staging/stg_sales.yml": (
        "models:\n  - name: stg_sales\n    columns:\n      - {name: sale_id, data_tests: [unique]}\n"
    ),
    "models/marts/items.sql": (
        "select\n    item,\n    cast(sum(amount) as bigint) as amount\nfrom {{ ref('stg_sales') }}\ngroup by 1\n"
    ),
    "models/marts/items.yml": """
models:
  - name: items
    columns:
      - {name: item, data_type: varchar, data_tests: [unique, not_null]}
      - {name: amount, data_type: bigint}
unit_tests:
  - name: items_add_up
    model: items
    given:
      - {input: ref('stg_sales'), rows: [{sale_id: 1, item: pen, amount: 2}, {sale_id: 2, item: pen, amount: 3}]}
    expect: {rows: [{item: pen, amount: 5}]}
""",
    "models/marts/dear_items.sql": ("select item, amount from {{ ref('items') }} where amount > {{ var('dear') }}\n"),
    "models/marts/dear_items.yml": """
models:
  - name: dear_items
    columns:
      - {name: item, data_type: varchar}
      - {name: amount, data_type: bigint}
""",
}


@pytest.fixture(scope="session", autouse=True)
def _quick_flags() -> Iterator[None]:
    """Skip dbt's search for the module that reads each behavior flag. Under pytest it takes a second per command.

    A private name of dbt-common 1.39.0. dbt uses its result only in a warning.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BehaviorFlagRendered, "_default_source", staticmethod(lambda: "dbt"))
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "shop"
    for name, text in _FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    profiles = (REPOSITORY / "dbt_project" / "profiles.yml").read_text()
    (folder / "profiles.yml").write_text(profiles.replace("\nflights:", "\nshop:"))
    return folder


@pytest.fixture
def folder(template: Path) -> Path:
    """The project's folder, which tests can change. It is always the same folder, so dbt can use partial parsing."""
    folder = template.with_name("copy") / "shop"
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(template, folder)


@pytest.fixture(scope="session")
def warehouse_settings(start_redshift, tmp_path_factory) -> Settings:
    """Settings of a warehouse with the user that builds the models."""
    state = tmp_path_factory.mktemp("warehouse")
    Passwords.generate(state)
    warehouse = start_redshift(state=state)
    with warehouse.connect() as connection:
        connection.autocommit = True
        connection.run("create schema landing")
        apply_grants(connection, "dbt_user", Passwords.load(warehouse.state).dbt_user)
    return Settings(warehouse.state, warehouse.port, 1, 2)


@pytest.fixture(scope="session")
def superuser(warehouse_settings: Settings) -> Callable[..., list[tuple[Any, ...]]]:
    """A function that runs statements as the warehouse's superuser, and returns the rows of the last one."""

    def run(*statements: str) -> list[tuple[Any, ...]]:
        password = Passwords.load(warehouse_settings.state).awsuser
        with contextlib.closing(connect(warehouse_settings, "awsuser", password)) as connection:
            connection.autocommit = True
            return [rows(connection, statement)[1] for statement in statements][-1]

    return run


@pytest.fixture
def settings(warehouse_settings: Settings) -> Settings:
    """Settings of a running warehouse without models."""
    drop_schemas(warehouse_settings, "dbt_", but="")
    return warehouse_settings
