"""Build nodes of the project on the local warehouse, then show the results and the changed rows."""

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import redshift_connector
from dbt.artifacts.schemas.results import NodeResult, NodeStatus

from mwaa_local.settings import Settings
from mwaa_release.redshift import quote_identifier
from workbench.problems import Problem
from workbench.project import BUILT, FAILED, Project, column_of
from workbench.relations import Relation, columns, compare, existing_relations, snapshot
from workbench.terminal import (
    Progress,
    show_difference,
    show_problem,
    show_result,
    show_rows_that_fail,
    show_summary,
)
from workbench.warehouse import make_schemas, warehouse

BEFORE = "dbt_before"
# The column with the tested value in the queries of dbt's own tests.
_VALUE_COLUMNS = {"unique": "unique_field", "accepted_values": "value_field", "relationships": "from_field"}


class Builder:
    """Builds nodes and their missing parents, and compares each table with its previous state.

    Args:
        project: the parsed project.
        settings: the settings of the warehouse.
        compares: whether to show how the tables changed.
    """

    def __init__(
        self,
        project: Project,
        settings: Settings,
        *,
        compares: bool = True,
    ) -> None:
        self.project = project
        self._settings = settings
        self._compares = compares
        self._failures_file = project.state / "failing_tests.json"
        self._failures: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._failures = json.loads(self._failures_file.read_text())

    def build(self, unique_ids: Iterable[str], full_refresh: bool = False, started: float | None = None) -> set[str]:
        """Build the missing parents of the nodes, then build or test the nodes; show results and changes.

        Args:
            unique_ids: of the nodes.
            full_refresh: rebuild incremental models.
            started: when the user began to wait, in seconds of time.monotonic(); default: now.

        Returns:
            Ids of the nodes that failed or were skipped.

        Raises:
            ProjectError: dbt could not start.
            SetupError: the warehouse did not start.
        """
        started = time.monotonic() if started is None else started
        # A new connection, because the warehouse can be another one than for the build before.
        with warehouse(self._settings) as connection:
            self._connection = connection
            make_schemas(self._settings, [*self.project.schemas(), BEFORE], self.project.source_schemas())
            return self._build(unique_ids, full_refresh, started)

    def _build(self, unique_ids: Iterable[str], full_refresh: bool, started: float) -> set[str]:
        existing = existing_relations(self._connection, self.project.schemas())
        selected = self._testable(set(unique_ids), existing)
        missing = self.project.missing(selected, existing)
        snapshots = self._take_snapshots(selected, existing) if self._compares else {}
        results: list[NodeResult] = []
        with Progress(len(selected) + len(missing)) as progress:
            if missing:
                results += self.project.build(missing, progress.on_event, full_refresh)
            if not any(result.status in FAILED for result in results):
                deferred = self._need_their_table(selected, existing)
                if first := selected - deferred:
                    results += self.project.build(first, progress.on_event, full_refresh)
                if deferred and not any(result.status in FAILED for result in results):
                    results += self.project.build(deferred, progress.on_event)
        self._show(results, set(missing), snapshots)
        self._keep_failures(results)
        show_summary(results, time.monotonic() - started)
        return {result.node.unique_id for result in results if result.status in {*FAILED, NodeStatus.Skipped}}

    def _testable(self, selected: set[str], existing: set[Relation]) -> set[str]:
        """Return the tests without those that also read a model that is neither selected nor in the warehouse."""
        only_tests = all(self.project.kind(unique_id) not in BUILT for unique_id in selected)
        if only_tests:
            return selected
        return {
            unique_id
            for unique_id in selected
            if self.project.kind(unique_id) in BUILT
            or all(
                parent in selected or self.project.exists(parent, existing) for parent in self.project.reads(unique_id)
            )
        }

    def _need_their_table(self, selected: set[str], existing: set[Relation]) -> set[str]:
        """Return the unit tests of models without a table, because dbt needs the table of an incremental model."""
        return {
            unique_id
            for unique_id in selected
            if self.project.kind(unique_id) == "unit_test"
            and any(not self.project.exists(parent, existing) for parent in self.project.reads(unique_id))
        }

    def _problem(self, result: NodeResult) -> Problem:
        problem = self.project.problem(result)
        before = self._failures.get(result.node.unique_id)
        return replace(problem, message=f"{problem.message}, still failing ({before} before)") if before else problem

    def _keep_failures(self, results: Sequence[NodeResult]) -> None:
        """Keep the number of failing rows of each failed test, for the next build."""
        for result in results:
            self._failures.pop(result.node.unique_id, None)
            if result.status == NodeStatus.Fail and result.failures:
                self._failures[result.node.unique_id] = result.failures
        self._failures_file.write_text(json.dumps(self._failures))

    def _take_snapshots(self, selected: Iterable[str], existing: set[Relation]) -> dict[str, Relation]:
        relations = {unique_id: self.project.relation(unique_id) for unique_id in selected}
        copies = {
            unique_id: snapshot(self._connection, relation, BEFORE)
            for unique_id, relation in relations.items()
            if relation and relation in existing
        }
        return {unique_id: copy for unique_id, copy in copies.items() if copy}

    def _show(self, results: Sequence[NodeResult], missing: set[str], snapshots: dict[str, Relation]) -> None:
        for result in results:
            show_result(result, needed=result.node.unique_id in missing)
            if result.status in FAILED:
                show_problem(self._problem(result))
                if result.node.resource_type == "test" and result.status == NodeStatus.Fail:
                    show_rows_that_fail(self._connection, _failing_rows(self._connection, self.project, result.node))
            elif before := snapshots.get(unique_id := result.node.unique_id):
                after, key = self.project.relation(unique_id), self.project.key(unique_id)
                difference = compare(self._connection, before, after, key)
                if difference:
                    show_difference(difference)


def _failing_rows(connection: redshift_connector.Connection, project: Project, test: Any) -> str:
    """Return a query of the rows that fail a test: their key and the tested column, if the model has a key.

    Otherwise, dbt's query. Also if the test has a `where`, because the model has other rows with these values.
    """
    query, metadata = test.compiled_code, getattr(test, "test_metadata", None)
    model, column = getattr(test, "attached_node", None), getattr(test, "column_name", None)
    relation = project.relation(model) if model else None
    if not relation or not column or metadata.namespace or test.config.where:
        return query
    name = column_of(column)
    key = [key_column for key_column in project.key(model) if key_column != name]
    # The `column_name` of a test can be an expression.
    if not key or not {*key, name} <= set(columns(connection, relation)):
        return query
    tested = quote_identifier(name)
    if metadata.name in _VALUE_COLUMNS:
        values = f"select {_VALUE_COLUMNS[metadata.name]} from (\n{query}\n) as failing"  # noqa: S608 - dbt's own
        condition = f"{tested} in ({values})"
    elif metadata.name == "not_null":
        condition = f"{tested} is null"
    else:
        return query
    keys = ", ".join(map(quote_identifier, key))
    # SUPER cannot be sorted.
    return f"select {keys}, {tested} from {relation} where {condition} order by {keys}"  # noqa: S608 - quoted
