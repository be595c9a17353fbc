"""The catalog lists each public model with its owner, schedule, contract, quality and consumers."""

import datetime
from typing import Any

from mwaa_pipelines.settings import Pipeline
from mwaa_release.products import ParsedProject
from workbench.catalog import page

ORDERS = "model.shop.orders"


def node(unique_id: str, **fields: Any) -> dict[str, Any]:
    resource_type, package, name = unique_id.split(".")
    relation = {"database": "dev", "schema": "shop_marts", "alias": name}
    config = {"schema": None, "group": None, "meta": {"owner": "sales"}}
    identity = {"unique_id": unique_id, "resource_type": resource_type, "package_name": package}
    return {**identity, **relation, "config": config, "columns": {}, "depends_on": {"nodes": []}, **fields}


def project(*nodes: dict[str, Any], name: str = "shop", **settings: Any) -> ParsedProject:
    entry = {"dag_name": f"{name}_pipeline", "project_name": name, "redshift_connection_id": "c", **settings}
    pipeline = Pipeline.model_validate({**entry, "target_database": "dev", "target_schema": f"{name}_marts"})
    manifest = {"metadata": {"project_name": name}, "nodes": {entry["unique_id"]: entry for entry in nodes}}
    return ParsedProject({**manifest, "sources": {}, "exposures": {}}, [pipeline], {})


COLUMNS = {
    "id": {"data_type": "integer", "constraints": [{"type": "not_null"}], "description": "Key | of\nthe row."},
    "note": {"data_type": "varchar", "constraints": [], "description": "Note."},
}
SHOP = project(
    node(ORDERS, access="public", description="One row is\none order.", columns=COLUMNS),
    node("model.shop.drafts", access="protected", description="Private."),
    node("test.shop.unique", depends_on={"nodes": [ORDERS]}),
    node("test.shop.other", depends_on={"nodes": ["model.shop.drafts"]}),
    schedule="0 6 * * *",
)
HISTORY = {
    "marts": [{"unique_id": ORDERS, "built_at": datetime.datetime(2026, 1, 2, 3, 4)}],
    "tests": [
        {"unique_id": "test.shop.unique", "runs": 1000, "passed_runs": 995},
        {"unique_id": "test.shop.other", "runs": 7, "passed_runs": 0},
    ],
}


def test_product_is_listed_with_its_contract_quality_and_consumers() -> None:
    text = page([SHOP, project(name="mail", schedule=["shop.orders"])], {"shop": HISTORY})
    assert (
        "| [shop.orders](#shoporders) | sales | `0 6 * * *` | 2026-01-02 03:04 | 99.5 % of 1,000 "
        "| schedule of mail_pipeline |\n"
    ) in text
    assert "\n## shop.orders\n\nOne row is one order.\n" in text
    assert "| `id` | integer | no | Key \\| of the row. |\n| `note` | varchar | yes | Note. |\n" in text
    assert "drafts" not in text


def test_product_without_history_or_consumers_has_dashes() -> None:
    assert "| [shop.orders](#shoporders) | sales | `0 6 * * *` | - | - | - |\n" in page([SHOP], {})


def test_repository_without_public_models_has_an_empty_catalog() -> None:
    assert page([project()], {}).endswith("No model is public yet.\n")
