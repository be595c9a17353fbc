"""The unmodified dbt-redshift adapter, with a project that uses most of its features."""

import json
import os
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from redshift_local.testing.preloaded_dbt import run_preloaded_dbt


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dbt") / "shop"
    shutil.copytree(Path(__file__).parent / "dbt", folder)
    return folder


@pytest.fixture(scope="module")
def dbt(warehouse, project):
    """Runs dbt and checks its exit code: 0, or 1 with `fails=True`."""
    with warehouse.connect() as connection:
        connection.autocommit = True
        for statement in ("drop user if exists dbt_reader", "create user dbt_reader password 'Abcdef12'"):
            connection.run(statement)

    def run(*arguments: str, fails: bool = False) -> str:
        environment = {
            **os.environ,
            "WAREHOUSE_PORT": str(warehouse.port),
            "WAREHOUSE_PASSWORD": warehouse.password,
            "DBT_PROFILES_DIR": str(project),
        }
        completed = run_preloaded_dbt(*arguments, cwd=project, env=environment)
        assert completed.returncode == (1 if fails else 0), completed.stdout[-6000:]
        return completed.stdout

    return run


@pytest.fixture
def results(project):
    """Reads the results of the last run, by node name."""

    def read() -> dict[str, dict]:
        nodes = json.loads((project / "target" / "run_results.json").read_text())["results"]
        return {node["unique_id"]: node for node in nodes}

    return read


@pytest.fixture
def rows(warehouse):
    def read(sql: str) -> list[list]:
        with warehouse.connect() as connection:
            return [list(row) for row in connection.run(sql)]

    return read


def test_build_creates_all_models(dbt, rows):
    dbt("build")
    assert rows("select customer, orders, total, first_order from dbt_shop.customers order by 1") == [
        ["Ann", 2, Decimal("17.75"), 1],
        ["Bob", 1, 20, 2],
        ["Élise", 1, Decimal("99.99"), 4],
    ]
    assert rows("select note from dbt_shop.late order by order_id") == [
        ["it's"],
        ["back\\slash"],
        ["none"],
        ['quote " inside'],
    ]
    assert rows("select count(*) from dbt_shop.batched") == [[4]]


def test_unit_tests_and_data_tests_pass(results):
    kinds = [name.split(".")[0] for name, result in results().items() if result["status"] == "pass"]
    assert (kinds.count("unit_test"), kinds.count("test")) == (1, 3)


def test_microbatch_runs_each_batch(results):
    batches = results()["model.shop.batched"]["batch_results"]
    years = datetime.now(UTC).year - 2024 + 1
    assert (len(batches["successful"]), batches["failed"]) == (years, [])


def test_second_build_adds_no_rows(dbt, rows):
    dbt("build")
    for table in ("appended", "merged", "batched", "order_history"):
        assert rows(f"select count(*), count(distinct order_id) from dbt_shop.{table}") == [[4, 4]], table


def test_append_strategy_adds_rows(rows):
    assert rows("select count(*), count(distinct order_id) from dbt_shop.logged") == [[8, 4]]


def test_late_binding_view_survives_a_replaced_table(dbt, rows):
    dbt("seed", "--full-refresh")
    assert rows("select count(*) from dbt_shop.late") == [[4]]


def test_changed_row_updates_snapshot_and_incremental_models(dbt, rows, project):
    seed = project / "seeds" / "orders.csv"
    seed.write_text(seed.read_text().replace("2,Bob,20.00", "2,Bob,25.00"))
    dbt("build")
    assert rows("select count(*) from dbt_shop.order_history where order_id = 2") == [[2]]
    assert rows("select total from dbt_shop.customers where customer = 'Bob'") == [[25]]


def test_materialized_view_is_refreshed_and_not_rebuilt(dbt, rows, project):
    before = rows("select 'dbt_shop.refreshed'::regclass::oid::int")
    seed = project / "seeds" / "orders.csv"
    seed.write_text(seed.read_text() + "5,Bob,1.00,2024-01-04 08:00:00,new\n")
    dbt("build")
    assert rows("select count(*) from dbt_shop.refreshed") == [[5]]
    assert rows("select 'dbt_shop.refreshed'::regclass::oid::int") == before
    for table in ("appended", "merged"):
        assert rows(f"select count(*), count(distinct order_id) from dbt_shop.{table}") == [[5, 5]], table


def test_failures_of_data_tests_are_stored(rows, dbt, project):
    assert rows("select count(*) from dbt_shop_dbt_test__audit.unique_late_order_id") == [[0]]
    test = project / "tests" / "no_order_of_bob.sql"
    test.parent.mkdir()
    test.write_text("{{ config(severity='warn') }} select order_id from {{ ref('late') }} where customer = 'Bob'")
    try:
        assert "WARN 2" in dbt("test", "--select", "no_order_of_bob", "--store-failures")
    finally:
        test.unlink()
    assert rows("select order_id from dbt_shop_dbt_test__audit.no_order_of_bob order by 1") == [[2], [5]]


def test_full_refresh_rebuilds_incremental_models(dbt, rows):
    dbt("build", "--full-refresh")
    assert rows("select count(*) from dbt_shop.appended") == [[5]]


def test_new_column_is_added_to_an_increment(dbt, rows, project):
    model = project / "models" / "appended.sql"
    model.write_text(model.read_text().replace("select order_id,", "select order_id, upper(customer) as buyer,"))
    dbt("run", "--select", "appended")
    assert rows("select count(buyer), count(*) from dbt_shop.appended") == [[5, 5]]
    columns = rows("select column_name from svv_columns where table_name = 'appended' and table_schema = 'dbt_shop'")
    assert ["buyer"] in columns


def test_model_with_a_broken_contract_is_not_built(dbt, rows, project):
    model = project / "models" / "customers.sql"
    original = model.read_text()
    model.write_text(original.replace("count(*) as orders", "'many' as orders"))
    assert "contract that failed" in dbt("run", "--select", "customers", fails=True)
    model.write_text(original)
    assert rows("select sum(orders) from dbt_shop.customers") == [[5]]


def test_docs_list_every_relation_and_column(dbt, project):
    dbt("docs", "generate")
    nodes = json.loads((project / "target" / "catalog.json").read_text())["nodes"]
    assert {name.split(".")[-1] for name in nodes} >= {
        "late",
        "customers",
        "appended",
        "merged",
        "orders",
        "order_history",
    }
    assert list(nodes["model.shop.late"]["columns"]) == ["order_id", "customer", "amount", "ordered_at", "note"]
    kinds = {name: nodes[f"model.shop.{name}"]["metadata"]["type"] for name in ("late", "customers", "refreshed")}
    assert kinds == {"late": "LATE BINDING VIEW", "customers": "BASE TABLE", "refreshed": "MATERIALIZED VIEW"}
    statistics = nodes["model.shop.customers"]["stats"]
    assert (statistics["diststyle"]["value"], statistics["sortkey1"]["value"]) == ("KEY(customer)", "customer")


def test_source_freshness_from_a_column_and_from_the_catalog(dbt, project):
    dbt("source", "freshness")
    sources = json.loads((project / "target" / "sources.json").read_text())["results"]
    assert {source["unique_id"].split(".")[-1]: source["status"] for source in sources} == {
        "orders": "pass",
        "told_by_the_catalog": "pass",
    }


def test_clone_copies_a_table(dbt, rows, project):
    shutil.copytree(project / "target", project / "state")
    dbt("clone", "--state", "state", "--target", "other", "--select", "customers")
    assert rows("select count(*) from dbt_shop_clone.customers") == [[3]]


def test_grants_and_descriptions_are_applied(rows):
    assert rows("select has_table_privilege('dbt_reader', 'dbt_shop.customers', 'select')") == [[True]]
    described = rows("select obj_description('dbt_shop.late'::regclass)")
    assert described == [['A late-binding view; it\'s "quoted" \\ backslashed']]
    assert rows("select col_description('dbt_shop.customers'::regclass, 1)") == [["One customer's name"]]


@pytest.mark.parametrize("again", [False, True])
def test_build_works_with_show_statements_and_behavior_flags(dbt, rows, project, again):
    """`datasharing` makes the adapter use SHOW instead of the catalog; its flags change transactions and grants."""
    settings = project / "dbt_project.yml"
    flags = ("redshift_skip_autocommit_transaction_statements", "redshift_grants_extended")
    if not again:
        changed = "".join(f"  {flag}: true\n" for flag in flags)
        settings.write_text(settings.read_text().replace("flags:\n", f"flags:\n{changed}"))
    dbt("build", "--target", "shared")
    dbt("docs", "generate", "--target", "shared")
    assert rows("select count(*) from dbt_shop_shared.order_history") == [[5]]
    assert rows("select has_table_privilege('dbt_reader', 'dbt_shop_shared.customers', 'select')") == [[True]]
    nodes = json.loads((project / "target" / "catalog.json").read_text())["nodes"]
    # Redshift's catalog returns them in any order. dbt's documentation sorts them by their index.
    columns = sorted(nodes["model.shop.customers"]["columns"].values(), key=lambda column: column["index"])
    assert [column["name"] for column in columns] == ["customer", "orders", "total", "first_order"]


def test_query_history_has_node_names(rows):
    counts = rows("select count(*) from sys_query_history where query_text like '%model.shop.customers%'")
    assert counts[0][0] > 0
