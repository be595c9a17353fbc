"""`make diff`: compare a model with the same model of another commit, both built from the same data."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import redshift_connector

from audit_report import DBT_PACKAGE
from mwaa_local.settings import Settings, SetupError
from mwaa_release.manifest import local_packages
from mwaa_release.progress import console
from workbench.build import Builder
from workbench.commands import project, selected
from workbench.problems import Problem, ProjectError
from workbench.project import SCHEMA, Project
from workbench.relations import compare, existing_relations
from workbench.terminal import show_difference
from workbench.warehouse import drop_schemas

_SCHEMA = "dbt_base_"


def diff(settings: Settings, model: str, base: str, folder: Path) -> int:
    """Build a model and its parents, here and as of `base`, print the differences, and return the exit code.

    Args:
        settings: the settings of the warehouse.
        model: the name of the model.
        base: a branch, tag or commit; if empty, origin/main, or main if there is no origin.
        folder: the project.

    Raises:
        SetupError: git does not know the commit.
        ProjectError: there is no such model, it has no table, or dbt cannot parse one of the two projects.
    """
    commit = _commit(folder, [base] if base else ["origin/main", "main"])
    with project(settings, folder) as (head, connection):
        ids = [unique_id for unique_id in selected(head, model) if head.relation(unique_id)]
        if not ids:
            hint = "give the name of a model that dbt builds as a table or view"
            raise ProjectError(Problem(f"{model} has no rows to compare", hint=hint))
        revision = f"{base or 'main'} ({commit[:7]})"
        changed = _changed_files(folder, commit)
        for unique_id in [unique_id for unique_id in ids if not head.depends_on(unique_id, changed)]:
            console.print(f"[bold]{head.node_name(unique_id)}[/]")
            console.print(f"    [bright_black]same code and same inputs as of {revision}[/]")
            ids.remove(unique_id)
        if not ids:
            return 0
        names = [head.node_name(unique_id) for unique_id in ids]
        base_project = _project_of(settings, head, commit)
        for name in names:
            if not _build(settings, base_project, connection, name, f"as of {revision}", full_refresh=False):
                return 1
            if not _build(settings, head, connection, name, "as of now", full_refresh=True):
                return 1
            _compare(head, base_project, connection, name)
    return 0


def _compare(head: Project, base_project: Project, connection: redshift_connector.Connection, name: str) -> None:
    console.print(f"[bold]{name}[/]")
    unique_id = next(unique_id for unique_id in head.select(name) if head.relation(unique_id))
    before, now = base_project.relation(unique_id), head.relation(unique_id)
    if before is None:
        console.print("    [cyan]new: the other commit does not have this model[/]")
        return
    difference = compare(connection, before, now, head.key(unique_id))
    if difference is None:
        raise ProjectError(Problem(f"{name} cannot be read", hint=f"find out why: make build M={name}"))
    show_difference(difference, f"same {difference.rows_after:,} rows, same columns")


def _build(
    settings: Settings,
    dbt_project: Project,
    connection: redshift_connector.Connection,
    name: str,
    revision: str,
    *,
    full_refresh: bool,
) -> bool:
    if name not in dbt_project.names():
        return True
    nodes = {unique_id for unique_id in dbt_project.select(f"+{name}") if dbt_project.relation(unique_id)}
    if not full_refresh:
        existing = existing_relations(connection, dbt_project.schemas())
        nodes = {unique_id for unique_id in nodes if dbt_project.relation(unique_id) not in existing}
    if not nodes:
        return True
    console.rule(f"{name} {revision}", align="left", style="bright_black")
    return not Builder(dbt_project, settings, compares=False).build(nodes, full_refresh)


def _project_of(settings: Settings, head: Project, commit: str) -> Project:
    """Return the project of a commit, with a schema that only this commit uses."""
    folder, state = head.folder, head.state / "other_commit"
    schema = f"{_SCHEMA}{commit[:12]}"
    drop_schemas(settings, _SCHEMA, but=schema)
    schema += head.schema.removeprefix(SCHEMA)
    shutil.rmtree(state, ignore_errors=True)
    # git archives only the folder that it is called in.
    packed = subprocess.run(["git", "archive", commit, "."], cwd=folder, capture_output=True, check=False)
    if packed.returncode:
        raise SetupError(f"commit {commit[:7]} has no {folder.name}; choose another: BASE=<branch, tag or commit>")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(state / "project", filter="data")
    dbt_project = Project(state / "project", settings, state, schema)
    dbt_project.parse()
    return dbt_project


def _changed_files(folder: Path, commit: str) -> set[str]:
    """Return the files of a project that differ from a commit."""
    changed: set[str] = set()
    for command in (["diff", "--name-only", "--relative", commit], ["ls-files", "--others", "--exclude-standard"]):
        listed = subprocess.run(["git", *command, "-z"], cwd=folder, capture_output=True, text=True, check=True)
        changed.update(filter(None, listed.stdout.split("\0")))
    if any(not path.is_relative_to(folder.resolve()) for path in local_packages(folder) if path != DBT_PACKAGE):
        # A package beside the project can have changed, too.
        changed.add("packages.yml")
    return changed


def _commit(folder: Path, names: list[str]) -> str:
    for name in names:
        parsed = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if parsed.returncode == 0:
            return parsed.stdout.strip()
        if "not a git repository" in parsed.stderr:
            raise SetupError(f"{folder} is not in a git repository, so there is no other commit to compare with")
    raise SetupError(f"git does not know {' or '.join(names)}; choose a base: BASE=<branch, tag or commit>")
