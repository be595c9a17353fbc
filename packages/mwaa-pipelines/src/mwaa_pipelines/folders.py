"""The folders of a large project. Each is one task, because Airflow is slow with a task for each node.

For each trigger that starts, Airflow 3.3.1 sends the triggerer the whole DAG, and each loop of the scheduler looks at
every task that has not started. So the time and memory of a run grow with the square of its tasks.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

# In a DAG with more tasks than this, nodes share a task. The triggers of this many tasks take about 200 MB.
MOST_TASKS = 240
# Airflow's limit for a task's id is 250, with the name of its group.
_LONGEST_NAME = 200
_BUILT = {"model", "seed", "snapshot", "function"}

_Path = tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """The nodes of one task.

    Attributes:
        name: the folder's path with dots, such as `models.marts.finance`.
        nodes: ids of its nodes and of their tests, without ephemeral models. Each node is in one folder.
        members: ids of all its nodes but tests.
        upstream: names of the folders that these nodes and tests need.
    """

    name: str
    nodes: tuple[str, ...]
    members: frozenset[str]
    upstream: frozenset[str]


def folders_of(nodes: Mapping[str, Any], project_name: str, *, with_tests: bool) -> tuple[Folder, ...]:
    """Return the folders of a pipeline; none if it has so few nodes that each gets its own task.

    Folders that need each other are one task. If there are too many folders, they are cut to fewer levels.

    Args:
        nodes: the pipeline's nodes by id, as in a manifest.
        project_name: the dbt project. The folders of packages start with the package's name.
        with_tests: whether the pipeline runs tests.
    """
    built = {name: node for name, node in nodes.items() if node["resource_type"] in _BUILT}
    tests = {
        name: [parent for parent in node["depends_on"]["nodes"] if parent in built]
        for name, node in nodes.items()
        if with_tests and node["resource_type"] == "test"
    }
    # A test of a source belongs to no node.
    tests = {name: parents for name, parents in tests.items() if parents}
    tested = {parent for parents in tests.values() for parent in parents}
    if len(built) + len(tested) <= MOST_TASKS:
        return ()
    paths = _paths(built, project_name)
    needs = {
        name: [parent for parent in node["depends_on"]["nodes"] if parent in built] for name, node in built.items()
    }
    edges: dict[_Path, set[_Path]] = {path: set() for path in paths.values()}
    for name, parents in needs.items():
        edges[paths[name]].update(paths[parent] for parent in parents)
    names = _names(edges)
    upstream: dict[str, set[str]] = {name: set() for name in names.values()}
    for path, needed in edges.items():
        upstream[names[path]].update(names[other] for other in needed if names[other] != names[path])
    folders = {name: names[path] for name, path in paths.items()}
    # The same in each process, so nothing here follows the order of a set.
    sorter = TopologicalSorter({name: sorted(needed) for name, needed in sorted(upstream.items())})
    order = {name: position for position, name in enumerate(sorter.static_order())}
    # Like dbt, a task runs a test after the last of its nodes. So tests add no cycle.
    for name, parents in tests.items():
        homes = {folders[parent] for parent in parents}
        folders[name] = max(homes, key=order.__getitem__)
        upstream[folders[name]] |= homes - {folders[name]}
    grouped: dict[str, list[str]] = {name: [] for name in upstream}
    for node, folder in sorted(folders.items()):
        grouped[folder].append(node)
    return tuple(
        Folder(
            name,
            tuple(node for node in members if not _is_ephemeral(nodes[node])),
            frozenset(node for node in members if node in built),
            frozenset(upstream[name]),
        )
        for name, members in sorted(grouped.items())
    )


def _paths(built: Mapping[str, Any], project_name: str) -> dict[str, _Path]:
    """Return the folder of each node, on the deepest level with few enough folders."""
    paths = {name: _path(node, project_name) for name, node in built.items()}
    depth = max(map(len, paths.values()))
    while depth > 1 and len({path[:depth] for path in paths.values()}) > MOST_TASKS:
        depth -= 1
    return {name: path[:depth] for name, path in paths.items()}


def _path(node: Mapping[str, Any], project_name: str) -> _Path:
    package = [] if node["package_name"] == project_name else [node["package_name"]]
    parts = [*package, *PurePosixPath(node["original_file_path"]).parent.parts]
    # Airflow's ids have no other characters.
    return tuple(re.sub(r"[^\w-]", "_", part) for part in parts)


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return node["config"].get("materialized") == "ephemeral"


def _names(edges: Mapping[_Path, Collection[_Path]]) -> dict[_Path, str]:
    """Return the name of each folder's task. Folders that need each other have the same one."""
    reached = {path: _reached(path, edges) for path in edges}
    names = {}
    for path in edges:
        together = sorted({path, *(other for other in reached[path] if path in reached[other])})
        more = f"_and_{len(together) - 1}_more" if len(together) > 1 else ""
        name = ".".join(together[0])
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        names[path] = name + more
    return names


def _reached(start: _Path, edges: Mapping[_Path, Collection[_Path]]) -> set[_Path]:
    reached: set[_Path] = set()
    pending = [start]
    while pending:
        for path in edges[pending.pop()]:
            if path not in reached:
                reached.add(path)
                pending.append(path)
    return reached
