"""The dbt project, run in this process: dbt is imported once and rereads only changed files."""

import functools
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import redshift_connector
from dbt.artifacts.schemas.results import NodeResult, NodeStatus
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from audit_report.redshift import error_text
from mwaa_local.settings import Settings
from mwaa_pipelines.selection import exact_selector
from mwaa_release.manifest import install_packages
from mwaa_release.pipelines import project_environment
from mwaa_release.run_dbt import Listing
from workbench.choose_project import file_names, valid_settings
from workbench.problems import Problem, ProjectError, of_exception, of_result
from workbench.relations import Relation, column_names
from workbench.unknown_keys import UnknownKeys, misspelt
from workbench.warehouse import dbt_variables, warehouse, write_profile

SCHEMA = "dbt_local"
TARGET = "local"
# Resource types that other nodes read. They must exist before their children are built.
BUILT = {"model", "seed", "snapshot"}
FAILED = {NodeStatus.Error, NodeStatus.Fail, NodeStatus.RuntimeErr, NodeStatus.PartialSuccess}

OnEvent = Callable[[Any], None]


def column_of(name: str) -> str:
    """Return the name that the warehouse has for a column of a YAML file, which can be quoted."""
    return name.strip('"').lower()


class Project:
    """A dbt project and the schema of the local warehouse that it is built in.

    Args:
        folder: the project.
        settings: where the warehouse is.
        state: folder for dbt's output.
        schema: the target schema.
    """

    def __init__(self, folder: Path, settings: Settings, state: Path, schema: str = SCHEMA) -> None:
        self.folder = folder
        self.schema = schema
        self.state = state
        self.manifest: Manifest | None = None
        # Keys that the last `parse` found, and that are likely misspelt.
        self.misspelt_keys: list[Problem] = []
        self._settings = settings

    def parse(self) -> None:
        """Read the files of the project that changed since the last call.

        Raises:
            ProjectError: dbt cannot parse a file.
        """
        self.manifest = None
        # dbt reports a mistake in dbt_project.yml with its line.
        if valid_settings(self.folder):
            install_packages(self.folder)
        write_profile(self.folder, self.state, self._settings, TARGET, self.schema)
        keys = UnknownKeys(self.folder, self.state / "unknown_keys.json")
        self.manifest = self._dbt("parse", "--show-all-deprecations", on_event=keys.on_event)
        self.misspelt_keys = misspelt(keys.problems())

    def select(self, *selectors: str, base: Path | None = None) -> list[str]:
        """Return the unique ids that match dbt's selectors.

        Args:
            selectors: as in `dbt ls --select`; a node has to match one of them.
            base: folder of the manifest that `state:modified` compares with.

        Raises:
            ProjectError: a selector is invalid.
        """
        state = ["--state", str(base)] if base else []
        listed = self._dbt("ls", "--select", *selectors, *state, "--output", "json", "--output-keys", "unique_id")
        return [json.loads(line)["unique_id"] for line in listed]

    def listings(self, selections: Mapping[str, Sequence[str]]) -> dict[str, Listing]:
        """Return the nodes of selections, or dbt's error.

        Args:
            selections: arguments of `dbt ls` by a name.
        """

        @functools.cache
        def listing(*arguments: str) -> Listing:
            try:
                listed = self._dbt("ls", *arguments, "--output", "json", "--output-keys", "unique_id")
            except ProjectError as error:
                return Listing(error=error.problem.message)
            return Listing(sorted(json.loads(line)["unique_id"] for line in listed))

        return {name: listing(*arguments) for name, arguments in selections.items()}

    def build(self, unique_ids: Iterable[str], on_event: OnEvent, full_refresh: bool = False) -> list[NodeResult]:
        """Build or test nodes in the order of the graph.

        Args:
            unique_ids: models, seeds, snapshots, tests and unit tests.
            on_event: called with each of dbt's events, from dbt's threads.
            full_refresh: rebuild incremental models.

        Raises:
            ProjectError: dbt could not start.
        """
        selected = set(unique_ids)
        refresh = ["--full-refresh"] if full_refresh else []
        select = ["--select", *self._selectors(selected), "--indirect-selection", "empty"]
        # `dbt build` runs a unit test only with its model.
        models = any(self.kind(unique_id) in BUILT for unique_id in selected)
        command = ["build", *refresh] if models else ["test"]
        ended = self._dbt(*command, *select, on_event=on_event)
        return [result for result in ended.results if self.kind(result.node.unique_id) != "operation"]

    def show(self, name: str, rows: int) -> Any:
        """Return the first rows of a model's current SQL as an agate table.

        Raises:
            ProjectError: the model does not compile, or the warehouse rejected its SQL.
        """
        try:
            return self._one("show", name, "--limit", str(rows)).agate_table
        except ProjectError as error:
            if "Database Error" not in str(error.__cause__):
                raise
            # dbt raises the warehouse's error without the model's SQL, which has the place.
            failed = replace(self._one("compile", name), message=str(error.__cause__))
            raise ProjectError(self.problem(failed)) from None

    def compile(self, name: str) -> str:
        """Return the compiled SQL of a model.

        Raises:
            ProjectError: the model does not compile.
        """
        return self._one("compile", name).node.compiled_code

    def freshness(self) -> list[Any]:
        """Return dbt's result for each source that has a freshness.

        Raises:
            ProjectError: dbt could not start.
        """
        results = self._dbt("source", "freshness").results
        return [result for result in results if self.kind(result.node.unique_id) == "source"]

    def docs(self) -> Path:
        """Write dbt's documentation as one HTML file, and return its path.

        Raises:
            ProjectError: dbt failed.
        """
        self._dbt("docs", "generate", "--static")
        return self.state / "target" / "static_index.html"

    def keep_manifest(self, folder: Path) -> None:
        """Write the manifest of the last `parse` to `folder`, as the base of `select`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.manifest.write(str(folder / "manifest.json"))

    def kind(self, unique_id: str) -> str:
        """Return the resource type of an id: model, test, unit_test ..."""
        return unique_id.split(".", 1)[0]

    def has(self, unique_id: str) -> bool:
        """Whether the project still has a node of this id."""
        return unique_id in self.manifest.nodes or unique_id in self.manifest.unit_tests

    def can_run(self, unique_id: str) -> bool:
        """Return whether dbt builds or tests a node. It does neither for exposures."""
        return self.kind(unique_id) in {*BUILT, "test", "unit_test"}

    def node_name(self, unique_id: str) -> str:
        """Return the name that selectors use."""
        return self.manifest.nodes[unique_id].name

    def reads(self, unique_id: str) -> list[str]:
        """Return the models, seeds and snapshots that a node reads or a unit test tests."""
        node = self.manifest.nodes.get(unique_id) or self.manifest.unit_tests.get(unique_id)
        return [parent for parent in node.depends_on_nodes if self.kind(parent) in BUILT] if node else []

    def relation(self, unique_id: str) -> Relation | None:
        """Return the table or view of a model, seed or snapshot; None for other nodes and ephemeral models."""
        node: Any = self.manifest.nodes.get(unique_id)
        if node is None or node.resource_type not in BUILT or node.is_ephemeral_model:
            return None
        return Relation(node.schema, node.identifier)

    def schemas(self) -> list[str]:
        """Return the schemas that dbt builds in."""
        nodes: Any = self.manifest.nodes.values()
        return sorted(
            {
                node.schema
                for node in nodes
                if self.relation(node.unique_id) or getattr(node.config, "store_failures", False)
            }
        )

    def source_schemas(self) -> list[str]:
        """Return the schemas of the sources."""
        return sorted({source.schema for source in self.manifest.sources.values()})

    def depends_on(self, unique_id: str, files: Collection[str]) -> bool:
        """Return whether a model can depend on one of some files. It does not on the code of other nodes.

        Args:
            unique_id: of the model.
            files: paths in the project.
        """
        upstream, todo = {unique_id}, [unique_id]
        while todo:
            parents = set(self.reads(todo.pop())) - upstream
            upstream |= parents
            todo += parents
        nodes_of: dict[str, set[str]] = {}
        for node in self.manifest.nodes.values():
            nodes_of.setdefault(node.original_file_path, set()).add(node.unique_id)
        # A macro, a YAML file or a deleted file can change any model: a source, or a setting that was removed.
        return any(
            file.endswith((".yml", ".yaml")) or file not in nodes_of or nodes_of[file] & upstream for file in files
        )

    def exists(self, unique_id: str, existing: set[Relation]) -> bool:
        """Whether the relation of a node is in the warehouse. True for a node without a relation."""
        relation = self.relation(unique_id)
        return relation is None or relation in existing

    def key(self, unique_id: str) -> list[str]:
        """Return the key columns of a model by its constraints or tests; empty if there are none.

        The `column_name` of a test can be an expression, which is no column of the relation.
        """
        node: Any = self.manifest.nodes[unique_id]
        for constraint in getattr(node, "constraints", ()):
            if constraint.type == "primary_key" and constraint.columns:
                return [column_of(name) for name in constraint.columns]
        for column in node.columns.values():
            if any(constraint.type == "primary_key" for constraint in column.constraints):
                return [column_of(column.name)]
        for test in self.manifest.nodes.values():
            metadata: Any = getattr(test, "test_metadata", None)
            if metadata and metadata.name == "unique" and getattr(test, "attached_node", None) == unique_id:
                return [column_of(metadata.kwargs["column_name"])]
        return []

    def missing(self, unique_ids: Iterable[str], existing: set[Relation]) -> list[str]:
        """Return the direct and indirect parents of nodes that are not in the warehouse yet.

        Args:
            unique_ids: nodes to build; they are not part of the result.
            existing: the relations in the project's schemas.
        """
        seen, missing_ids = set(unique_ids), set()
        # The parents of an existing table are not needed.
        todo = list(seen)
        while todo:
            for parent in self.reads(todo.pop()):
                if parent not in seen and not (self.relation(parent) and self.exists(parent, existing)):
                    seen.add(parent)
                    todo.append(parent)
                    missing_ids.add(parent)
        return sorted(missing_ids)

    def names(self) -> list[str]:
        """Return the names of models, seeds and snapshots from the file names, which also works if dbt cannot parse."""
        return file_names(self.folder)

    def problem(self, result: NodeResult) -> Problem:
        """Return the reason why a node failed."""
        with warehouse(self._settings) as connection:

            def error(query: str) -> redshift_connector.Error | None:
                with connection.cursor() as cursor:
                    cursor.paramstyle = "qmark"
                    try:
                        cursor.execute(f"select * from (\n{query}\n) as failing limit 0")  # noqa: S608 - dbt's own SQL
                    except redshift_connector.Error as raised:
                        return raised
                return None

            def error_of(query: str) -> str:
                raised = error(query)
                return error_text(raised) if raised else ""

            def hint_of(query: str) -> str:
                raised = error(query)
                fields = raised.args[0] if raised and raised.args else None
                return fields.get("H", "") if isinstance(fields, dict) else ""

            names = self.names()
            names += [
                macro.name.removeprefix("test_")
                for macro in self.manifest.macros.values()
                if macro.name.startswith("test_")
            ]
            if "does not exist" in (result.message or ""):
                schemas = [*self.schemas(), *self.source_schemas()]
                names += sorted({column for relation, column in column_names(connection) if relation.schema in schemas})
            return of_result(result, self.folder, names, error_of, hint_of)

    def _selectors(self, unique_ids: Iterable[str]) -> list[str]:
        nodes = [self.manifest.nodes.get(unique_id) or self.manifest.unit_tests[unique_id] for unique_id in unique_ids]
        return [exact_selector(node) for node in nodes]

    def _one(self, command: str, name: str, *arguments: str) -> NodeResult:
        results = self._dbt(
            command, "--select", f"{name},resource_type:model", "--indirect-selection", "empty", *arguments
        ).results
        if results[0].status in FAILED:
            raise ProjectError(self.problem(results[0]))
        return results[0]

    def _dbt(self, *command: str, on_event: OnEvent | None = None) -> Any:
        runner = dbtRunner(manifest=self.manifest, callbacks=[on_event] if on_event else [])
        state = self.state
        places = {
            "project-dir": self.folder,
            "profiles-dir": state,
            "target": TARGET,
            "target-path": state / "target",
            "log-path": state / "logs",
        }
        flags = [f"--{name}={value}" for name, value in places.items()]
        # The audit trail records pipeline runs. Its table does not exist before the first one.
        quiet = ["--log-level=none", "--no-version-check", "--vars={audit_enabled: false}"]
        if command[0] != "docs":
            # Nothing else reads dbt's files, and they take a quarter of a second.
            quiet.append("--no-write-json")
        before = dict(os.environ)
        os.environ.update({**project_environment(self.folder), **dbt_variables(self._settings)})
        try:
            ended = runner.invoke([*command, *flags, *quiet])
        finally:
            os.environ.clear()
            os.environ.update(before)
        if isinstance(ended.exception, KeyboardInterrupt):
            raise ended.exception
        if ended.exception:
            raise ProjectError(of_exception(ended.exception, self.folder, self.names())) from ended.exception
        return ended.result
