"""Summaries of a pull request, and the parents that a change reads from its base."""

import subprocess
import sys

import pytest

from workbench.relations import Relation
from workbench.slim_ci import RefusedChangeError, missing_sources, read_from_base
from workbench.summary import markdown


def test_output_cannot_close_its_code_block() -> None:
    text = markdown("Lint", 1, 2.0, "a\n````\n</details> @everybody\n\x1b[31mred\x1b[0m\nhalf\rwhole\n")
    fences = [line for line in text.splitlines() if line.startswith("`")]
    assert fences == ["`````text", "````", "`````"]
    assert "\x1b" not in text
    assert "\nwhole\n" in text
    assert "half" not in text
    assert text.startswith("❌ **Lint** exit code 1, 2 s")


def test_long_output_keeps_its_end() -> None:
    text = markdown("Test", 0, 1.0, "".join(f"line {number} {'x' * 300}\n" for number in range(1000)))
    assert len(text) < 13_000
    assert "line 999" in text
    assert text.startswith("✅ **Test** 1 s")


def test_output_and_exit_code_are_passed_through(tmp_path) -> None:
    command = [sys.executable, "-m", "workbench", "summary", "A title", "--", "sh", "-c", "echo output; exit 3"]
    environment = {"LOCAL_DIR": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stdout) == (3, "output\n")
    written = (tmp_path / "summaries" / "a-title.md").read_text()
    assert "exit code 3" in written
    assert (tmp_path / "summary").read_text() == written


def test_only_unchanged_parents_come_from_the_base() -> None:
    def node(kind: str, *parents: str) -> dict:
        return {"resource_type": kind, "depends_on": {"nodes": list(parents)}}

    nodes = {
        "model.p.new": node("model", "model.p.old", "source.p.landing.t"),
        "model.p.child": node("model", "model.p.new", "seed.p.codes"),
        "exposure.p.page": node("exposure", "model.p.far"),
    }
    base = {
        key: {"name": key.split(".")[-1], "resource_type": key.split(".")[0]}
        for key in ("model.p.old", "model.p.new", "model.p.far", "seed.p.codes")
    }
    assert read_from_base(nodes, base) == ["codes", "old"]


def source(name: str, schema: str, identifier: str) -> dict:
    file = "models/sources.yml"
    return {
        "source_name": "shop",
        "name": name,
        "schema": schema,
        "identifier": identifier,
        "original_file_path": file,
    }


def test_sources_that_the_warehouse_never_had_are_missing() -> None:
    orders, old = source("orders", "raw", "orders"), source("items", "landing", "ITEMS")
    existing = {Relation("landing", "items")}
    assert missing_sources({"orders": orders, "items": old}, {"items": old}, existing) == ["shop.orders"]
    assert missing_sources({"orders": orders}, {"orders": orders}, existing) == ["shop.orders"]


def test_source_with_a_table_that_is_lost_is_an_error() -> None:
    before, after = source("items", "landing", "items"), source("items", "landing", "itmes")
    with pytest.raises(RefusedChangeError) as error:
        missing_sources({"items": after}, {"items": before}, {Relation("landing", "items")})
    assert str(error.value).startswith(
        'models/sources.yml: source shop.items was "landing"."items", which this warehouse has, '
        'and is "landing"."itmes" now, which it does not have.'
    )
