"""`make diff`: a model as it is built now, beside the build of another commit from the same data."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import redshift_connector

from mwaa_local.settings import Settings, SetupError
from mwaa_local.stack import PROJECT
from mwaa_release.progress import console
from workbench.build import Builder
from workbench.commands import project, selected
from workbench.problems import Problem, ProjectError
from workbench.project import Project
from workbench.relations import Relation, compare, existing
from workbench.terminal import show_difference
from workbench.warehouse import drop_schemas

_SCHEMA = "dbt_base_"


def diff(settings: Settings, model: str, base: str, folder: Path = PROJECT) -> int:
    """Build a model and what it reads, here and as of `base`, print what differs, and return the exit code.

    Args:
        settings: where the warehouse is.
        model: its name.
        base: a branch, tag or commit; empty: origin/main, or main where there is no origin.
        folder: the project.

    Raises:
        SetupError: there is no such commit.
        ProjectError: the model is in neither, or one of the two cannot be built.
    """
    commit = _commit(folder, [base] if base else ["origin/main", "main"])
    with project(settings, folder) as (here, connection):
        names = [here.node_name(unique_id) for unique_id in selected(here, model) if here.relation(unique_id)]
        base_project = _project_of(settings, folder, commit)
        for name in names:
            if not _build(
                settings, base_project, connection, name, f"as of {base or 'main'} ({commit[:7]})", full_refresh=False
            ):
                return 1
            if not _build(settings, here, connection, name, "as of now", full_refresh=True):
                return 1
            _compare(here, base_project, connection, name)
    return 0


def _compare(here: Project, there: Project, connection: redshift_connector.Connection, name: str) -> None:
    console.print(f"[bold]{name}[/]")
    if name not in existing(connection, there.schema):
        console.print("    [cyan]new: the other commit has no such model[/]")
        return
    unique_id = next(unique_id for unique_id in here.select(name) if here.relation(unique_id))
    now = here.relation(unique_id)
    difference = compare(connection, Relation(there.schema, now.name), now, here.key(unique_id))
    if difference is None:
        raise ProjectError(Problem(f"{name} cannot be read", hint=f"see why: make build M={name}"))
    show_difference(difference, f"same {difference.rows_after:,} rows, same columns")


def _build(
    settings: Settings,
    dbt_project: Project,
    connection: redshift_connector.Connection,
    name: str,
    what: str,
    *,
    full_refresh: bool,
) -> bool:
    if name not in dbt_project.names():
        return True
    missing_ids = {unique_id for unique_id in dbt_project.select(f"+{name}") if dbt_project.relation(unique_id)}
    if not full_refresh:
        relation_names = existing(connection, dbt_project.schema)
        missing_ids = {
            unique_id for unique_id in missing_ids if dbt_project.relation(unique_id).name not in relation_names
        }
    if not missing_ids:
        return True
    console.rule(f"{name} {what}", align="left", style="bright_black")
    return not Builder(dbt_project, connection, settings, compares=False).build(missing_ids, full_refresh)


def _project_of(settings: Settings, folder: Path, commit: str) -> Project:
    """The project of a commit, in a schema of its own, which no other commit's tables are in."""
    state = settings.state / "develop" / "other_commit"
    schema = f"{_SCHEMA}{commit[:12]}"
    drop_schemas(settings, _SCHEMA, but=schema)
    shutil.rmtree(state, ignore_errors=True)
    # Of the folder that git is called in only.
    packed = subprocess.run(["git", "archive", commit, "."], cwd=folder, capture_output=True, check=False)
    if packed.returncode:
        raise SetupError(f"commit {commit[:7]} has no {folder.name}; name another: BASE=<branch, tag or commit>")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(state / "project", filter="data")
    base_project = Project(state / "project", settings, state, schema)
    base_project.parse()
    return base_project


def _commit(folder: Path, names: list[str]) -> str:
    for name in names:
        asked = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    raise SetupError(f"git knows no commit {' or '.join(names)}; name one: BASE=<branch, tag or commit>")
