"""The catalog of data products: a page of the site about the public models of all projects, written by `make site`."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import redshift_connector

from audit_report import source
from audit_report.redshift import WarehouseError, named_warehouse
from audit_report.redshift import connect as connect_to_named
from mwaa_local.settings import Passwords, Settings, SetupError
from mwaa_local.stack import connect
from mwaa_release.build import find_projects
from mwaa_release.manifest import build_manifest, install_packages, project_name
from mwaa_release.pipelines import PIPELINES, dbt_environment, pipelines_by_project
from mwaa_release.products import ParsedProject, find_consumers, find_reads, is_not_null, owner
from workbench.reference import markdown_table, one_line

# Rows of the audit views by their name, as `audit_report.source.read` returns them.
History = Mapping[str, list[dict[str, Any]]]

_INTRODUCTION = """\
<!-- Written by make site from the dbt projects and the audit trail; change those, not this page. -->

# Data products

The public models of this repository. [Other domains can read them](../how-to/data-products.md). Quality is the share
of the model's test results that passed. Times and quality come from the audit trail; a dash means that `make site` did
not reach it, or that there is no result.

"""
_UNKNOWN = "-"


def catalog(settings: Settings) -> str:
    """Return the page for the projects of this repository.

    Raises:
        BuildError: dbt cannot parse a project, or pipelines.yml has a mistake.
        SetupError: dbt is not installed.
        WarehouseError: REDSHIFT_* names a warehouse that does not answer.
    """
    folders = {project_name(folder): folder for folder in find_projects()}
    pipelines = pipelines_by_project(PIPELINES, folders, complete=True)
    projects = [_parsed(folder, pipelines[name]) for name, folder in folders.items()]
    return page(projects, _histories(settings, projects))


def page(projects: Collection[ParsedProject], histories: Mapping[str, History]) -> str:
    """Return the page as Markdown.

    Args:
        projects: all projects of the repository.
        histories: by project; one without history has none here.
    """
    reads = find_reads(projects, projects)
    rows, details = [], []
    for project in projects:
        history = histories.get(project.name, {"marts": [], "tests": []})
        for asset in sorted(project.public_models()):
            node = project.manifest["nodes"][f"model.{asset}"]
            consumers = "; ".join(find_consumers(node, reads, projects)) or _UNKNOWN
            built, quality = _built_at(node, history), _quality(node, project, history)
            link = f"[{asset}](#{asset.replace('.', '')})"
            rows.append((link, owner(node), _schedules(project), built, quality, consumers))
            details.append(f"\n## {asset}\n\n{one_line(node['description'])}\n\n{_contract(node)}")
    if not rows:
        return f"{_INTRODUCTION}No model is public yet.\n"
    headings = ("product", "owner", "schedule", "last built (UTC)", "quality", "consumers")
    return _INTRODUCTION + markdown_table(headings, rows) + "".join(details)


def _parsed(folder: Path, pipelines: Collection[Any]) -> ParsedProject:
    install_packages(folder)
    manifest, _ = build_manifest(folder, folder / "profiles.yml", {}, dbt_environment(pipelines))
    return ParsedProject(manifest, pipelines, {})


def _histories(settings: Settings, projects: Collection[ParsedProject]) -> dict[str, History]:
    histories = {}
    with _warehouse(settings) as connection:
        for project in projects if connection else ():
            for pipeline in project.pipelines:
                # A project without the audit trail, or one that has not run, has no views.
                with contextlib.suppress(WarehouseError):
                    histories[project.name] = source.read(connection, pipeline.target_schema, 1)
    return histories


@contextlib.contextmanager
def _warehouse(settings: Settings) -> Iterator[redshift_connector.Connection | None]:
    """Yield a connection to the warehouse of REDSHIFT_*, or to the local one; None if it is not running."""
    try:
        connection = (
            connect_to_named()
            if named_warehouse()
            else connect(settings, "awsuser", Passwords.load(settings.state).awsuser)
        )
    except (SetupError, redshift_connector.Error, redshift_connector.InterfaceError):
        yield None
        return
    with contextlib.closing(connection):
        # A missing view must not end the transaction of the next query.
        connection.autocommit = True
        yield connection


def _schedules(project: ParsedProject) -> str:
    schedules = [
        ", ".join(pipeline.assets) if pipeline.scheduled_on_assets else pipeline.schedule
        for pipeline in project.pipelines
    ]
    return "; ".join(f"`{schedule}`" for schedule in dict.fromkeys(filter(None, schedules))) or _UNKNOWN


def _built_at(node: Mapping[str, Any], history: History) -> str:
    times = [row["built_at"] for row in history["marts"] if row["unique_id"] == node["unique_id"] and row["built_at"]]
    return f"{times[0]:%Y-%m-%d %H:%M}" if times else _UNKNOWN


def _quality(node: Mapping[str, Any], project: ParsedProject, history: History) -> str:
    tests = {
        test["unique_id"]
        for test in project.manifest["nodes"].values()
        if test["resource_type"] == "test" and node["unique_id"] in test["depends_on"]["nodes"]
    }
    results = [row for row in history["tests"] if row["unique_id"] in tests]
    runs, passed = (sum(row[column] for row in results) for column in ("runs", "passed_runs"))
    return f"{100 * passed / runs:.1f} % of {runs:,}" if runs else _UNKNOWN


def _contract(node: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            column["data_type"] or "",
            "no" if is_not_null(column) else "yes",
            one_line(column["description"]),
        )
        for name, column in node["columns"].items()
    ]
    return markdown_table(("column", "type", "null", "meaning"), rows)
