"""Lets each task of a Cosmos task group run its own node, or the tests of its own node, only."""

from collections.abc import Iterable
from pathlib import Path

from airflow.sdk import TaskGroup
from cosmos.airflow.task_group import DbtTaskGroup
from cosmos.constants import DbtResourceType

from mwaa_pipelines.audit_operator import AuditOperator
from mwaa_pipelines.selection import exact_selector
from mwaa_pipelines.sensor_kinds import FolderSensor
from mwaa_pipelines.sensors import NodeSensor


def run_exactly(group: DbtTaskGroup, manifest: Path, exclude: Iterable[str] = ()) -> None:
    """Let each task run its own node or tests only. Cosmos selects them by names that can match other nodes, too.

    Args:
        group: a task group of Cosmos.
        manifest: the release's manifest with all nodes.
        exclude: dbt selectors, for tasks that run a node and its tests in one process.
    """
    nodes = group.dbt_graph.filtered_nodes
    for node_id, item in group.tasks_map.items():
        for operator in item.children.values() if isinstance(item, TaskGroup) else [item]:
            # An ephemeral model has an empty task.
            if not hasattr(operator, "base_cmd"):
                continue
            # OpenLineage reads it after dbt, and the selection's is too short for that.
            operator.manifest_filepath = manifest
            # The producer builds all nodes.
            if node_id not in nodes or isinstance(operator, AuditOperator):
                continue
            if isinstance(operator, FolderSensor):
                operator.nodes = operator.nodes or tuple(nodes[node] for node in operator.folder.nodes)
                continue
            operator.select = exact_selector(nodes[node_id])
            tests = [nodes[test] for test in group.dbt_graph.tests_per_model.get(node_id, [])]
            if isinstance(operator, NodeSensor):
                operator.nodes = tuple(tests) if operator.is_test_sensor else (nodes[node_id],)
            elif operator.base_cmd == ["test"] and nodes[node_id].resource_type != DbtResourceType.TEST:
                # A test of several models has its own task.
                operator.select = " ".join(exact_selector(test) for test in tests if len(test.depends_on) == 1)
                operator.exclude = None
            elif operator.base_cmd == ["build"]:
                operator.exclude = " ".join(filter(None, [operator.exclude, *exclude]))
