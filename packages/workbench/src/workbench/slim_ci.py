"""Show the release plan of a change, check the contracts of public models, and build the change and its children.

`python -m workbench slim-ci --base HEAD^1` needs git but no credentials. It builds the artifact of the base commit; the
manifest of each project in it is dbt's state. The parents of the changed nodes are first built from the base, in the
production schemas of the local warehouse, and so are the models of other projects that the changed nodes read. Each
project is built by the database user of its pipeline, as in production: a later run can replace what is built here.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mwaa_local.settings import REPOSITORY, Passwords, Settings, SetupError
from mwaa_local.stack import make_user, rows
from mwaa_release.build import build
from mwaa_release.cli_options import print_plan
from mwaa_release.manifest import project_name, schemas
from mwaa_release.plan import AppliedArtifact, make_plan
from mwaa_release.products import ParsedProject, find_breaking_changes, find_reads
from mwaa_release.redshift import quote_identifier
from workbench.choose_project import all_projects
from workbench.relations import Relation, existing_relations
from workbench.released_project import Dbt, ReleasedProject, parsed_projects
from workbench.warehouse import make_schemas, superuser, warehouse

SCHEMA = "dbt_change"
# Only pipelines write to the audit table.
_UNAUDITED = ("--vars", '{"audit_enabled": false}')


class RefusedChangeError(Exception):
    """The change breaks the contract of a public model, or the table of a source is lost (exit code 1)."""


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


def read_from_base(nodes: dict[str, dict[str, Any]], base: dict[str, Any]) -> list[str]:
    """Return the names of the unchanged parents of nodes; they are built from the base."""
    runnable = [node for node in nodes.values() if node["resource_type"] != "exposure"]
    parents = {parent for node in runnable for parent in node["depends_on"].get("nodes", [])} - set(nodes)
    kinds = ("model", "seed", "snapshot")
    return sorted(
        base[parent]["name"] for parent in parents if parent in base and base[parent]["resource_type"] in kinds
    )


def missing_sources(
    sources: Mapping[str, Mapping[str, Any]], base: Mapping[str, Mapping[str, Any]], existing: Collection[Relation]
) -> list[str]:
    """Return the names of the sources that the warehouse does not have.

    Args:
        sources: the sources of the change, by unique_id.
        base: the sources before the change.
        existing: the relations of the warehouse.

    Raises:
        RefusedChangeError: the warehouse has the table that the base names for one of them.
    """
    missing = []
    for unique_id, source in sources.items():
        if _table(source) in existing:
            continue
        name = f"{source['source_name']}.{source['name']}"
        if unique_id in base and _table(base[unique_id]) in existing:
            raise RefusedChangeError(
                f"{source['original_file_path']}: source {name} was {_table(base[unique_id])}, which this warehouse "
                f"has, and is {_table(source)} now, which it does not have. Correct the schema or identifier of the "
                "source, or create that table"
            )
        missing.append(name)
    return sorted(missing)


def _table(source: Mapping[str, Any]) -> Relation:
    # Redshift folds names to lower case.
    return Relation(source["schema"].lower(), source["identifier"].lower())


def check(settings: Settings, commit: str) -> None:
    """Show the plan, build the changed nodes, and write dbt's documentation into the state folder.

    Raises:
        SetupError, DeployError, DbtFailedError: the set-up, the release plan or dbt failed.
        RefusedChangeError: the change breaks the contract of a public model, or the table of a source is lost.
    """
    scratch = settings.state / "change"
    shutil.rmtree(scratch, ignore_errors=True)
    with checkout(commit, scratch / "base") as base_checkout:
        # An unchanged project is parsed once.
        base = build(scratch / "base-release", repository=base_checkout, cache=settings.parse_cache)
        after = build(scratch / "release", cache=settings.parse_cache)
        print("A merge releases:", flush=True)
        print_plan(make_plan(after, AppliedArtifact(base)))
        sys.stdout.flush()
        before, projects = parsed_projects(base, base_checkout), parsed_projects(after, REPOSITORY)
        check_contracts([project.parsed for project in before], [project.parsed for project in projects])
        with warehouse(settings):
            order = [project_name(folder) for folder in all_projects()]
            unchanged = {project.content_sha256 for project in before}
            changed = [project for project in projects if project.content_sha256 not in unchanged]
            for project in sorted(changed, key=lambda project: order.index(project.name)):
                schema = SCHEMA if project.name == order[0] else f"{SCHEMA}_{project.name}"
                _Change(settings, project, schema, before).build()


def check_contracts(before: Sequence[ParsedProject], after: Sequence[ParsedProject]) -> None:
    """Check that the public models keep their contracts.

    Raises:
        RefusedChangeError: a public model breaks its contract.
    """
    if problems := find_breaking_changes(before, after):
        raise RefusedChangeError("\n".join(["this change breaks the contracts of public models:", *problems]))


class _Change:
    """The change of one project."""

    def __init__(
        self,
        settings: Settings,
        project: ReleasedProject,
        schema: str,
        before: Sequence[ReleasedProject],
    ) -> None:
        self._settings = settings
        self._project = project
        self._schema = schema
        self._before = {other.name: other for other in before}
        self._dbt = Dbt(settings)

    def build(self) -> None:
        """Build the changed nodes and their children in a schema of their own, and write the documentation."""
        base = self._before.get(self._project.name)
        # A project that the base does not have is new as a whole.
        selection = ["--select", "state:modified+", f"--state={base.state}"] if base else ["--select", "package:this"]
        nodes = self._list(*selection)
        self._make_user(self._project)
        if nodes:
            sources = self._sources_of(nodes)
            self._build_public_models(sources)
            if missing := self._missing(sources, base):
                selection += ["--exclude", *(f"source:{name}+" for name in missing)]
                built = self._list(*selection)
                print(f"{self._project.name}: this warehouse has no source table {', '.join(missing)}. Not built:")
                print("\n".join(f"  {node['name']}" for name, node in nodes.items() if name not in built), flush=True)
                nodes = built
        print(f"{self._project.name}: {len(nodes)} nodes changed or depend on a change", flush=True)
        for node in nodes.values():
            print(f"  {node['resource_type']} {node['name']}", flush=True)
        self._make_own_schemas({self._schema, *(node["schema"] for node in nodes.values() if node.get("schema"))})
        if nodes:
            parents = read_from_base(nodes, base.parsed.manifest["nodes"]) if base else []
            if parents:
                self._build_base(base, parents)
            # Unchanged models are read from the production schema.
            deferred = ["--defer"] if base else []
            self._dbt.run(self._project, "local", self._schema, "build", *selection, *deferred, *_UNAUDITED)
        self._dbt.run(self._project, "local", self._schema, *("docs", "generate", "--static", "--quiet"), shown=False)
        page = self._settings.state / "change" / "docs" / f"{self._project.name}.html"
        page.parent.mkdir(exist_ok=True)
        shutil.copyfile(self._settings.state / "change" / self._schema / "target" / "static_index.html", page)
        print(f"dbt's documentation: {page}", flush=True)

    def _list(self, *selection: str) -> dict[str, dict[str, Any]]:
        """Return nodes by unique_id."""
        keys = ("unique_id", "name", "resource_type", "depends_on", "schema")
        options = ("--quiet", *selection, "--output", "json", "--output-keys", *keys)
        listing = self._dbt.run(self._project, "local", self._schema, "ls", *options, shown=False)
        nodes = [json.loads(line) for line in listing.splitlines() if line.startswith("{")]
        return {node["unique_id"]: node for node in nodes if node["resource_type"] != "source"}

    def _sources_of(self, nodes: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Return the sources that nodes or their parents read, by unique_id."""
        manifest = self._project.parsed.manifest
        used: set[str] = set()
        todo = list(nodes)
        while todo:
            parents = set(manifest["parent_map"].get(todo.pop(), ())) - used
            used |= parents
            todo += parents
        return {unique_id: source for unique_id, source in manifest["sources"].items() if unique_id in used}

    def _build_public_models(self, sources: Collection[str]) -> None:
        """Build the models of other projects that are sources here, from the base."""
        models: dict[str, set[str]] = {}
        for read in find_reads([self._project.parsed], [project.parsed for project in self._before.values()]):
            if read.source["unique_id"] in sources:
                models.setdefault(read.node["package_name"], set()).add(read.node["name"])
        for name in sorted(models):
            self._build_base(self._before[name], sorted(models[name]))

    def _build_base(self, base: ReleasedProject, names: Sequence[str]) -> None:
        print(f"Built from the base for the change: {', '.join(names)}, with their parents", flush=True)
        self._make_user(base)
        selection = ["--select", *(f"+{name}" for name in names), "--exclude-resource-type", "test", "unit_test"]
        self._dbt.run(base, "prod", base.production_schema, "build", *selection, "--quiet", *_UNAUDITED)

    def _missing(self, sources: Mapping[str, Mapping[str, Any]], base: ReleasedProject | None) -> list[str]:
        """Return the sources that the warehouse does not have.

        Raises:
            RefusedChangeError: the warehouse has the table that the base names for one of them.
        """
        with superuser(self._settings) as connection:
            before = base.parsed.manifest["sources"] if base else {}
            tables = [_table(source) for source in (*sources.values(), *before.values())]
            existing = existing_relations(connection, {table.schema for table in tables})
        return missing_sources(sources, before, existing)

    def _make_user(self, project: ReleasedProject) -> None:
        """Create the user of a project, which can read its sources, and the schemas that the project builds in."""
        sources, built = schemas(project.parsed.manifest)
        if project.user == "dbt_user":
            make_schemas(self._settings, built, sources)
            return
        passwords = Passwords.load(self._settings.state)
        with superuser(self._settings) as connection:
            make_user(connection, passwords, project.parsed.pipelines[0], sources, built)

    def _make_own_schemas(self, names: Collection[str]) -> None:
        """Create the schemas of the change. A change that was built before leaves nothing in them."""
        with superuser(self._settings) as connection:
            for name in names:
                if name.startswith(SCHEMA):
                    rows(connection, f"drop schema if exists {quote_identifier(name)} cascade")
        make_schemas(self._settings, names, user=self._project.user)
