"""The commands build, test-models, show, compile and docs."""

import contextlib
import shutil
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redshift_connector
from rich.syntax import Syntax

from mwaa_local.command import STARTED
from mwaa_local.query import show_rows
from mwaa_local.settings import Settings
from mwaa_release.progress import console, errors
from workbench.build import Builder
from workbench.choose_project import NoModelError, NoTestError, all_projects, name_of
from workbench.explain import near
from workbench.problems import Problem, ProjectError
from workbench.project import BUILT, FAILED, SCHEMA, Project
from workbench.relations import existing_relations
from workbench.terminal import show_misspelt_keys
from workbench.warehouse import make_schemas, warehouse

PROJECT_FAILED = 1
# All nodes of the project, without those of its packages.
_OWN_NODES = "package:this"
# Of the models that are listed in a message.
_MOST_NAMES = 5
# Words for dbt's statuses of a source.
_FRESHNESS = {"pass": "fresh", "warn": "late", "error": "stale", "runtime error": "not measured"}


@contextlib.contextmanager
def project(settings: Settings, folder: Path) -> Iterator[tuple[Project, redshift_connector.Connection]]:
    """Yield the parsed project and a connection to the local warehouse."""
    with warehouse(settings) as connection:
        yield open_project(settings, folder), connection


def open_project(settings: Settings, folder: Path) -> Project:
    """Return the parsed project, which builds in a schema of its own."""
    is_another = folder in all_projects()[1:]
    schema = f"{SCHEMA}_{name_of(folder)}" if is_another else SCHEMA
    dbt_project = Project(folder, settings, settings.state / "develop" / folder.name, schema)
    with console.status(f"Reading {folder.name} ..."):
        dbt_project.parse()
    return dbt_project


def build(settings: Settings, models: str, folder: Path, full_refresh: bool = False) -> int:
    """Build models with their tests, show the changed rows, and return the exit code."""
    with project(settings, folder) as (dbt_project, _):
        show_misspelt_keys(dbt_project.misspelt_keys)
        ids = selected(dbt_project, models or _OWN_NODES)
        return PROJECT_FAILED if Builder(dbt_project, settings).build(ids, full_refresh, STARTED) else 0


def check(settings: Settings, models: str, folder: Path) -> int:
    """Run the tests and unit tests of models, and return the exit code."""
    with project(settings, folder) as (dbt_project, _):
        ids = [
            unique_id
            for unique_id in selected(dbt_project, models or _OWN_NODES)
            if dbt_project.kind(unique_id) not in BUILT
        ]
        if not ids:
            raise NoTestError(Problem(f"{models} has no tests", hint="add some under data_tests in its YAML"))
        return PROJECT_FAILED if Builder(dbt_project, settings).build(ids, started=STARTED) else 0


def show(settings: Settings, model: str, rows: int, folder: Path) -> int:
    """Print the first rows of a model's current SQL, and return the exit code."""
    with project(settings, folder) as (dbt_project, connection):
        if _build_missing_parents(dbt_project, connection, settings, model):
            raise ProjectError(Problem(f"{model} reads a model that failed", hint="correct that model first"))
        table = dbt_project.show(model, rows)
        show_rows(list(table.column_names), [tuple(row) for row in table.rows])
        if not table.rows:
            errors.print(f"{model} has no rows.", markup=False)
        return 0


def compile_model(settings: Settings, model: str, folder: Path) -> int:
    """Print the compiled SQL of a model, and return the exit code."""
    with project(settings, folder) as (dbt_project, connection):
        _build_missing_parents(dbt_project, connection, settings, model)
        sql = dbt_project.compile(model)
        if console.is_terminal:
            console.print(Syntax(sql, "postgresql", word_wrap=True, background_color="default"))
        else:
            print(sql)
        return 0


def docs(settings: Settings, output: Path, folder: Path) -> int:
    """Write dbt's documentation as one HTML file, print its path, and return the exit code."""
    with project(settings, folder) as (dbt_project, _), console.status("Writing the documentation ..."):
        make_schemas(settings, dbt_project.schemas(), dbt_project.source_schemas())
        shutil.copyfile(dbt_project.docs(), output)
    print(output)
    if console.is_terminal:
        webbrowser.open(output.as_uri())
    return 0


def freshness(settings: Settings, folder: Path) -> int:
    """Measure the freshness of the sources on the local warehouse, print it, and return the exit code."""
    with project(settings, folder) as (dbt_project, _):
        make_schemas(settings, [], dbt_project.source_schemas())
        results = dbt_project.freshness()
    if not results:
        raise ProjectError(Problem("no source has a freshness", hint="set freshness and loaded_at_field in its YAML"))
    show_rows(["source", "freshness", "newest row (UTC)", "hours old", "message"], sorted(map(_freshness_row, results)))
    return PROJECT_FAILED if any(result.status in FAILED for result in results) else 0


def _freshness_row(result: Any) -> tuple[str, ...]:
    name, word = f"{result.node.source_name}.{result.node.name}", _FRESHNESS.get(result.status, result.status)
    newest = getattr(result, "max_loaded_at", None)
    if newest is None:
        # The last line of dbt's message is the warehouse's error.
        return name, word, "", "", (result.message or "").split("\n")[-1].strip()
    # dbt's value for a table without rows.
    if newest.year == 1:
        return name, word, "", "", f"no row has a {result.node.loaded_at_field}"
    return name, word, f"{newest:%Y-%m-%d %H:%M}", f"{result.age / 3600:.1f}", ""


def _build_missing_parents(
    dbt_project: Project, connection: redshift_connector.Connection, settings: Settings, model: str
) -> set[str]:
    """Build the parents of a model that are not in the warehouse, and return those that failed."""
    ids = [unique_id for unique_id in selected(dbt_project, model) if dbt_project.kind(unique_id) == "model"]
    if len(ids) != 1:
        raise ProjectError(_not_one_model(dbt_project, model, ids))
    if missing := dbt_project.missing(ids, existing_relations(connection, dbt_project.schemas())):
        return Builder(dbt_project, settings).build(missing)
    return set()


def _not_one_model(dbt_project: Project, selectors: str, models: Sequence[str]) -> Problem:
    if models:
        names = ", ".join(dbt_project.node_name(unique_id) for unique_id in models[:_MOST_NAMES])
        names += ", …" if len(models) > _MOST_NAMES else ""
        return Problem(f"{selectors} matches {len(models)} models: {names}", hint="give the name of one model")
    first = selected(dbt_project, selectors)[0]
    kind = dbt_project.kind(first).replace("_", " ")
    if relation := dbt_project.relation(first):
        query = f"select * from {relation.schema}.{relation.name} limit 10"  # noqa: S608 - shown, not run
        hint = f'build it, then read its table: make sql Q="{query}"'
    else:
        hint = f"give the name of a model; run the {kind} with: make test-models M={selectors}"
    return Problem(f"{selectors} is a {kind}, not a model", hint=hint)


def selected(dbt_project: Project, models: str) -> list[str]:
    """Return the ids of the nodes that match dbt selectors, separated by spaces, and can be built or tested.

    Raises:
        ProjectError: no node matches, or no selector is given.
    """
    if not models.strip():
        example = next(iter(dbt_project.names()), "<model>")
        raise ProjectError(Problem("no model is given", hint=f"name one, for example: M={example}"))
    ids = [unique_id for unique_id in dbt_project.select(*models.split()) if dbt_project.can_run(unique_id)]
    name = models.strip("+@")
    if not ids and name in dbt_project.names():
        hint = "its config, or its folder in dbt_project.yml, has enabled: false"
        raise NoModelError(Problem(f"{name} is disabled", hint=hint))
    if not ids:
        raise NoModelError(Problem(f"there is no model {models}", hint=near(name, dbt_project.names())))
    return ids
