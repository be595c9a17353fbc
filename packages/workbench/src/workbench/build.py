"""Builds some nodes of the project on the local warehouse, and shows how that went and what changed."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import redshift_connector
from dbt.artifacts.schemas.results import NodeResult, NodeStatus

from mwaa_local.settings import Settings
from workbench.problems import Problem, of_result
from workbench.project import BUILT, FAILED, Project
from workbench.relations import Relation, compare, existing, keep
from workbench.terminal import (
    Progress,
    show_difference,
    show_problem,
    show_result,
    show_rows_that_fail,
    show_summary,
)
from workbench.warehouse import make_schema

BEFORE = "dbt_local_before"


class Builder:
    """Builds nodes, with what they read and with a comparison.

    Args:
        project: parsed.
        connection: of dbt_user, in autocommit.
        settings: where the warehouse is.
        compares: also show what changed in the tables.
    """

    def __init__(
        self,
        project: Project,
        connection: redshift_connector.Connection,
        settings: Settings,
        *,
        compares: bool = True,
    ) -> None:
        self.project = project
        self._connection = connection
        self._compares = compares
        make_schema(settings, project.schema)
        make_schema(settings, BEFORE)

    def build(self, unique_ids: Iterable[str], full_refresh: bool = False) -> set[str]:
        """Build or test the nodes, after what they read and is not there yet; show results and changes.

        Returns:
            The nodes that failed or were skipped.

        Raises:
            ProjectError: dbt could not begin.
        """
        started = time.monotonic()
        built = existing(self._connection, self.project.schema)
        to_run = self._testable(set(unique_ids), built)
        missing = self.project.missing(to_run, built)
        snapshots = self._keep(to_run, built) if self._compares else {}
        results: list[NodeResult] = []
        with Progress(len(to_run) + len(missing)) as progress:
            if missing:
                results += self.project.build(missing, progress.on_event, full_refresh)
            if not any(result.status in FAILED for result in results):
                late = self._need_their_model(to_run, built)
                results += self.project.build(to_run - late, progress.on_event, full_refresh) if to_run - late else []
                if late and not any(result.status in FAILED for result in results):
                    results += self.project.build(late, progress.on_event)
        self._show(results, set(missing), snapshots)
        show_summary(results, time.monotonic() - started)
        return {result.node.unique_id for result in results if result.status in {*FAILED, NodeStatus.Skipped}}

    def _testable(self, wanted: set[str], there: set[str]) -> set[str]:
        """Leave out the tests that also read a model nobody asked for and that is not there."""
        only_tests = all(self.project.kind(unique_id) not in BUILT for unique_id in wanted)
        if only_tests:
            return wanted
        return {
            unique_id
            for unique_id in wanted
            if self.project.kind(unique_id) in BUILT
            or all(parent in wanted or self.project.is_there(parent, there) for parent in self.project.reads(unique_id))
        }

    def _need_their_model(self, wanted: set[str], there: set[str]) -> set[str]:
        """Unit tests of models that this build makes for the first time: an incremental one's need its table."""
        return {
            unique_id
            for unique_id in wanted
            if self.project.kind(unique_id) == "unit_test"
            and any(not self.project.is_there(parent, there) for parent in self.project.reads(unique_id))
        }

    def _keep(self, wanted: Iterable[str], there: set[str]) -> dict[str, Relation]:
        relations = {unique_id: self.project.relation(unique_id) for unique_id in wanted}
        return {
            unique_id: relation
            for unique_id, relation in relations.items()
            if relation and relation.name in there and keep(self._connection, relation, BEFORE)
        }

    def _show(self, results: Sequence[NodeResult], missing: set[str], kept: dict[str, Relation]) -> None:
        for result in results:
            show_result(result, needed=result.node.unique_id in missing)
            if result.status in FAILED:
                show_problem(self._problem(result))
                if result.node.resource_type == "test" and result.status == NodeStatus.Fail:
                    show_rows_that_fail(self._connection, result.node.compiled_code)
            elif relation := kept.get(result.node.unique_id):
                key = self.project.key(result.node.unique_id)
                difference = compare(self._connection, Relation(BEFORE, relation.name), relation, key)
                if difference:
                    show_difference(difference)

    def _problem(self, result: NodeResult) -> Problem:
        names: list[Any] = []
        if "does not exist" in (result.message or ""):
            query = "select column_name from svv_columns where table_schema in (%s, 'raw')"
            with self._connection.cursor() as cursor:
                cursor.execute(query, (self.project.schema,))
                names = [name for (name,) in cursor.fetchall()]
        return of_result(result, self.project.folder, [*self.project.names(), *names])
