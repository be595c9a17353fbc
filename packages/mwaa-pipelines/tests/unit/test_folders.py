"""Large projects get one task for each folder, in an order without cycles."""

import random
from graphlib import TopologicalSorter
from typing import Any

import pytest

from mwaa_pipelines import folders
from mwaa_pipelines.folders import Folder, folders_of


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_TASKS", 3)


def model(path: str, *needs: str, package: str = "shop", **more: Any) -> tuple[str, dict[str, Any]]:
    resource_type = more.get("resource_type", "model")
    name = f"{resource_type}.{package}.{path.rpartition('/')[2].partition('.')[0]}"
    node = {"resource_type": "model", "package_name": package, "original_file_path": path, "config": {}, **more}
    return name, {**node, "depends_on": {"nodes": list(needs)}}


def of(*nodes: tuple[str, dict[str, Any]], with_tests: bool = True) -> dict[str, Folder]:
    return {folder.name: folder for folder in folders_of(dict(nodes), "shop", with_tests=with_tests)}


STAGING = [model(f"models/staging/{name}.sql") for name in ("a", "b", "c")]
MART = model("models/marts/sales/d.sql", "model.shop.a", "source.shop.raw.x")


def test_small_project_has_a_task_for_each_node() -> None:
    assert of(*STAGING) == {}
    # The tests of a node are a task, too.
    tested = model("tests/t.sql", "model.shop.a", resource_type="test")
    assert list(of(*STAGING, tested)) == ["models.staging"]
    assert of(*STAGING, tested, with_tests=False) == {}
    # A test of a source has no task.
    assert of(*STAGING, model("tests/t.sql", "source.shop.raw.x", resource_type="test")) == {}


def test_folder_has_its_nodes_and_needs_the_folders_of_their_parents() -> None:
    assert of(*STAGING, MART) == {
        "models.staging": Folder(
            "models.staging",
            ("model.shop.a", "model.shop.b", "model.shop.c"),
            frozenset({"model.shop.a", "model.shop.b", "model.shop.c"}),
            frozenset(),
        ),
        "models.marts.sales": Folder(
            "models.marts.sales", ("model.shop.d",), frozenset({"model.shop.d"}), frozenset({"models.staging"})
        ),
    }


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (model("seeds/d.csv", resource_type="seed"), "seeds"),
        (model("snapshots/x/d.sql", resource_type="snapshot"), "snapshots.x"),
        (model("functions/d.sql", resource_type="function"), "functions"),
        (model("models/d.sql", package="audit_trail"), "audit_trail.models"),
        (model("models/big data.v2/größe/d.sql"), "models.big_data_v2.größe"),
    ],
)
def test_task_has_the_path_of_its_folder(node: Any, name: str) -> None:
    assert set(of(*STAGING, node)) == {"models.staging", name}


def test_long_paths_are_shortened_for_airflow() -> None:
    deep = "models/" + "/".join(["folder_with_a_long_name"] * 12)
    by_name = of(*STAGING, model(f"{deep}/one/d.sql"), model(f"{deep}/two/e.sql"))
    assert len(by_name) == 3
    assert max(map(len, by_name)) < 235


def test_test_is_in_the_folder_of_its_last_node_and_needs_its_other_nodes() -> None:
    other = model("models/marts/costs/e.sql", "model.shop.d")
    test = model("models/staging/t.sql", "model.shop.d", "model.shop.b", resource_type="test")
    by_name = of(*STAGING, MART, other, test)
    assert by_name["models.marts.sales"].nodes == ("model.shop.d", "test.shop.t")
    assert by_name["models.marts.sales"].members == {"model.shop.d"}
    alone = of(*STAGING, model("models/marts/sales/d.sql"), test)
    assert alone["models.marts.sales"].upstream | alone["models.staging"].upstream in (
        {"models.staging"},
        {"models.marts.sales"},
    )


def test_folders_that_need_each_other_are_one_task() -> None:
    back = model("models/staging/e.sql", "model.shop.d")
    after = model("models/marts/costs/f.sql", "model.shop.e")
    by_name = of(*STAGING, MART, back, after)
    assert set(by_name) == {"models.marts.sales_and_1_more", "models.marts.costs"}
    assert by_name["models.marts.costs"].upstream == {"models.marts.sales_and_1_more"}
    assert by_name["models.marts.sales_and_1_more"].members == {f"model.shop.{name}" for name in "abcde"}


def test_tests_between_folders_do_not_make_them_one_task() -> None:
    nodes = [model("models/x/a.sql"), model("models/y/b.sql"), model("models/x/c.sql"), model("models/y/d.sql")]
    tests = [
        model("tests/t.sql", "model.shop.a", "model.shop.b", resource_type="test"),
        model("tests/u.sql", "model.shop.b", "model.shop.c", resource_type="test"),
    ]
    by_name = of(*nodes, *tests)
    assert set(by_name) == {"models.x", "models.y"}
    # The folder that both tests belong to needs the other one.
    (last,) = (folder for folder in by_name.values() if folder.upstream)
    assert {"test.shop.t", "test.shop.u"} <= set(last.nodes)


def test_too_many_folders_are_those_of_a_higher_level() -> None:
    nodes = [model(f"models/{part}/{number}/m{part}{number}.sql") for part in "xy" for number in range(3)]
    assert set(of(*nodes)) == {"models.x", "models.y"}


def test_ephemeral_model_keeps_its_place_but_is_not_watched() -> None:
    inline = model("models/inline/e.sql", "model.shop.a", config={"materialized": "ephemeral"})
    mart = model("models/marts/d.sql", "model.shop.e")
    by_name = of(*STAGING, inline, mart)
    assert (by_name["models.inline"].nodes, by_name["models.inline"].members) == ((), {"model.shop.e"})
    assert by_name["models.marts"].upstream == {"models.inline"}


@pytest.mark.parametrize("seed", range(20))
def test_each_node_is_in_one_task_and_no_task_needs_itself(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_TASKS", 12)
    rng = random.Random(seed)  # noqa: S311 - a test's input
    names = [f"model.shop.m{number}" for number in range(60)]
    nodes = dict(
        model(
            f"models/{rng.choice('abcd')}/{rng.choice('xyz')}/m{number}.sql",
            *rng.sample(names[:number], min(number, rng.randrange(3))),
        )
        for number in range(60)
    )
    nodes |= dict(
        model(f"tests/t{number}.sql", *rng.sample(names, rng.randrange(1, 3)), resource_type="test")
        for number in range(40)
    )
    by_name = of(*nodes.items())
    assert sorted(node for folder in by_name.values() for node in folder.nodes) == sorted(nodes)
    tuple(TopologicalSorter({folder.name: folder.upstream for folder in by_name.values()}).static_order())
    home = {node: folder for folder in by_name.values() for node in folder.nodes}
    for name, node in nodes.items():
        for parent in node["depends_on"]["nodes"]:
            assert home[parent] is home[name] or home[parent].name in home[name].upstream
