"""Reads pipelines.yml. Only `load_pipelines` needs Airflow, so command-line tools use the others, too.

read_pipelines(path)             validates every entry, for the environment that Airflow's option names
read_pipelines_everywhere(path)  the same for each environment of the file
load_pipelines(path)             also finds each pipeline's release and nodes; for DAG files
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mwaa_pipelines.release import Release, current_release
from mwaa_pipelines.schedule_assets import find_unknown_models, schedule_cycles, unknown_assets
from mwaa_pipelines.selection import Selection, find_selection
from mwaa_pipelines.serverless.limits import find_problems
from mwaa_pipelines.settings import (
    ENVIRONMENTS,
    IDENTITY,
    NAME,
    Pipeline,
    PipelineError,
    describe_error,
    did_you_mean,
    unknown_setting,
)
from mwaa_pipelines.yaml_lines import Lines

# Airflow's configuration option dbt.environment: the environment whose settings apply.
ENVIRONMENT = "AIRFLOW__DBT__ENVIRONMENT"

# If two teams shared these, anyone who may run one DAG could reach the other's database.
_EXCLUSIVE_SETTINGS = ("redshift_connection_id", "secret_name")
# Pipelines that share all of these belong to one team.
_SCHEMA_SETTINGS = ("project_name", "target_database", "target_schema", *_EXCLUSIVE_SETTINGS)
_FIRST_AIRFLOW_WITH_DEADLINES = (3, 1)
# Its triggers can end what they wait for when somebody ends the task.
_FIRST_AIRFLOW_WITH_ECS = (3, 3)


@dataclass
class PipelinesFile:
    """The valid entries of a pipelines file, and one message for each problem with the others."""

    pipelines: list[Pipeline] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _EntryError(PipelineError):
    """An entry is invalid. Each problem begins with the setting."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass
class LoadedPipelines:
    """The pipelines that a DAG can be created for, and one message for each problem with the others."""

    pipelines: list[tuple[Pipeline, Release, Selection]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def environments(path: Path) -> list[str]:
    """Return the environments that a pipelines file names; none if it is the same everywhere.

    Raises:
        PipelineError: the whole file is unusable; the message names the file and the reason.
    """
    entries, defaults = _content(path)
    mappings = [part.get(ENVIRONMENTS) for part in (defaults, *entries) if isinstance(part, dict)]
    return list(dict.fromkeys(str(name) for mapping in mappings if isinstance(mapping, dict) for name in mapping))


def read_pipelines_everywhere(path: Path) -> PipelinesFile:
    """Read and validate a pipelines file for each of its environments. A pipeline is in the result for each of them.

    Raises:
        PipelineError: the whole file is unusable; the message names the file and the reason.
    """
    files = {name: read_pipelines(path, environment=name) for name in environments(path) or [None]}
    counts = Counter(problem for file in files.values() for problem in file.problems)
    problems = [
        problem if counts[problem] == len(files) else f"{problem} (environment {name})"
        for name, file in files.items()
        for problem in file.problems
    ]
    pipelines = [pipeline for file in files.values() for pipeline in file.pipelines]
    return PipelinesFile(pipelines, list(dict.fromkeys(problems)))


def read_pipelines(path: Path, airflow_version: str | None = None, environment: str | None = None) -> PipelinesFile:
    """Read and validate a pipelines file. An invalid entry becomes a problem and does not affect other entries.

    Args:
        path: the YAML file.
        environment: the environment whose settings apply; default: that of Airflow's option dbt.environment.
        airflow_version: reject settings that this version of Airflow does not support; None accepts all settings.

    Raises:
        PipelineError: the whole file is unusable; the message names the file and the reason.
    """
    entries, defaults = _content(path)
    environment = environment or os.environ.get(ENVIRONMENT)
    file = PipelinesFile()
    # Number and name of the entry, and what is wrong, beginning with the setting.
    problems: list[tuple[int, str, str]] = []
    unique: dict[str, Pipeline] = {}
    numbers: dict[str, int] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            pipeline = _pipeline(entry, defaults, environment)
        except _EntryError as error:
            problems += [(number, _name(entry, number), problem) for problem in error.problems]
            continue
        if unique.setdefault(pipeline.dag_name, pipeline) is not pipeline:
            text = "dag_name must be unique; another entry uses it already. Only the first one is used"
            problems.append((number, pipeline.dag_name, text))
        numbers.setdefault(pipeline.dag_name, number)
    pipelines = list(unique.values())
    dag_names = {_name(entry, number) for number, entry in enumerate(entries, start=1)}
    projects = {str(entry.get("project_name")) for entry in entries if isinstance(entry, dict)}
    rejected = (
        unknown_assets(pipelines, dag_names, projects)
        | _shared_credentials(pipelines)
        | schedule_cycles(pipelines)
        | _unsupported(pipelines, airflow_version)
    )
    accepted = [pipeline for pipeline in pipelines if pipeline.dag_name not in rejected]
    _set_turns(accepted)
    problems += [(numbers[name], name, reason) for name, reason in rejected.items()]
    refused = _refused_workflows(accepted)
    problems += [(numbers[name], name, reason) for name, reasons in refused.items() for reason in reasons]
    file.pipelines = [pipeline for pipeline in accepted if pipeline.dag_name not in refused]
    if problems:
        lines = Lines(path, environment, ENVIRONMENTS)
        file.problems = [
            f"{path}:{lines.line(number, text)}: pipeline {name}: {text}" for number, name, text in problems
        ]
    return file


def load_pipelines(path: Path, dag_id: str | None = None) -> LoadedPipelines:
    """Read a pipelines file and find the release and the selected nodes of each valid pipeline.

    Args:
        path: the YAML file.
        dag_id: load only this pipeline; None loads all of them.

    Raises:
        PipelineError: the whole file is unusable; the message names the file and the reason.
    """
    # Imported here because command-line tools import this module without Airflow.
    from airflow import __version__

    file = read_pipelines(path, __version__)
    loaded = LoadedPipelines(problems=file.problems)
    for pipeline in file.pipelines:
        if dag_id in {None, pipeline.dag_name} and not pipeline.is_workflow:
            try:
                release = current_release(pipeline.project_name)
                loaded.pipelines.append((pipeline, release, find_selection(release, pipeline)))
            except PipelineError as error:
                loaded.problems.append(f"{path}: pipeline {pipeline.dag_name}: {error}")
    # Any other problem may be the reason why nothing updates an asset. The pipeline keeps its DAG, which waits.
    if dag_id is None and not loaded.problems:
        updated = [(pipeline, selection.public_models) for pipeline, _, selection in loaded.pipelines]
        loaded.problems += [f"{path}: {problem}" for problem in find_unknown_models(updated)]
    return loaded


def _content(path: Path) -> tuple[list[Any], dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing. Create it with one entry for each pipeline") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("pipelines"), list) or not content["pipelines"]:
        raise PipelineError(f"{path} must contain a list under the key 'pipelines', with at least one entry")
    unknown = set(content) - {"defaults", "pipelines"}
    # An empty `defaults:` is None in YAML.
    defaults = content.get("defaults") or {}
    if unknown or not isinstance(defaults, dict):
        raise PipelineError(
            f"{path} can contain only 'defaults' (a mapping) and 'pipelines' (a list), "
            f"but contains {sorted(map(str, content))}"
        )
    if unknown := sorted(map(str, set(defaults) - {*Pipeline.model_fields, ENVIRONMENTS})):
        raise PipelineError(f"{path}: defaults: {'; '.join(map(unknown_setting, unknown))}")
    return content["pipelines"], defaults


def _name(entry: Any, number: int) -> str:
    return str(entry.get("dag_name", f"number {number}")) if isinstance(entry, dict) else f"number {number}"


def _pipeline(entry: Any, defaults: dict[str, Any], environment: str | None) -> Pipeline:
    if not isinstance(entry, dict):
        raise _EntryError(f"must be a mapping of settings, not {entry!r}")
    settings = {**defaults, **entry}
    has_environments = settings.pop(ENVIRONMENTS, None) is not None
    for part in (defaults, entry):
        settings |= _settings_of_environment(part, environment)
    try:
        pipeline = Pipeline.model_validate(settings)
    except ValidationError as error:
        raise _EntryError(*dict.fromkeys(describe_error(detail) for detail in error.errors())) from None
    pipeline._environment = environment if has_environments else None
    return pipeline


def _settings_of_environment(part: dict[str, Any], environment: str | None) -> dict[str, Any]:
    """Return the settings of an entry, or of the defaults, that are for one environment only."""
    if part.get(ENVIRONMENTS) is None:
        return {}
    by_name = part[ENVIRONMENTS]
    # The names are parts of file names.
    if not (isinstance(by_name, dict) and by_name and all(re.fullmatch(NAME, str(name)) for name in by_name)):
        raise _EntryError(
            f"{ENVIRONMENTS}: must be a mapping of names, such as dev, to settings, not {by_name!r}. Names consist of "
            "letters, digits, '_' and '-'"
        )
    names = list(map(str, by_name))
    if environment not in names:
        value = f"is {environment!r}, which is not one of" if environment else "is not set. Set it to one of"
        raise _EntryError(
            f"{ENVIRONMENTS}: Airflow's option dbt.environment (PipelinesEnvironment of infra/environment.yml) {value} "
            f"{', '.join(names)}{did_you_mean(environment or '', names)}"
        )
    settings = list(by_name.values())[names.index(environment)]
    # An environment without settings is None in YAML.
    if not isinstance(settings, dict | None):
        raise _EntryError(f"{ENVIRONMENTS}.{environment}: must be a mapping of settings, not {settings!r}")
    for name in settings or {}:
        if name in IDENTITY:
            raise _EntryError(f"{ENVIRONMENTS}.{environment}.{name}: must be the same in every environment")
    return settings or {}


def _shared_credentials(pipelines: list[Pipeline]) -> dict[str, str]:
    """Reject each pipeline that uses a connection or secret of an earlier pipeline, but not its project and schema."""
    rejected: dict[str, str] = {}
    owners: dict[tuple[str, str], Pipeline] = {}
    for pipeline in pipelines:
        for setting in _EXCLUSIVE_SETTINGS:
            value = getattr(pipeline, setting)
            owner = owners.setdefault((setting, value), pipeline)
            others = [name for name in _SCHEMA_SETTINGS if getattr(owner, name) != getattr(pipeline, name)]
            if value and others:
                rejected[pipeline.dag_name] = (
                    f"{setting}: {value!r} is already used by pipeline {owner.dag_name}. Pipelines can share it if "
                    f"they share the dbt project, database, schema and login, but {', '.join(others)} differ"
                    + ("s" if len(others) == 1 else "")
                )
    for pipeline in pipelines:
        for name, secret in pipeline.secret_env.items():
            owner = owners.get(("secret_name", secret), pipeline)
            if owner.secret_name != pipeline.secret_name:
                rejected[pipeline.dag_name] = f"secret_env.{name}: {secret!r} is the login of pipeline {owner.dag_name}"
    return rejected


def _set_turns(pipelines: list[Pipeline]) -> None:
    """Tell each pipeline which pipelines share its schema, in the order of the file."""
    by_schema: dict[tuple[str, ...], list[Pipeline]] = {}
    for pipeline in pipelines:
        by_schema.setdefault(tuple(getattr(pipeline, name) for name in _SCHEMA_SETTINGS), []).append(pipeline)
    for group in by_schema.values():
        for pipeline in group if len(group) > 1 else []:
            pipeline._turns = tuple(other.dag_name for other in group)


def _refused_workflows(pipelines: list[Pipeline]) -> dict[str, list[str]]:
    """Refuse workflows beyond the limits of Amazon MWAA Serverless, and pipelines that wait for a workflow's asset."""
    workflows = {pipeline.dag_name for pipeline in pipelines if pipeline.is_workflow}
    projects = {pipeline.project_name for pipeline in pipelines if pipeline.is_workflow}
    projects -= {pipeline.project_name for pipeline in pipelines if not pipeline.is_workflow}
    refused = {pipeline.dag_name: find_problems(pipeline) for pipeline in pipelines if pipeline.is_workflow}
    for pipeline in pipelines:
        waits = [name for name in pipeline.assets if name in workflows or name.partition(".")[0] in projects]
        if waits and not pipeline.is_workflow:
            refused[pipeline.dag_name] = [
                f"schedule: nothing updates the asset {waits[0]!r}, because a workflow of MWAA Serverless builds "
                "it. Use a cron expression"
            ]
    return {name: problems for name, problems in refused.items() if problems}


def _unsupported(pipelines: list[Pipeline], airflow_version: str | None) -> dict[str, str]:
    """Reject settings that this version of Airflow would ignore, such as deadlines: nobody would get the alert."""
    if not airflow_version:
        return {}
    version = tuple(map(int, airflow_version.split(".")[:2]))
    rejected = {}
    for pipeline in pipelines:
        if pipeline.deadline_minutes and version < _FIRST_AIRFLOW_WITH_DEADLINES:
            rejected[pipeline.dag_name] = (
                "deadline_minutes: needs Airflow 3.1 or newer, but this is Airflow "
                f"{airflow_version}. Remove the setting"
            )
        elif pipeline.execution_mode == "ecs" and version < _FIRST_AIRFLOW_WITH_ECS:
            rejected[pipeline.dag_name] = (
                f"execution_mode: ecs needs Airflow 3.3 or newer, but this is Airflow {airflow_version}. Use watcher"
            )
    return rejected
