"""Other projects read only public models, and a change that breaks their contracts names the consumers."""

import copy
from pathlib import Path
from typing import Any

import pytest

from mwaa_pipelines.selection import pipeline_file
from mwaa_pipelines.settings import Pipeline
from mwaa_release.products import ParsedProject, find_breaking_changes, find_product_problems
from mwaa_release.run_dbt import Listing


def pipeline(project: str, **settings: Any) -> Pipeline:
    login = {"redshift_connection_id": project, "target_database": "dev", "target_schema": f"{project}_marts"}
    return Pipeline.model_validate({"dag_name": f"{project}_pipeline", "project_name": project, **login, **settings})


def node(unique_id: str, *parents: str, **fields: Any) -> dict[str, Any]:
    resource_type, package, name = unique_id.split(".", 2)
    return {
        "unique_id": unique_id,
        "resource_type": resource_type,
        "package_name": package,
        "name": name,
        "alias": name,
        "database": "dev",
        "schema": "dbt_local",
        "access": "protected",
        "deprecation_date": None,
        "config": {"schema": None, "group": None, "meta": {"owner": "team"}, "contract": {"enforced": True}},
        "columns": {
            "id": {"data_type": "integer", "constraints": [{"type": "not_null"}]},
            "name": {"data_type": "varchar(20)", "constraints": []},
        },
        "depends_on": {"nodes": list(parents)},
        **fields,
    }


def parsed(entry: Pipeline, *nodes: dict[str, Any], **sources: str) -> ParsedProject:
    """Return a project. A source is written as name="schema.table"."""
    project = entry.project_name
    tables = {
        f"source.{project}.other.{name}": {
            "unique_id": f"source.{project}.other.{name}",
            "source_name": "other",
            "name": name,
            "database": "DEV",
            "schema": relation.split(".")[0],
            "identifier": relation.split(".")[1],
            "original_file_path": "models/sources.yml",
        }
        for name, relation in sources.items()
    }
    manifest = {
        "metadata": {"project_name": project},
        "nodes": {entry["unique_id"]: entry for entry in nodes},
        "sources": tables,
        "exposures": {},
    }
    return ParsedProject(manifest, [entry], {pipeline_file(entry): Listing(tuple(manifest["nodes"]))})


SHOP = parsed(
    pipeline("shop"),
    node("model.shop.orders", access="public"),
    node("model.shop.drafts"),
    node("model.audit_trail.audit_table"),
)


def changed(name: str = "model.shop.orders", **fields: Any) -> ParsedProject:
    project = copy.deepcopy(SHOP)
    project.manifest["nodes"][name].update(fields)
    return project


def reader(**sources: str) -> ParsedProject:
    entry = pipeline("mail", schedule=["shop.orders"])
    return parsed(entry, node("model.mail.stg_orders", "source.mail.other.orders"), **sources)


def test_public_models_and_other_tables_can_be_read() -> None:
    others = reader(orders="shop_marts.orders", raw="landing.drafts", audit="shop_marts.audit_table")
    assert find_product_problems([SHOP, others], Path("pipelines.yml")) == []


@pytest.mark.parametrize("schema", ["shop_marts", "dbt_local", "SHOP_MARTS"])
def test_private_model_cannot_be_read(schema: str) -> None:
    (problem,) = find_product_problems([SHOP, reader(drafts=f"{schema}.drafts")], Path("pipelines.yml"))
    assert problem == (
        "project mail: models/sources.yml: the source other.drafts is shop.drafts, which is not public, so its owner "
        "team can change it at any time. Read a public model, or ask for `access: public`"
    )


def test_schedule_names_public_models_that_a_pipeline_builds() -> None:
    unselected = ParsedProject(SHOP.manifest, SHOP.pipelines, {pipeline_file(pipeline("shop")): Listing()})
    (problem,) = find_product_problems([unselected, reader()], Path("pipelines.yml"))
    assert problem.startswith("pipelines.yml: pipeline mail_pipeline: schedule: 'shop.orders' is not a public model")


NEW_COLUMN = {"id": {"data_type": "integer", "constraints": [{"type": "not_null"}]}}


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({"access": "protected"}, "it is not public anymore"),
        ({"config": {"contract": {"enforced": False}}}, "its contract is not enforced anymore"),
        ({"columns": NEW_COLUMN}, "column name was removed"),
        (
            {"columns": {**NEW_COLUMN, "name": {"data_type": "integer", "constraints": []}}},
            "column name was varchar(20), and is integer now",
        ),
        (
            {
                "columns": {
                    "id": {"data_type": "integer", "constraints": []},
                    "name": {"data_type": "VARCHAR(40)", "constraints": []},
                }
            },
            "column id can be null now",
        ),
    ],
)
def test_breaking_change_is_reported_with_its_consumers(fields: dict[str, Any], change: str) -> None:
    readers = reader(orders="shop_marts.orders")
    readers.manifest["exposures"]["e"] = {"name": "page", "depends_on": {"nodes": ["model.shop.orders"]}}
    (problem,) = find_breaking_changes([SHOP, readers], [changed(**fields), readers])
    assert problem.startswith(
        f"shop.orders: {change}. Consumers: mail.stg_orders (mail_pipeline), schedule of mail_pipeline, exposure page. "
    )


def test_removed_model_is_a_breaking_change() -> None:
    renamed = changed()
    renamed.manifest["nodes"]["model.shop.sales"] = renamed.manifest["nodes"].pop("model.shop.orders")
    (problem,) = find_breaking_changes([SHOP], [renamed])
    assert problem.startswith("shop.orders: the model was removed, renamed or disabled. Consumers: none in this repo")
    assert len(find_breaking_changes([SHOP], [])) == 1


def test_other_changes_break_no_contract() -> None:
    columns = {
        **SHOP.manifest["nodes"]["model.shop.orders"]["columns"],
        "new": {"data_type": "date", "constraints": []},
    }
    assert find_breaking_changes([SHOP], [changed(columns=columns)]) == []
    assert find_breaking_changes([SHOP], [changed("model.shop.drafts", columns={})]) == []
    assert find_breaking_changes([SHOP], [changed("model.shop.drafts", access="public")]) == []


@pytest.mark.parametrize(("date", "allowed"), [("2020-01-01T00:00:00+00:00", True), ("2999-01-01", False)])
def test_contract_ends_with_the_deprecation_date(date: str, allowed: bool) -> None:
    deprecated = changed(deprecation_date=date)
    assert (find_breaking_changes([deprecated], [changed(columns={})]) == []) == allowed
