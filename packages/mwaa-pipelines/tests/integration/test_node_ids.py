"""dbt selects exactly the nodes whose ids it gets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from dbt.cli.main import dbtRunner

from mwaa_pipelines.node_ids import CHOSEN, LEFT_OUT, state_arguments

FILES = {
    "dbt_project.yml": "{name: nest, version: '1.0', profile: nest, packages-install-path: packages}",
    "profiles.yml": """
        {nest: {target: prod, outputs: {prod: {type: redshift, host: localhost, port: 1, user: u, password: p,
         dbname: dev, schema: s}}}}""",
    "packages/lib/dbt_project.yml": "{name: lib, version: '1.0'}",
    "packages/lib/models/orders.sql": "{{ config(alias='lib_orders') }} select 1 as id",
    "models/orders.sql": "select 1 as id",
    # `fqn:nest.orders` also names this folder.
    "models/orders/order_lines.sql": "select * from {{ ref('nest', 'orders') }}",
    "models/orders/properties.yml": """
        models:
          - {name: orders, columns: [{name: id, data_tests: [unique, not_null]}]}
          - {name: order_lines, columns: [{name: id, data_tests: [unique]}]}""",
    "seeds/items.csv": "id\n1\n",
}
ORDERS, ITEMS, OF_LIB = "model.nest.orders", "seed.nest.items", "model.lib.orders"
UNIQUE, NOT_NULL = "test.nest.unique_orders_id.1360ecc70e", "test.nest.not_null_orders_id.84ef11d8fe"


@pytest.fixture(scope="module")
def dbt_list(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """`dbt list` of a project."""
    folder = tmp_path_factory.mktemp("nest")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    places = [f"--project-dir={folder}", f"--profiles-dir={folder}", f"--target-path={folder / 'target'}"]
    places += [f"--log-path={folder / 'logs'}", "--no-send-anonymous-usage-stats"]
    manifest = dbtRunner().invoke(["--quiet", "parse", *places]).result

    def run(*arguments: str) -> list[str]:
        command = ["--quiet", "list", "--output=json", "--output-keys=unique_id", *arguments, *places]
        listed = dbtRunner(manifest=manifest).invoke(command)
        assert listed.success, listed.exception
        return sorted(json.loads(line)["unique_id"] for line in listed.result)

    return run


@pytest.mark.parametrize("nodes", [[ORDERS], [OF_LIB], [UNIQUE], [ITEMS, ORDERS, UNIQUE], ["model.nest.deleted"]])
def test_nodes_are_selected_by_their_ids(dbt_list: Callable[..., list[str]], tmp_path: Path, nodes: list[str]) -> None:
    state = state_arguments(tmp_path / "state", {CHOSEN: nodes})
    listed = dbt_list(*state, "--select", CHOSEN, "--indirect-selection", "empty")
    assert listed == sorted(node for node in nodes if "deleted" not in node)


def test_ids_can_be_combined_with_other_selectors(dbt_list: Callable[..., list[str]], tmp_path: Path) -> None:
    state = state_arguments(tmp_path / "state", {CHOSEN: [ORDERS, ITEMS], LEFT_OUT: [UNIQUE]})
    assert dbt_list(*state, "--select", f"{CHOSEN},orders", "--exclude", LEFT_OUT) == [ORDERS, NOT_NULL]


def test_no_ids_need_no_state(tmp_path: Path) -> None:
    assert state_arguments(tmp_path / "state", {}) == []
    assert list(tmp_path.iterdir()) == []
