"""Whether something updates the assets that a pipeline waits for."""

from collections.abc import Collection, Iterable

from mwaa_pipelines.setting_types import EXTERNAL
from mwaa_pipelines.settings import Pipeline, did_you_mean


def unknown_assets(pipelines: list[Pipeline], dag_names: Collection[str], projects: Collection[str]) -> dict[str, str]:
    """Reject pipelines that wait for an asset that nothing updates: they would never run.

    Public models are known only when the projects have been parsed: see `find_unknown_models`.
    """
    return {
        pipeline.dag_name: f"schedule: {name!r} is not a pipeline of this file. For an asset of other DAGs, write "
        f"{EXTERNAL}{name}{did_you_mean(name, dag_names) or did_you_mean(_project(name), projects)}"
        for pipeline in pipelines
        if pipeline.scheduled_on_assets
        for name in pipeline.schedule
        if not name.startswith(EXTERNAL) and name not in dag_names and _project(name) not in projects
    }


def _project(asset: str) -> str:
    """Return the dbt project of a public model's asset; nothing for the name of a pipeline."""
    project, dot, _ = asset.partition(".")
    return project if dot and not asset.startswith(EXTERNAL) else ""


def schedule_cycles(pipelines: list[Pipeline]) -> dict[str, str]:
    """Reject pipelines that wait for each other's assets: they would never run, or never stop."""
    waits_for = {
        pipeline.dag_name: [part for name in pipeline.schedule for part in (name, *_builders(name, pipelines))]
        for pipeline in pipelines
        if pipeline.scheduled_on_assets
    }
    rejected = {}
    for start in waits_for:
        # Breadth-first, so that the message shows the shortest cycle.
        paths = [(start,)]
        visited: set[str] = set()
        while paths and start not in rejected:
            path = paths.pop(0)
            for name in waits_for.get(path[-1], ()):
                if name == start:
                    rejected[start] = f"schedule: the assets form a cycle: {' waits for '.join([*path, start])}"
                elif name not in visited:
                    visited.add(name)
                    paths.append((*path, name))
    return rejected


def _builders(asset: str, pipelines: list[Pipeline]) -> list[str]:
    """Return the pipeline that updates the asset of a public model; none if several could."""
    builders = [pipeline.dag_name for pipeline in pipelines if pipeline.project_name == _project(asset)]
    return builders if len(builders) == 1 else []


def find_unknown_models(updated: Iterable[tuple[Pipeline, Iterable[str]]]) -> list[str]:
    """Return a message for each pipeline that waits for a model that no pipeline of the model's project updates.

    Args:
        updated: each pipeline with the assets of the public models that it builds. Models of other projects than
            those of these pipelines are not checked.
    """
    updated = list(updated)
    projects = {pipeline.project_name for pipeline, _ in updated}
    models = {name for _, names in updated for name in names}
    known = models | {pipeline.dag_name for pipeline, _ in updated}
    problems = (
        f"pipeline {pipeline.dag_name}: schedule: {name!r} is not a public model that a pipeline of the dbt project "
        f"{_project(name)!r} builds. Set `access: public` in the config of the model{did_you_mean(name, models)}"
        for pipeline, _ in updated
        if pipeline.scheduled_on_assets
        for name in pipeline.schedule
        if _project(name) in projects and name not in known
    )
    # Environments can have the same problem.
    return list(dict.fromkeys(problems))
