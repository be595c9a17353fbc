"""Reads pipelines.yml: the pipelines that can be made, each with its release, and what is wrong with the others."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from airflow import __version__
from pydantic import ValidationError

from mwaa_pipelines.compatibility import DeadlineAlert
from mwaa_pipelines.release import Release, current_release
from mwaa_pipelines.settings import Pipeline, PipelineError, problem

# Settings that are one pipeline's own: who runs another's DAG must not get at its database.
_OWN = ("redshift_connection_id", "secret_name")


@dataclass
class Listing:
    """The entries of a pipelines file."""

    pipelines: list[tuple[Pipeline, Release]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_pipelines(path: Path, only: str | None = None) -> Listing:
    """Read and validate a pipelines file; an entry that does not fit spoils none but itself.

    Args:
        path: the YAML file.
        only: the one pipeline that is asked for, by dag_name; for None, all.

    Raises:
        PipelineError: the file as a whole is unusable; the text names it and says why.
    """
    entries, defaults = _content(path)
    listing = Listing()
    valid: list[Pipeline] = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("dag_name", f"number {number}") if isinstance(entry, dict) else f"number {number}"
        try:
            valid.append(_pipeline(entry, defaults))
        except PipelineError as error:
            listing.problems.append(f"{path}: pipeline {name}: {error}")
    refused = _twice(entries) | _taken(valid) | _cyclic(valid) | _too_new(valid)
    for pipeline in valid:
        if only not in {None, pipeline.dag_name}:
            continue
        reason = refused.get(pipeline.dag_name)
        if reason is None:
            try:
                listing.pipelines.append((pipeline, current_release(pipeline.project_name)))
            except PipelineError as error:
                reason = str(error)
        if reason is not None:
            listing.problems.append(f"{path}: pipeline {pipeline.dag_name}: {reason}")
    # Two entries of one name have one and the same problem.
    listing.problems = list(dict.fromkeys(listing.problems))
    return listing


def _content(path: Path) -> tuple[list[Any], dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; it lists the pipelines") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("pipelines"), list) or not content["pipelines"]:
        raise PipelineError(f"{path} must hold a list under the key 'pipelines', with one entry or more")
    unknown = sorted(map(str, set(content) - {"defaults", "pipelines"}))
    defaults = content.get("defaults") or {}
    if unknown or not isinstance(defaults, dict):
        raise PipelineError(
            f"{path} may hold 'defaults' (a mapping) and 'pipelines' (a list) only; found {sorted(map(str, content))}"
        )
    if unknown := sorted(map(str, set(defaults) - set(Pipeline.model_fields))):
        raise PipelineError(
            f"{path}: defaults: there is no setting {', '.join(unknown)}; there are {', '.join(Pipeline.model_fields)}"
        )
    return content["pipelines"], defaults


def _pipeline(entry: Any, defaults: dict[str, Any]) -> Pipeline:
    if not isinstance(entry, dict):
        raise PipelineError(f"must be a mapping of settings, not {entry!r}")
    try:
        return Pipeline.model_validate({**defaults, **entry})
    except ValidationError as error:
        raise PipelineError("; ".join(dict.fromkeys(problem(detail) for detail in error.errors()))) from None


def _twice(entries: list[Any]) -> dict[str, str]:
    """Which of two entries is meant, nobody can tell: neither is made."""
    names = [
        entry["dag_name"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("dag_name"), str)
    ]
    return {
        name: "dag_name must be unique; this one stands there more than once" for name in names if names.count(name) > 1
    }


def _taken(pipelines: list[Pipeline]) -> dict[str, str]:
    """A connection or a secret is that of the first pipeline that names it."""
    found: dict[str, str] = {}
    owners: dict[tuple[str, str], str] = {}
    for pipeline in pipelines:
        for setting in _OWN:
            value = getattr(pipeline, setting)
            owner = owners.setdefault((setting, value), pipeline.dag_name)
            if value and owner != pipeline.dag_name:
                found[pipeline.dag_name] = f"{setting}: {value!r} is that of the pipeline {owner}; give each its own"
    return found


def _too_new(pipelines: list[Pipeline]) -> dict[str, str]:
    """Who asks to be told of late runs must not wait for an alert that never comes."""
    said = f"deadline_minutes: needs Airflow 3.1 or newer, and this is {__version__}; leave it out"
    return {pipeline.dag_name: said for pipeline in pipelines if pipeline.deadline_minutes and not DeadlineAlert}


def _cyclic(pipelines: list[Pipeline]) -> dict[str, str]:
    """Pipelines that wait for each other's assets would never run, or never stop."""
    waits_for = {pipeline.dag_name: pipeline.schedule for pipeline in pipelines if isinstance(pipeline.schedule, tuple)}
    found = {}
    for start in waits_for:
        # Ways from an asset to the pipelines that it waits for, the shortest first.
        ways = [(start,)]
        seen: set[str] = set()
        while ways and start not in found:
            way = ways.pop(0)
            for name in waits_for.get(way[-1], ()):
                if name == start:
                    found[start] = f"schedule: is a cycle of assets: {' waits for '.join([*way, start])}"
                elif name not in seen:
                    seen.add(name)
                    ways.append((*way, name))
    return found
