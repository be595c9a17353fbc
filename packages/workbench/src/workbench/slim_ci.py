"""Show the release plan of a change, check the contracts of public models, and build the change and its children.

`python -m workbench slim-ci --base HEAD^1` needs git but no credentials. It builds the artifact of the base commit; its
manifest is dbt's state. The parents of the changed nodes are first built from the base, in the production schema of
the local warehouse.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mwaa_local.processes import base_environment
from mwaa_local.settings import HOST, REPOSITORY, Passwords, Settings, SetupError
from mwaa_release.build import PIPELINES_FILE, build
from mwaa_release.cli_options import print_plan
from mwaa_release.manifest import install_packages, project_name
from mwaa_release.pipelines import first_pipeline, pipelines_by_project
from mwaa_release.plan import AppliedArtifact, make_plan
from mwaa_release.products import ParsedProject, find_breaking_changes
from mwaa_release.release import MANIFEST_FILE, Artifact
from mwaa_release.run_dbt import run_dbt
from workbench.warehouse import make_schema, warehouse

PROJECT_FOLDER = "dbt_project"
SCHEMA = "dbt_change"
# Only pipelines write to the audit table.
_UNAUDITED = ("--vars", '{"audit_enabled": false}')


class DbtFailedError(Exception):
    """dbt failed and printed the reason (exit code 1)."""


class BrokenContractError(Exception):
    """The change breaks the contract of a public model. The message names the model and its consumers (exit code 1)."""


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """Yield a folder with the files of a commit; it is removed at the end of the block.

    Raises:
        SetupError: git does not know the commit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    _git("worktree", "prune")
    _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Dbt:
    """dbt on the local warehouse."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._environment = base_environment() | {
            "REDSHIFT_HOST": HOST,
            "REDSHIFT_PORT": str(settings.warehouse_port),
            "REDSHIFT_USER": "dbt_user",
            "REDSHIFT_PASSWORD": Passwords.load(settings.state).dbt_user,
            "REDSHIFT_SSLMODE": "disable",
        }

    def run(self, project: Path, target: str, schema: str, *arguments: str, shown: bool = True) -> str:
        """Run dbt on a project, and return its output.

        Raises:
            DbtFailedError: dbt failed and printed the reason.
        """
        install_packages(project)
        scratch = self._settings.state / "change" / schema
        environment = self._environment | {"DBT_TARGET": target, "REDSHIFT_SCHEMA": schema}
        done = run_dbt(*arguments, project=project, scratch=scratch, environment=environment, shown=shown)
        if done.returncode:
            print(done.stdout or "", end="", flush=True)
            raise DbtFailedError(f"dbt {arguments[0]} failed")
        return done.stdout or ""


def changed(dbt: Dbt, state: Path) -> dict[str, dict[str, Any]]:
    """Return the nodes that differ from `state`, and their children, by unique_id."""
    keys = ("unique_id", "name", "resource_type", "depends_on")
    listing = dbt.run(
        *(REPOSITORY / PROJECT_FOLDER, "local", SCHEMA, "ls", "--quiet", "--select", "state:modified+"),
        *(f"--state={state}", "--output", "json", "--output-keys", *keys),
        shown=False,
    )
    nodes = [json.loads(line) for line in listing.splitlines() if line.startswith("{")]
    return {node["unique_id"]: node for node in nodes}


def read_from_base(nodes: dict[str, dict[str, Any]], base: dict[str, Any]) -> list[str]:
    """Return the names of the unchanged parents of nodes; they are built from the base."""
    runnable = [node for node in nodes.values() if node["resource_type"] != "exposure"]
    parents = {parent for node in runnable for parent in node["depends_on"].get("nodes", [])} - set(nodes)
    kinds = ("model", "seed", "snapshot")
    return sorted(
        base[parent]["name"] for parent in parents if parent in base and base[parent]["resource_type"] in kinds
    )


def check(settings: Settings, commit: str) -> None:
    """Show the plan, build the changed nodes, and write dbt's documentation into the state folder.

    Raises:
        SetupError, DeployError, DbtFailedError: the set-up, the release plan or dbt failed.
        BrokenContractError: the change breaks the contract of a public model.
    """
    scratch = settings.state / "change"
    shutil.rmtree(scratch, ignore_errors=True)
    with checkout(commit, scratch / "base") as base_checkout:
        base = build(scratch / "base-release", repository=base_checkout)
        after = build(scratch / "release")
        print("A merge releases:", flush=True)
        print_plan(make_plan(after, AppliedArtifact(base)))
        sys.stdout.flush()
        check_contracts(parsed_projects(base, base_checkout), parsed_projects(after, REPOSITORY))
        with warehouse(settings):
            _build(settings, base, base_checkout)


def parsed_projects(artifact: Artifact, repository: Path) -> list[ParsedProject]:
    """Return the projects of an artifact, with the pipelines of the repository that it was built from."""
    names = [release.project_name for release in artifact.releases]
    pipelines = pipelines_by_project(repository / PIPELINES_FILE, names, complete=True)
    return [
        ParsedProject(
            json.loads((artifact.folder / release.prefix / MANIFEST_FILE).read_bytes()),
            pipelines[release.project_name],
            {},
        )
        for release in artifact.releases
    ]


def check_contracts(before: Sequence[ParsedProject], after: Sequence[ParsedProject]) -> None:
    """Check that the public models keep their contracts.

    Raises:
        BrokenContractError: a public model breaks its contract.
    """
    if problems := find_breaking_changes(before, after):
        raise BrokenContractError("\n".join(["this change breaks the contracts of public models:", *problems]))


def _build(settings: Settings, base: Artifact, base_checkout: Path) -> None:
    dbt = Dbt(settings)
    project = REPOSITORY / PROJECT_FOLDER
    name = project_name(base_checkout / PROJECT_FOLDER)
    (state,) = (base.folder / release.prefix for release in base.releases if release.project_name == name)
    nodes = changed(dbt, state)
    print(f"{len(nodes)} nodes changed or depend on a change:", flush=True)
    for node in nodes.values():
        print(f"  {node['resource_type']} {node['name']}", flush=True)
    if nodes:
        make_schema(settings, SCHEMA)
        parents = read_from_base(nodes, json.loads((state / "manifest.json").read_bytes())["nodes"])
        if parents:
            print(f"Built from the base for the change: {', '.join(parents)}, with their parents", flush=True)
            names = [f"+{name}" for name in parents]
            only = ("--exclude-resource-type", "test", "unit_test", "--quiet", *_UNAUDITED)
            production = first_pipeline().target_schema
            dbt.run(base_checkout / PROJECT_FOLDER, "prod", production, "build", "--select", *names, *only)
        # Unchanged models are read from the production schema.
        deferred = ("--select", "state:modified+", f"--state={state}", "--defer", *_UNAUDITED)
        dbt.run(project, "local", SCHEMA, "build", *deferred)
    make_schema(settings, SCHEMA)
    dbt.run(project, "local", SCHEMA, "docs", "generate", "--static", "--quiet", shown=False)
    page = settings.state / "change" / SCHEMA / "target" / "static_index.html"
    print(f"dbt's documentation: {page}", flush=True)
