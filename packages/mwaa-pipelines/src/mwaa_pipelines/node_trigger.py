"""The trigger of the sensors. It waits for a node in the triggerer, where waiting needs no process.

Airflow 3.3 can start a task in the triggerer and end it there if the node succeeded, so in a run without failures no
sensor uses a worker slot. In all other cases, the sensor resumes on a worker.

The triggerer loads this module when it starts, so a change here needs an update of the MWAA environment.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from mwaa_pipelines.cosmos_internals import NodeProgress, is_dbt_node_status_success

_POKE_SECONDS = 2.0
# An API server or a metadata database that restarts answers again within a minute.
_ERRORS_IN_A_ROW = 60

log = logging.getLogger(__name__)


class NodeTrigger(BaseTrigger):
    """Ends the task when the node succeeded. Resumes it on a worker when the node did not succeed, or dbt has ended.

    Args:
        model_unique_id: the node, or the node whose tests are watched.
        producer_task_id: the task that runs dbt.
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
        """Return the class and its arguments, which Airflow stores."""
        return f"{NodeTrigger.__module__}.{NodeTrigger.__qualname__}", self._arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check every two seconds what the dbt process has reported."""
        ti = self.task_instance
        self._drop_dag_reference()
        progress = NodeProgress(ti, **self._arguments)
        errors = 0
        while True:
            try:
                # In this order, because all reports are complete once the producer has ended.
                producer_ended = await progress.producer_ended()
                status = await progress.node_status()
                outcomes = await progress.outcomes() if status is not None else []
            except AirflowRuntimeError as error:
                errors += 1
                if errors == _ERRORS_IN_A_ROW:
                    raise
                log.warning("Airflow's API did not answer; trying again: %s", error)
                await asyncio.sleep(_POKE_SECONDS)
                continue
            errors = 0
            if status is not None or producer_ended:
                self._log(status, outcomes)
            if is_dbt_node_status_success(status):
                yield TaskSuccessEvent()
                return
            if status is not None or producer_ended:
                yield TriggerEvent({})
                return
            await asyncio.sleep(_POKE_SECONDS)

    def _log(self, status: Any, outcomes: list[str]) -> None:
        """Log what dbt reported. Airflow shows it as the log of the task."""
        for line in outcomes:
            log.info(line)
        node, dbt_task = self._arguments["model_unique_id"], self._arguments["producer_task_id"]
        nodes = f"the tests of {node}" if self._arguments["is_test_sensor"] else node
        reported = f"dbt reported {status} for {nodes}" if status else f"dbt ended without a report about {nodes}"
        ti, pages = self.task_instance, conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
        url = f"{pages}/dags/{ti.dag_id}/runs/{quote(ti.run_id)}/tasks/{dbt_task}"
        log.info("%s. The output of dbt is in the log of %s: %s", reported, dbt_task, url)

    def _drop_dag_reference(self) -> None:
        """Release the DAG's other tasks. Airflow loads the whole DAG for each trigger: 4 MB for 1,000 models."""
        if task := getattr(self.task_instance, "task", None):
            task.dag.task_dict.clear()
            group = task.task_group
            while group is not None:
                group.children.clear()
                group = group.parent_group
