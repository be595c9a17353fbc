"""The nodes of each pipeline in a release, from the nodes that dbt listed."""

import json
from pathlib import Path
from typing import Any

import pytest

from mwaa_pipelines import folders
from mwaa_pipelines.settings import Pipeline
from mwaa_release.errors import BuildError
from mwaa_release.pipelines import pipelines_by_project
from mwaa_release.run_dbt import Listing
from mwaa_release.selections import list_arguments, write_selections


def pipeline(**settings: Any) -> Pipeline:
    login = {"redshift_connection_id": "c", "target_database": "dev", "target_schema": "s"}
    return Pipeline.model_validate({"dag_name": "daily", "project_name": "shop", **login, **settings})


def node(unique_id: str, *parents: str, **fields: Any) -> dict[str, Any]:
    resource_type, package, name = unique_id.split(".", 2)
    paths = {"original_file_path": f"models/{name}.sql", "fqn": [package, name], "name": name}
    identity = {"unique_id": unique_id, "resource_type": resource_type, "package_name": package, **paths}
    config = {"materialized": "view", "meta": {"owner": "jane"}, "severity": "error"}
    return {**identity, "tags": [], "config": config, "depends_on": {"nodes": list(parents), "macros": ["m"]}, **fields}


NODES = [
    node("seed.shop.items", depends_on={"macros": []}),
    node("model.shop.stg_items", "seed.shop.items", "source.shop.raw.items"),
    node("model.shop.orders", "model.shop.stg_items"),
    node("model.lib.orders"),
    node("test.shop.not_null_orders", "model.shop.orders"),
    node("test.shop.source_rows", "source.shop.raw.items"),
    node("model.audit_trail.audit_table", tags=["audit"]),
]
MANIFEST = {"metadata": {"project_name": "shop"}, "nodes": {entry["unique_id"]: entry for entry in NODES}, "macros": {}}
FILE = "selections/pipelines/daily.json"


def written(folder: Path, entry: Pipeline, *selected: str, **listings: Listing) -> dict[str, Any]:
    """Return the pipeline's file, where dbt listed `selected` for all its selectors."""
    all_listings = {name: Listing(selected) for name in list_arguments([entry])} | listings
    write_selections(folder, [entry], MANIFEST, all_listings, Path("pipelines.yml"))
    return json.loads((folder / FILE).read_text())


def problems(folder: Path, entry: Pipeline, *selected: str, **listings: Listing) -> str:
    with pytest.raises(BuildError) as raised:
        written(folder, entry, *selected, **listings)
    assert not (folder / FILE).exists()
    return str(raised.value).removeprefix("pipelines.yml: pipeline daily: ")


def test_each_environment_has_its_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same artifact goes to all environments, so the variable does not matter.
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", "dev")
    path = tmp_path / "pipelines.yml"
    path.write_text(
        "pipelines: [{dag_name: daily, project_name: shop, redshift_connection_id: c, target_database: dev, "
        "target_schema: s, environments: {dev: {select: [orders]}, prod: {exclude: [orders]}}}]"
    )
    pipelines = pipelines_by_project(path, ["shop"], complete=True)["shop"]
    files = {"dev": FILE.replace(".json", "@dev.json"), "prod": FILE.replace(".json", "@prod.json")}
    arguments = list_arguments(pipelines)
    assert arguments[files["dev"]][:2] == ["--select", "orders"]
    assert arguments[files["prod"]] == ["--exclude", "tag:audit", "tag:audit_view", "orders"]
    nodes = {files["dev"]: "model.shop.orders", files["prod"]: "seed.shop.items"}
    listings = {name: Listing((nodes.get(name, "model.shop.orders"),)) for name in arguments}
    write_selections(tmp_path, pipelines, MANIFEST, listings, path)
    for file, node_id in nodes.items():
        assert list(json.loads((tmp_path / file).read_text())["nodes"]) == [node_id]


def test_public_models_of_the_project_itself_are_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model.shop.orders", "model.lib.orders", "model.shop.stg_items"):
        monkeypatch.setitem(MANIFEST["nodes"][name], "access", "protected" if "stg" in name else "public")
    assert written(tmp_path, pipeline(), "model.shop.orders", "model.shop.stg_items")["public_models"] == [
        "shop.orders"
    ]
    assert written(tmp_path, pipeline(), "model.lib.orders", "model.shop.stg_items")["public_models"] == []


def test_dbt_lists_what_the_dbt_process_builds() -> None:
    assert list_arguments([pipeline(select=["a+", "b"], exclude=["c"])])[FILE] == [
        *("--select", "a+", "b", "--exclude", "tag:audit", "tag:audit_view", "c")
    ]
    assert list_arguments([pipeline(selector="nightly")])[FILE] == ["--selector", "nightly"]
    assert list_arguments([pipeline()])[FILE] == ["--exclude", "tag:audit", "tag:audit_view"]


def test_file_has_the_selected_nodes_and_what_cosmos_reads_of_them(tmp_path: Path) -> None:
    content = written(tmp_path, pipeline(select=["orders"]), "model.shop.orders", "exposure.shop.board")
    assert content["metadata"] == {"project_name": "shop"}
    assert content["selection"] == {"select": ["orders"], "exclude": ["tag:audit", "tag:audit_view"], "selector": None}
    assert list(content["nodes"]) == ["model.shop.orders"]
    assert content["nodes"]["model.shop.orders"] == {
        "unique_id": "model.shop.orders",
        "resource_type": "model",
        "package_name": "shop",
        "original_file_path": "models/orders.sql",
        "fqn": ["shop", "orders"],
        "tags": [],
        "config": {"materialized": "view", "meta": {"owner": "jane"}},
        "depends_on": {"nodes": []},
    }


def test_order_is_kept_across_unselected_nodes(tmp_path: Path) -> None:
    nodes = written(tmp_path, pipeline(), "seed.shop.items", "model.shop.orders")["nodes"]
    assert nodes["model.shop.orders"]["depends_on"] == {"nodes": ["seed.shop.items"]}


def test_functions_are_upstream_of_the_models_that_call_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    area, rooms = node("function.shop.area", tags=["math"]), node("model.shop.rooms", "function.shop.area")
    monkeypatch.setitem(MANIFEST, "functions", {"function.shop.area": area})
    monkeypatch.setitem(MANIFEST["nodes"], "model.shop.rooms", rooms)
    nodes = written(tmp_path, pipeline(), "function.shop.area", "model.shop.rooms")["nodes"]
    assert nodes["function.shop.area"]["tags"] == ["math"]
    assert nodes["model.shop.rooms"]["depends_on"] == {"nodes": ["function.shop.area"]}


def test_many_paths_through_unselected_nodes_are_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("model.shop.first")]
    for number in range(60):
        parents = [entry["unique_id"] for entry in nodes[-2:]]
        nodes += [node(f"model.shop.{side}{number}", *parents) for side in ("left", "right")]
    nodes.append(node("model.shop.last", *[entry["unique_id"] for entry in nodes[-2:]]))
    monkeypatch.setitem(MANIFEST, "nodes", {entry["unique_id"]: entry for entry in nodes})
    content = written(tmp_path, pipeline(), "model.shop.first", "model.shop.last")
    assert content["nodes"]["model.shop.last"]["depends_on"] == {"nodes": ["model.shop.first"]}


def test_tests_without_a_selected_model_have_a_task(tmp_path: Path) -> None:
    """Cosmos creates a task for each test that reads several nodes."""
    nodes = written(tmp_path, pipeline(), "model.shop.orders", "test.shop.not_null_orders", "test.shop.source_rows")
    parents = {name: entry["depends_on"]["nodes"] for name, entry in nodes["nodes"].items()}
    assert parents["test.shop.not_null_orders"] == ["model.shop.orders"]
    assert len(parents["test.shop.source_rows"]) > 1


def test_selector_that_names_nothing_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    entry = pipeline(select=["orders", "stg_item+"])
    nothing = {f"{FILE}: select.1": Listing(("exposure.shop.board", "source.shop.raw.items"))}
    assert problems(tmp_path, entry, "model.shop.orders", **nothing) == (
        "select.1: 'stg_item+' selects nothing to build in the dbt project 'shop'. Correct or remove it. "
        "Did you mean 'stg_items'?"
    )


def test_mistyped_table_to_load_is_an_error_with_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"schema": "Landing", "identifier": "orders"}
    monkeypatch.setitem(MANIFEST, "sources", {"source.shop.raw.orders": source})
    names = ["landing.orders", "landing.orderz", "landing.visits"]
    entry = pipeline(load=[{"table": name, "prefix": f"{name}/", "format": "csv"} for name in names])
    assert problems(tmp_path, entry, "model.shop.orders") == (
        "load.1.table: 'landing.orderz' is not a source of the dbt project 'shop'. Did you mean 'landing.orders'?"
    )


def test_error_of_dbt_names_the_setting(tmp_path: Path) -> None:
    wrong = Listing(error="Runtime Error\n  Could not find selector")
    assert problems(tmp_path, pipeline(select=["x"]), **{f"{FILE}: select.0": wrong}) == (
        "select.0: dbt refuses 'x': Runtime Error Could not find selector"
    )
    assert problems(tmp_path, pipeline(selector="x"), **{FILE: wrong}).startswith("selector: dbt refuses 'x': ")
    assert problems(tmp_path, pipeline(exclude=["x"]), **{FILE: wrong}).startswith("exclude: dbt refuses ['x']: ")


def test_exclude_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    entry = pipeline(select=["orders"], exclude=["shop"])
    assert problems(tmp_path, entry, "model.shop.orders", **{FILE: Listing()}) == (
        "exclude: ['shop'] leaves nothing to build (select: ['orders'])"
    )
    assert "'nightly' selects nothing" in problems(tmp_path, pipeline(selector="nightly"))


def test_project_without_models_needs_no_selection(tmp_path: Path) -> None:
    assert written(tmp_path, pipeline())["nodes"] == {}


def test_selector_must_leave_out_the_audit_trail(tmp_path: Path) -> None:
    message = problems(tmp_path, pipeline(selector="all"), "model.audit_trail.audit_table", "model.shop.orders")
    assert message.startswith("selector: 'all' selects model.audit_trail.audit_table of the audit trail")


def test_models_with_the_same_task_id_are_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, pipeline(), "model.shop.orders", "model.lib.orders").startswith(
        "model.shop.orders and model.lib.orders would have the same task id in Airflow, 'orders'. Rename one"
    )
    assert len(written(tmp_path, pipeline(exclude=["package:lib"]), "model.shop.orders")["nodes"]) == 1


SERVERLESS = {"execution_mode": "serverless", "secret_name": "shop/login"}


@pytest.mark.parametrize(
    ("settings", "is_large", "is_refused"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"execution_mode": "local"}, True, True),
        ({"execution_mode": "ecs", "ecs": {"cluster": "dbt"}}, True, False),
        ({**SERVERLESS, "serverless": {"tasks": "one"}}, False, False),
        ({**SERVERLESS, "serverless": {"tasks": "models"}}, True, True),
    ],
)
def test_models_with_the_same_name_need_tasks_that_nodes_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], is_large: bool, is_refused: bool
) -> None:
    monkeypatch.setattr(folders, "MOST_TASKS", 1 if is_large else 10)
    models = ("model.shop.orders", "model.lib.orders")
    if is_refused:
        assert "would have the same task id" in problems(tmp_path, pipeline(**settings), *models)
    else:
        assert set(written(tmp_path, pipeline(**settings), *models)["nodes"]) == set(models)


@pytest.mark.parametrize("name", ["größen", "o" * 201, "two words"])
def test_models_with_a_name_that_airflow_cannot_carry_are_refused(tmp_path: Path, name: str) -> None:
    unique_id = f"model.shop.{name}"
    manifest = {**MANIFEST, "nodes": {unique_id: node(unique_id)}}
    entry = pipeline()
    listings = {listed: Listing((unique_id,)) for listed in list_arguments([entry])}
    with pytest.raises(BuildError, match=rf"pipeline daily: {unique_id} cannot be a task in Airflow: "):
        write_selections(tmp_path, [entry], manifest, listings, Path("pipelines.yml"))


def test_entries_are_grouped_by_project(tmp_path: Path) -> None:
    path = tmp_path / "pipelines.yml"
    text = "pipelines:"
    for name, project in (("one", "shop"), ("two", "shpo")):
        text += f"\n  - {{dag_name: {name}, project_name: {project}, redshift_connection_id: {name}, "
        text += "target_database: dev, target_schema: s}"
    path.write_text(text)
    grouped = pipelines_by_project(path, ["shop", "empty"], complete=False)
    assert {name: [entry.dag_name for entry in entries] for name, entries in grouped.items()} == {
        "shop": ["one"],
        "empty": [],
    }
    with pytest.raises(BuildError) as raised:
        pipelines_by_project(path, ["shop"], complete=True)
    assert str(raised.value) == (
        f"{path}: pipeline two: project_name: the repository has no dbt project 'shpo'. Did you mean 'shop'?"
    )
    path.write_text(text.replace("two", "one"))
    with pytest.raises(BuildError, match="dag_name must be unique"):
        pipelines_by_project(path, ["shop", "shpo"], complete=True)
    assert pipelines_by_project(tmp_path / "missing.yml", ["shop"], complete=True) == {"shop": []}
