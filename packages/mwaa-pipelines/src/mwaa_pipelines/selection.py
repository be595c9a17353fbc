"""The nodes of a pipeline's task groups. dbt resolves the selectors when a release is built; the release contains them.

Cosmos does not know all of dbt's selectors, and reads some of them differently. So each file of a release's
`selections/` is a manifest with the selected nodes only, from which Cosmos creates a task group without selectors.
`selection` in a pipeline's file has the arguments that dbt resolved, for the dbt process that builds the nodes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mwaa_pipelines.folders import Folder, folders_of
from mwaa_pipelines.release import Release
from mwaa_pipelines.settings import Pipeline, PipelineError

# The audit group builds the first tag. Its first task also builds the second one.
AUDIT_SELECTOR = "tag:audit"
AUDIT_NODES = (AUDIT_SELECTOR, "tag:audit_view")

_FOLDER = "selections"
AUDIT_FILE = f"{_FOLDER}/audit.json"
# For a pipeline without selectors that is newer than the release.
EVERYTHING_FILE = f"{_FOLDER}/everything.json"


@dataclass(frozen=True)
class Selection:
    """The manifest of a pipeline's nodes, and the arguments with which dbt builds the same nodes.

    Each of the public models is an asset with the model's name, such as shop.orders. `sources` are dbt selectors of
    the sources that the nodes read and that have a freshness. `folders` are the tasks of a large project.
    """

    manifest_path: Path
    select: tuple[str, ...]
    exclude: tuple[str, ...]
    selector: str | None
    public_models: tuple[str, ...]
    sources: tuple[str, ...] = ()
    folders: tuple[Folder, ...] = ()


def pipeline_file(pipeline: Pipeline) -> str:
    """Return the path, in a release, of the manifest with a pipeline's nodes in its environment."""
    # Names of pipelines have no @.
    environment = f"@{pipeline.environment}" if pipeline.environment else ""
    return f"{_FOLDER}/pipelines/{pipeline.dag_name}{environment}.json"


def dbt_selection(pipeline: Pipeline | None = None) -> dict[str, Any]:
    """Return dbt's arguments select, exclude and selector for a pipeline; None: for one without selectors."""
    if pipeline and pipeline.selector:
        # dbt ignores the other arguments beside a selector.
        return {"select": [], "exclude": [], "selector": pipeline.selector}
    select, exclude = (list(pipeline.select), list(pipeline.exclude)) if pipeline else ([], [])
    return {"select": select, "exclude": [*AUDIT_NODES, *exclude], "selector": None}


def find_selection(release: Release, pipeline: Pipeline) -> Selection:
    """Return a pipeline's selection in a release. It is the release's own, so a rollback also restores selectors.

    Raises:
        PipelineError: the release was built before the pipeline was added.
    """
    has_selectors = bool(pipeline.select or pipeline.exclude or pipeline.selector)
    names = [pipeline_file(pipeline)] + ([] if has_selectors else [EVERYTHING_FILE])
    path = next((release.path / name for name in names if (release.path / name).is_file()), None)
    if path is None:
        raise PipelineError(
            f"the release {release.release_id} of the dbt project {pipeline.project_name!r} does not contain the nodes "
            "of this pipeline. dbt resolves its selectors when a release is built: python -m mwaa_release build, then "
            "apply"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    arguments = content["selection"]
    return Selection(
        path,
        tuple(arguments["select"]),
        tuple(arguments["exclude"]),
        arguments["selector"],
        # Earlier releases have none.
        tuple(content.get("public_models", ())),
        tuple(content.get("measured_sources", ())),
        pipeline_folders(pipeline, content),
    )


def pipeline_folders(pipeline: Pipeline, content: Mapping[str, Any]) -> tuple[Folder, ...]:
    """Return the folders of a pipeline with the nodes of a manifest; none if each node has its own task."""
    if pipeline.execution_mode not in ("watcher", "ecs"):
        return ()
    with_tests = pipeline.test_behavior != "none"
    return folders_of(content["nodes"], content["metadata"]["project_name"], with_tests=with_tests)


def model_asset(unique_id: str) -> str:
    """Return the name of a model's asset: project and model, such as shop.orders."""
    return unique_id.removeprefix("model.")


def exact_selector(node: Any) -> str:
    """Return a dbt selector that matches only this node, which has `fqn`, `package_name` and so on as in a manifest.

    `fqn:` alone also matches everything in a folder with the node's name, and nodes of other packages. `path:` does not
    match the files of packages.
    """
    resource_type = getattr(node.resource_type, "value", node.resource_type)
    return ",".join(
        (
            f"fqn:{_plain('.'.join(node.fqn))}",
            f"package:{node.package_name}",
            f"resource_type:{resource_type}",
            f"file:{_plain(PurePosixPath(node.original_file_path).name)}",
        )
    )


def _plain(text: str) -> str:
    """Replace characters with a meaning in selectors, such as the space of a folder's name, by dbt's wildcard."""
    return re.sub(r"[^\w.\-]", "?", text)
