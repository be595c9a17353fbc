"""Writes the nodes of each pipeline's task groups into a release, as mwaa_pipelines.selection describes."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mwaa_pipelines.selection import (
    AUDIT_FILE,
    AUDIT_SELECTOR,
    EVERYTHING_FILE,
    dbt_selection,
    model_asset,
    pipeline_file,
    pipeline_folders,
)
from mwaa_pipelines.settings import Pipeline, did_you_mean
from mwaa_release.errors import BuildError
from mwaa_release.manifest import to_json
from mwaa_release.run_dbt import Listing

# dbt builds these, and they have tasks.
_WITH_TASK = ("function", "model", "seed", "snapshot", "test")
# The fields of a node that Cosmos reads. Parsing a DAG file takes less time without the rest.
_FIELDS = ("unique_id", "resource_type", "package_name", "original_file_path", "fqn", "tags")
_CONFIG = ("materialized", "meta")
# Airflow's limit for a task id is 250, with the names of the groups. Cosmos's trigger cannot read XComs whose keys have
# other characters than ASCII.
_LONGEST_NAME = 200
_TASK_NAME = re.compile(rf"[A-Za-z0-9_.\-]{{1,{_LONGEST_NAME}}}")
# Stands for a node in a list of a test's parents.
_NO_NODE = "none"


def list_arguments(pipelines: Sequence[Pipeline]) -> dict[str, list[str]]:
    """Return the selections of the pipelines of one project as arguments of `dbt list`, for `write_selections`."""
    arguments = {AUDIT_FILE: ["--select", AUDIT_SELECTOR], EVERYTHING_FILE: selection_arguments(dbt_selection())}
    for pipeline in pipelines:
        arguments[pipeline_file(pipeline)] = selection_arguments(dbt_selection(pipeline))
        for number, criterion in enumerate(pipeline.select):
            # The same as the pipeline's own if it has nothing else, so dbt lists it once.
            arguments[_criterion(pipeline, number)] = selection_arguments({**dbt_selection(), "select": [criterion]})
    return arguments


def selection_arguments(selection: Mapping[str, Any]) -> list[str]:
    """Return a selection as arguments of dbt."""
    if selection["selector"]:
        return ["--selector", selection["selector"]]
    return [
        argument
        for option in ("select", "exclude")
        for argument in ([f"--{option}", *selection[option]] if selection[option] else [])
    ]


def write_selections(
    release: Path,
    pipelines: Sequence[Pipeline],
    manifest: dict[str, Any],
    listings: Mapping[str, Listing],
    pipelines_file: Path,
) -> None:
    """Write a manifest of the selected nodes for each pipeline of a project, whose selections have no problems.

    Args:
        release: folder of the release.
        pipelines: those of the project.
        manifest: of the whole project.
        listings: the nodes that dbt listed for `list_arguments`.
        pipelines_file: for messages.

    Raises:
        BuildError: dbt refuses a selector, a pipeline selects nothing, or Airflow cannot create the tasks. The message
            has one line for each problem.
    """
    if problems := find_problems(pipelines, manifest, listings, pipelines_file):
        raise BuildError("\n".join(problems))
    nodes = _with_tasks(listings)
    written = {AUDIT_FILE: None, EVERYTHING_FILE: None} | {pipeline_file(entry): entry for entry in pipelines}
    for file, pipeline in written.items():
        content = _reduced(manifest, nodes[file])
        content |= {
            "selection": dbt_selection(pipeline),
            "public_models": public_models(manifest, nodes[file]),
            "measured_sources": measured_sources(manifest, nodes[file]),
        }
        (release / file).parent.mkdir(parents=True, exist_ok=True)
        (release / file).write_bytes(to_json(content))


def public_models(manifest: Mapping[str, Any], nodes: Iterable[str]) -> list[str]:
    """Return the assets of those nodes that are public models of the project itself, not of its packages."""
    project = manifest["metadata"]["project_name"]
    return [
        model_asset(node)
        for node in nodes
        if node.startswith(f"model.{project}.") and manifest["nodes"][node].get("access") == "public"
    ]


def measured_sources(manifest: Mapping[str, Any], nodes: Iterable[str]) -> list[str]:
    """Return dbt selectors of the sources that those nodes read and whose freshness dbt can measure."""
    all_nodes = _nodes(manifest)
    read = {parent for node in nodes for parent in all_nodes[node]["depends_on"].get("nodes", [])}
    return [
        f"source:{source['package_name']}.{source['source_name']}.{source['name']}"
        for unique_id, source in sorted(manifest.get("sources", {}).items())
        if unique_id in read and any((limit or {}).get("count") for limit in _limits(source))
    ]


def _limits(source: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    freshness = source.get("freshness") or {}
    return [freshness.get("warn_after"), freshness.get("error_after")]


def find_problems(
    pipelines: Sequence[Pipeline], manifest: dict[str, Any], listings: Mapping[str, Listing], pipelines_file: Path
) -> list[str]:
    """Return a message for each selection of the pipelines of a project that dbt refuses, or that has no tasks.

    The arguments are those of `write_selections`.
    """
    nodes = _with_tasks(listings)
    problems = (
        f"{pipelines_file}: pipeline {pipeline.dag_name}: {problem}"
        for pipeline in pipelines
        for problem in _problems(pipeline, manifest, listings, nodes) + _unknown_tables(pipeline, manifest)
    )
    # Environments can have the same problem.
    return list(dict.fromkeys(problems))


def _with_tasks(listings: Mapping[str, Listing]) -> dict[str, list[str]]:
    return {
        file: [node for node in listing.nodes if node.split(".")[0] in _WITH_TASK] for file, listing in listings.items()
    }


def _criterion(pipeline: Pipeline, number: int) -> str:
    return f"{pipeline_file(pipeline)}: select.{number}"


def _problems(
    pipeline: Pipeline,
    manifest: dict[str, Any],
    listings: Mapping[str, Listing],
    nodes: Mapping[str, Sequence[str]],
) -> list[str]:
    problems = []
    for number, value in enumerate(pipeline.select):
        criterion = _criterion(pipeline, number)
        if listings[criterion].error:
            problems.append(f"select.{number}: dbt refuses {value!r}: {_one_line(listings[criterion].error)}")
        elif not nodes[criterion]:
            problems.append(
                f"select.{number}: {value!r} selects nothing to build in the dbt project {pipeline.project_name!r}. "
                f"Correct or remove it{_suggestion(value, manifest)}"
            )
    if problems:
        return problems
    file = pipeline_file(pipeline)
    setting = "selector" if pipeline.selector else "exclude"
    value = pipeline.selector or list(pipeline.exclude)
    if listings[file].error:
        return [f"{setting}: dbt refuses {value!r}: {_one_line(listings[file].error)}"]
    if not nodes[file] and pipeline.selector:
        return [f"selector: {value!r} selects nothing to build in the dbt project {pipeline.project_name!r}"]
    if not nodes[file] and (pipeline.select or pipeline.exclude):
        return [f"exclude: {value!r} leaves nothing to build (select: {list(pipeline.select)!r})"]
    all_nodes = _nodes(manifest)
    tags = {node: all_nodes[node]["tags"] for node in nodes[file]}
    if audit := sorted(node for node in nodes[file] if {"audit", "audit_view"} & set(tags[node])):
        return [
            f"selector: {value!r} selects {audit[0]} of the audit trail, which has its own task. "
            "Exclude tag:audit and tag:audit_view in selectors.yml"
        ]
    same_names = _same_names(nodes[file])
    if same_names and not _nodes_have_tasks(pipeline, _reduced(manifest, nodes[file])):
        same_names = []
    return _impossible_names(nodes[file]) + same_names


def _nodes_have_tasks(pipeline: Pipeline, selected: Mapping[str, Any]) -> bool:
    """Whether each selected node has its own task, and not a task that it shares with others."""
    if pipeline.is_workflow:
        return pipeline.serverless.tasks == "models"
    return not pipeline_folders(pipeline, selected)


def _unknown_tables(pipeline: Pipeline, manifest: dict[str, Any]) -> list[str]:
    """Return a problem for each table to load whose name is a mistyped source. Other projects can read it, too."""
    sources = {f"{source['schema']}.{source['identifier']}".lower() for source in manifest.get("sources", {}).values()}
    problems = []
    for number, table in enumerate(pipeline.load):
        similar = difflib.get_close_matches(table.table, sources, n=1, cutoff=0.85)
        if similar and table.table not in sources:
            problems.append(
                f"load.{number}.table: {table.table!r} is not a source of the dbt project {pipeline.project_name!r}. "
                f"Did you mean {similar[0]!r}?"
            )
    return problems


def _impossible_names(nodes: Sequence[str]) -> list[str]:
    return [
        f"{node} cannot be a task in Airflow: its name has other characters than ASCII letters, digits, "
        f"'.', '-' and '_', or more than {_LONGEST_NAME} characters. Rename it; the table's name can stay, with alias"
        for node in nodes
        if not node.startswith("test.") and not _TASK_NAME.fullmatch(_task_name(node))
    ]


def _same_names(nodes: Sequence[str]) -> list[str]:
    """Return a problem for each task id that two nodes would have. Cosmos names tasks after nodes, without package."""
    named = [node for node in nodes if not node.startswith("test.")]
    names = Counter(_task_name(node) for node in named)
    return [
        f"{' and '.join(node for node in named if _task_name(node) == name)} would have the same task id in Airflow, "
        f"{name!r}. Rename one, or leave one out with exclude, such as package:NAME"
        for name, count in names.items()
        if count > 1
    ]


def _task_name(node: str) -> str:
    return node.split(".", 2)[2].replace(".", "_")


def _suggestion(value: str, manifest: dict[str, Any]) -> str:
    method, _, word = value.strip("+@").rpartition(":")
    nodes = _nodes(manifest).values()
    tags = {tag for node in nodes for tag in node["tags"]}
    return did_you_mean(word, tags if method == "tag" else {node["name"] for node in nodes})


def _nodes(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all nodes that can have a task, by id."""
    return manifest["nodes"] | manifest.get("functions", {})


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _reduced(manifest: dict[str, Any], selected: Sequence[str]) -> dict[str, Any]:
    """Return a manifest of the selected nodes, with the fields that Cosmos reads."""
    names = set(selected)
    all_nodes = _nodes(manifest)
    parents = {name: node["depends_on"].get("nodes", []) for name, node in all_nodes.items()}
    nodes = {}
    for name in selected:
        node = all_nodes[name]
        upstream = _test_parents if node["resource_type"] == "test" else _selected_ancestors
        nodes[name] = {field: node[field] for field in _FIELDS} | {
            "config": {key: node["config"][key] for key in _CONFIG if key in node["config"]},
            "depends_on": {"nodes": upstream(name, parents, names)},
        }
    return {"metadata": {"project_name": manifest["metadata"]["project_name"]}, "nodes": nodes}


def _test_parents(test: str, parents: Mapping[str, Sequence[str]], selected: Collection[str]) -> list[str]:
    """Return the nodes that a test reads. Cosmos creates a task for a test of several nodes, and for each node's tests.

    A test that reads no selected node, such as a test of a source, would have no task if it reads a single one.
    """
    has_task = any(parent in selected for parent in parents[test])
    return list(parents[test]) if has_task else [*parents[test], _NO_NODE, _NO_NODE]


def _selected_ancestors(name: str, parents: Mapping[str, Sequence[str]], selected: Collection[str]) -> list[str]:
    """Return the nearest selected nodes upstream. dbt keeps the order of nodes with an unselected node between them."""
    visited: set[str] = set()
    pending = list(parents[name])
    while pending:
        parent = pending.pop()
        if parent not in visited:
            visited.add(parent)
            pending += [] if parent in selected else parents.get(parent, [])
    return sorted(visited.intersection(selected))
