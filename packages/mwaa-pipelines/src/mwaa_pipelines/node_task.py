"""Tasks for nodes of a dbt project that Cosmos does not create, or creates differently."""

from typing import Any

from airflow.sdk import DAG, TaskGroup
from cosmos.constants import DbtResourceType
from cosmos.dbt.graph import DbtNode
from cosmos.operators.local import DbtBuildLocalOperator

from mwaa_pipelines.selection import exact_selector

# User-defined functions, since dbt 1.11. Cosmos 1.15.1 knows no such type, and adds it here.
FUNCTION = DbtResourceType("function")


class NodeTask:
    """Creates the task of a node. Comes before Cosmos's operator in the bases of a class."""

    # dbt selectors of further nodes that the task runs.
    further_selectors: tuple[str, ...] = ()

    @classmethod
    def of_node(
        cls, *, dag: DAG, task_group: TaskGroup, task_args: dict[str, Any], node: DbtNode, task_id: str, **_: Any
    ) -> Any:
        """Create the task of a node. Cosmos calls this as a converter in RenderConfig.node_converters."""
        arguments = {**task_args, **node.operator_kwargs_to_override}
        if node.owner:
            arguments["owner"] = node.owner
        return cls(
            dag=dag,
            task_group=task_group,
            task_id=task_id,
            select=" ".join([exact_selector(node), *cls.further_selectors]),
            extra_context={"dbt_node_config": node.context_dict},
            **arguments,
        )


class FunctionOperator(NodeTask, DbtBuildLocalOperator):
    """Builds a function in its own dbt process."""
