"""A dbt project outside this repository gets the audit trail with one entry in packages.yml."""

import os

import pytest
import yaml
from audit_database import PASSWORD

from audit_report import DBT_PACKAGE
from redshift_local.testing.preloaded_dbt import run_preloaded_dbt

PROJECT = {
    "dbt_project.yml": {
        "name": "shop",
        "version": "1.0",
        "profile": "shop",
        "models": {"shop": {"+materialized": "table"}},
    },
    "packages.yml": {"packages": [{"local": str(DBT_PACKAGE)}]},
    "models/models.yml": {"models": [{"name": "orders", "columns": [{"name": "id", "data_tests": ["unique"]}]}]},
}


@pytest.fixture(scope="module")
def dbt_in_shop(database, tmp_path_factory):
    """A function that runs dbt in a project with one model, as the owner of the schema `shop`."""
    folder = tmp_path_factory.mktemp("shop")
    database.add_user("shop", "shop")
    profile = {"type": "redshift", "host": database.warehouse.host, "port": database.warehouse.port, "user": "shop"}
    profile |= {"password": PASSWORD, "dbname": "dev", "schema": "shop", "sslmode": "disable", "threads": 4}
    files = {**PROJECT, "profiles.yml": {"shop": {"target": "prod", "outputs": {"prod": profile}}}}
    (folder / "models").mkdir()
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    (folder / "models" / "orders.sql").write_text("select 1 as id\n")

    def run(*arguments: str, code: int = 0) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
        completed = run_preloaded_dbt(*arguments, cwd=folder, env=environment)
        assert completed.returncode == code, completed.stdout
        return completed.stdout

    run.folder = folder
    return run


def base_tables(database) -> set[str]:
    query = "select table_name from information_schema.tables where table_schema = 'shop' and table_type = 'BASE TABLE'"
    return {name for (name,) in database.run(query)}


def test_package_entry_adds_rows_views_and_tests(dbt_in_shop, database):
    dbt_in_shop("deps")
    dbt_in_shop("build")
    statuses = dict(database.run("select unique_id, status from shop.audit_table"))
    models = {unique_id.split(".")[-1] for unique_id in statuses if unique_id.startswith("model.")}
    views = {path.stem for path in (DBT_PACKAGE / "models").glob("*.sql")} - {"audit_table"}
    assert models == {"orders", "audit_table", *views}
    assert set(statuses.values()) == {"success", "pass"}
    assert [name for name in statuses if name.startswith("test.audit_trail.")]
    assert base_tables(database) == {"orders", "audit_table"}

    dbt_in_shop("run", "--select", "orders")
    (runs,) = database.run("select count(*), max(nodes), min(nodes) from shop.audit_runs where outcome = 'passed'")
    assert runs == (2, len(statuses), 1)
    before = database.run("select count(*) from shop.audit_table")
    dbt_in_shop("run", "--select", "orders", "--vars", "{audit_enabled: false}")
    assert database.run("select count(*) from shop.audit_table") == before


def test_settings_for_all_models_cannot_drop_the_rows(dbt_in_shop, database):
    before = database.run("select count(*) from shop.audit_table")
    path = dbt_in_shop.folder / "dbt_project.yml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "models": {"+materialized": "table"}}))
    output = dbt_in_shop("build", "--select", "package:audit_trail", code=1)
    assert "sets materialized: table" in output
    ((after,),) = database.run("select count(*) from shop.audit_table")
    assert after > before[0][0]

    # The message contains the setting to add.
    advice = output.split("add below models: ")[1].split("\n")[0]
    path.write_text(yaml.safe_dump({**settings, "models": {"+materialized": "table", **yaml.safe_load(advice)}}))
    dbt_in_shop("build", "--full-refresh")
    assert base_tables(database) == {"orders", "audit_table"}
    assert database.run("select count(*) from shop.audit_table")[0][0] > after
