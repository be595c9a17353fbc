"""Data products: the public models of the projects in a repository, and what other projects read.

A project reads a model of another project as a source. Which source is which model follows from its relation.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mwaa_pipelines.schedule_assets import find_unknown_models
from mwaa_pipelines.selection import model_asset, pipeline_file
from mwaa_pipelines.settings import Pipeline
from mwaa_release.run_dbt import Listing
from mwaa_release.selections import public_models

_BUILT = {"model", "seed", "snapshot"}


@dataclass(frozen=True)
class ParsedProject:
    """A dbt project of the repository.

    Args:
        manifest: dbt's manifest.
        pipelines: those of the project, in each environment.
        listings: the nodes that dbt listed for `selections.list_arguments`; not needed to find breaking changes.
    """

    manifest: Mapping[str, Any]
    pipelines: Collection[Pipeline]
    listings: Mapping[str, Listing]

    @property
    def name(self) -> str:
        """The name of the project."""
        return self.manifest["metadata"]["project_name"]

    def relations(self) -> "Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]":
        """Yield each relation that the pipelines build from the project's own files, with its node."""
        for node in self.manifest["nodes"].values():
            if node["package_name"] != self.name or node["resource_type"] not in _BUILT:
                continue
            yield _relation(node["database"], node["schema"], node["alias"]), node
            if not node["config"].get("schema"):
                # The profile in the repository can differ from that of Airflow.
                for pipeline in self.pipelines:
                    yield _relation(pipeline.target_database, pipeline.target_schema, node["alias"]), node

    def public_models(self) -> set[str]:
        """Return the assets of the project's public models, whether or not a pipeline builds them."""
        return set(public_models(self.manifest, self.manifest["nodes"]))


@dataclass(frozen=True)
class Read:
    """A source of one project that is a model, seed or snapshot of another one."""

    project: ParsedProject
    source: Mapping[str, Any]
    node: Mapping[str, Any]

    @property
    def reader(self) -> str:
        """The models that read the source, and the pipelines of their project."""
        nodes = self.project.manifest["nodes"].values()
        models = [
            model_asset(node["unique_id"])
            for node in nodes
            if node["resource_type"] in _BUILT and self.source["unique_id"] in node["depends_on"].get("nodes", [])
        ]
        return f"{', '.join(models) or self.source['unique_id']} ({_names(self.project.pipelines) or 'no pipeline'})"


def find_product_problems(projects: Collection[ParsedProject], pipelines_file: Path) -> list[str]:
    """Return a message for each read of a model that is not public, and each schedule with a model that is not."""
    problems = [
        f"project {read.project.name}: {read.source['original_file_path']}: the source {read.source['source_name']}."
        f"{read.source['name']} is {model_asset(read.node['unique_id'])}, which is not public, so its owner "
        f"{owner(read.node)} can change it at any time. Read a public model, or ask for `access: public`"
        for read in find_reads(projects, projects)
        if read.node.get("access") != "public"
    ]
    updated = (
        (pipeline, public_models(project.manifest, project.listings[pipeline_file(pipeline)].nodes))
        for project in projects
        for pipeline in project.pipelines
    )
    return problems + [f"{pipelines_file}: {problem}" for problem in find_unknown_models(updated)]


def find_breaking_changes(before: Collection[ParsedProject], after: Collection[ParsedProject]) -> list[str]:
    """Return a message for each public model that breaks its contract, with its consumers in the repository.

    dbt's own check, `state:modified.contract`, only warns about models without versions, and knows no consumers.

    Args:
        before: the projects that the change starts from.
        after: the changed projects.
    """
    nodes = {name: node for project in after for name, node in project.manifest["nodes"].items()}
    reads = find_reads(after, before)
    problems = []
    for project in before:
        for asset in sorted(project.public_models()):
            node = project.manifest["nodes"][f"model.{asset}"]
            if _is_deprecated(node) or not (changes := _breaking_changes(node, nodes.get(node["unique_id"]))):
                continue
            problems.append(
                f"{asset}: {'; '.join(changes)}. Consumers: "
                f"{', '.join(find_consumers(node, reads, after)) or 'none in this repository'}. Keep the contract, and "
                "add a version of the model; or set its deprecation_date, and change it after that day"
            )
    return problems


def find_consumers(node: Mapping[str, Any], reads: Iterable[Read], projects: Collection[ParsedProject]) -> list[str]:
    """Return the models, schedules and exposures that rely on a public model.

    Args:
        node: the model.
        reads: from `find_reads`.
        projects: all projects of the repository.
    """
    asset = model_asset(node["unique_id"])
    pipelines = [pipeline for project in projects for pipeline in project.pipelines if asset in pipeline.assets]
    exposures = [exposure for project in projects for exposure in project.manifest["exposures"].values()]
    consumers = [read.reader for read in reads if read.node is node]
    consumers += [f"schedule of {pipeline.dag_name}" for pipeline in pipelines]
    consumers += [
        f"exposure {exposure['name']}" for exposure in exposures if node["unique_id"] in exposure["depends_on"]["nodes"]
    ]
    # A pipeline is there once for each environment.
    return list(dict.fromkeys(consumers))


def find_reads(readers: Iterable[ParsedProject], builders: Iterable[ParsedProject]) -> list[Read]:
    """Return the sources of the readers that another project builds."""
    nodes = {relation: (project.name, node) for project in builders for relation, node in project.relations()}
    return [
        Read(project, source, model[1])
        for project in readers
        for source in project.manifest["sources"].values()
        if (model := nodes.get(_relation(source["database"], source["schema"], source["identifier"])))
        and model[0] != project.name
    ]


def _relation(*parts: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in parts)


def owner(node: Mapping[str, Any]) -> str:
    """Return the group of a model, or the owner in its meta."""
    return node["config"].get("group") or node["config"].get("meta", {}).get("owner") or "(unknown)"


def _breaking_changes(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> list[str]:
    if after is None:
        return ["the model was removed, renamed or disabled"]
    changes = [] if after["access"] == "public" else ["it is not public anymore"]
    if not before["config"]["contract"]["enforced"]:
        return changes
    if not after["config"]["contract"]["enforced"]:
        return [*changes, "its contract is not enforced anymore"]
    for name, column in before["columns"].items():
        changed = after["columns"].get(name)
        if changed is None:
            changes.append(f"column {name} was removed")
        elif _type(changed) != _type(column):
            changes.append(f"column {name} was {column['data_type']}, and is {changed['data_type']} now")
        elif is_not_null(column) and not is_not_null(changed):
            changes.append(f"column {name} can be null now")
    return changes


def _type(column: Mapping[str, Any]) -> str:
    # Size and precision do not belong to dbt's contracts.
    return str(column["data_type"]).partition("(")[0].strip().lower()


def is_not_null(column: Mapping[str, Any]) -> bool:
    """Whether the contract of a model allows no null in a column."""
    return any(constraint["type"] == "not_null" for constraint in column["constraints"])


def _is_deprecated(node: Mapping[str, Any]) -> bool:
    date = node.get("deprecation_date")
    return bool(date) and datetime.fromisoformat(date).astimezone() < datetime.now().astimezone()


def _names(pipelines: Iterable[Pipeline]) -> str:
    return ", ".join(dict.fromkeys(pipeline.dag_name for pipeline in pipelines))
