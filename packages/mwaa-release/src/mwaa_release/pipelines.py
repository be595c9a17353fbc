"""Reads `dags/pipelines.yml` for commands that run without Airflow.

If the file has settings for environments, a command uses those of the variable AIRFLOW__DBT__ENVIRONMENT, or of the
file's first environment. Building a release reads all of them.
"""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from mwaa_pipelines.config_file import (
    ENVIRONMENT,
    PipelinesFile,
    environments,
    read_pipelines,
    read_pipelines_everywhere,
)
from mwaa_pipelines.settings import Pipeline, PipelineError, did_you_mean
from mwaa_release.errors import BuildError, SetupError
from mwaa_release.manifest import project_name
from mwaa_release.repository import REPOSITORY

PIPELINES = REPOSITORY / "dags" / "pipelines.yml"


def find_pipeline(dag_name: str | None = None, path: Path = PIPELINES, environment: str | None = None) -> Pipeline:
    """Return one pipeline's entry.

    Args:
        dag_name: the pipeline; None: the only one in the file.
        path: the pipelines file.
        environment: the environment whose settings apply.

    Raises:
        SetupError: there is no such entry, it is invalid, or there are several and none was named.
    """
    file = _read(path, environment)
    names = [pipeline.dag_name for pipeline in file.pipelines]
    if not dag_name and len(names) > 1:
        raise SetupError(f"{path} has several pipelines: {', '.join(names)}. Name one of them with --dag")
    for pipeline in file.pipelines:
        if dag_name in (None, "", pipeline.dag_name):
            return pipeline
    problems = [problem for problem in file.problems if not dag_name or f": pipeline {dag_name}: " in problem]
    name = dag_name or ""
    missing = f"{path} has no pipeline {name!r}. Its pipelines: {', '.join(names) or 'none'}{did_you_mean(name, names)}"
    raise SetupError("\n".join(problems) or missing)


def pipeline_with_secret(dag_name: str | None = None, path: Path = PIPELINES) -> Pipeline:
    """Return one pipeline's entry, which has a secret_name.

    Raises:
        SetupError: as `find_pipeline`; or the entry has no secret_name.
    """
    pipeline = find_pipeline(dag_name, path)
    if not pipeline.secret_name:
        raise SetupError(
            f"{path}: pipeline {pipeline.dag_name} has no secret_name. It names the database user's secret"
        )
    return pipeline


def first_pipeline(path: Path = PIPELINES) -> Pipeline:
    """Return the first valid entry.

    Raises:
        SetupError: no entry is valid; the text says why.
    """
    return all_pipelines(path)[0]


def all_pipelines(path: Path = PIPELINES) -> list[Pipeline]:
    """Return the valid entries, of which there is at least one.

    Raises:
        SetupError: no entry is valid; the text says why.
    """
    file = _read(path)
    if not file.pipelines:
        raise SetupError("\n".join(file.problems))
    return file.pipelines


def pipelines_by_project(path: Path, projects: Collection[str], complete: bool) -> dict[str, list[Pipeline]]:
    """Return the entries for each project of a repository, in each environment.

    Args:
        path: the pipelines file. Without it, no project has a pipeline.
        projects: names of dbt projects.
        complete: whether these are all the projects of the repository, so that an entry for another one is a mistake.

    Raises:
        BuildError: an entry is invalid, or its project does not exist. The message has one line for each problem.
    """
    by_project: dict[str, list[Pipeline]] = {name: [] for name in projects}
    if not path.is_file():
        return by_project
    try:
        file = read_pipelines_everywhere(path)
    except PipelineError as error:
        raise SetupError(str(error)) from None
    problems = list(file.problems)
    for pipeline in file.pipelines:
        if pipeline.project_name in by_project:
            by_project[pipeline.project_name].append(pipeline)
        elif complete:
            problems.append(
                f"{path}: pipeline {pipeline.dag_name}: project_name: the repository has no dbt project "
                f"{pipeline.project_name!r}{did_you_mean(pipeline.project_name, projects)}"
            )
    if problems:
        raise BuildError("\n".join(dict.fromkeys(problems)))
    return by_project


def dbt_environment(pipelines: Iterable[Pipeline]) -> dict[str, str]:
    """Return the variables that dbt needs to parse a project: `env` of its pipelines. The first one decides.

    Those of `secret_env` have no value here, because nothing that dbt parses can depend on a secret.
    """
    environment: dict[str, str] = {}
    for pipeline in pipelines:
        environment = {**dict.fromkeys(pipeline.secret_env, "not-set"), **pipeline.env, **environment}
    return environment


def project_environment(project: Path, path: Path = PIPELINES) -> dict[str, str]:
    """Return `dbt_environment` of a project in this repository, without secrets that this process has already.

    If the pipelines file is unusable, there is nothing to return.
    """
    try:
        name = project_name(project)
        pipelines = [entry for entry in _read(path).pipelines if entry.project_name == name]
    except (BuildError, SetupError):
        return {}
    secrets = {variable for entry in pipelines for variable in entry.secret_env}
    return {
        variable: value
        for variable, value in dbt_environment(pipelines).items()
        if variable not in secrets or variable not in os.environ
    }


def _read(path: Path, environment: str | None = None) -> PipelinesFile:
    try:
        environment = environment or os.environ.get(ENVIRONMENT) or next(iter(environments(path)), None)
        return read_pipelines(path, environment=environment)
    except PipelineError as error:
        raise SetupError(str(error)) from None
