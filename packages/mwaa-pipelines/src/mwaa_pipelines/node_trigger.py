"""The trigger of the sensors: waits for a node in the triggerer, where a wait costs no process.

Airflow 3.3 starts a task there and, if all went well, ends it there: of a green run no sensor ever needs a worker. What
else happens is told to the sensor, in a worker.

It is loaded when the triggerer starts: a change here needs an update of the environment.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from cosmos.operators._watcher.state import PRODUCER_TERMINAL_STATES, is_dbt_node_status_success
from cosmos.operators._watcher.triggerer import WatcherTrigger

_POKE_SECONDS = 2.0


class NodeTrigger(BaseTrigger):
    """Ends the task when the node has ended well, and hands it to a worker when it has not, or dbt is over.

    Args:
        model_unique_id: the node, or the one whose tests are watched.
        producer_task_id: the task of the dbt process.
        is_test_sensor: whether tests are watched.
    """

    def __init__(self, model_unique_id: str, producer_task_id: str, is_test_sensor: bool) -> None:
        super().__init__()
        self._arguments = {
            "model_unique_id": model_unique_id,
            "producer_task_id": producer_task_id,
            "is_test_sensor": is_test_sensor,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Name and arguments, as Airflow keeps them."""
        return f"{NodeTrigger.__module__}.{NodeTrigger.__qualname__}", self._arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every two seconds at what the dbt process has reported."""
        ti = self.task_instance
        self._let_the_dag_go()
        # It knows where Cosmos's producer keeps what.
        watched = WatcherTrigger(**self._arguments, dag_id=ti.dag_id, run_id=ti.run_id, map_index=ti.map_index)
        while True:
            # In this order: what was reported last is there once dbt is over.
            is_over = await watched._get_producer_task_status() in PRODUCER_TERMINAL_STATES
            status, _ = await watched._parse_dbt_node_status_and_compiled_sql()
            if is_dbt_node_status_success(status):
                yield TaskSuccessEvent()
                return
            if status is not None or is_over:
                yield TriggerEvent({})
                return
            await asyncio.sleep(_POKE_SECONDS)

    def _let_the_dag_go(self) -> None:
        """Forget the DAG's other tasks: Airflow reads all of it for each trigger, 4 MB for a thousand models."""
        if task := getattr(self.task_instance, "task", None):
            task.dag.task_dict.clear()
            group = task.task_group
            while group is not None:
                group.children.clear()
                group = group.parent_group
