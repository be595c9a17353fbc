"""The trigger of the sensors. It waits for a node in the triggerer, where waiting needs no process.

Airflow 3.3 can start a task in the triggerer and end it there, so in a run without failures no sensor uses a worker
slot. All sensors of a run start at once, whatever the state of their upstream tasks: Airflow would need seconds from
one layer to the next. So the trigger waits for the upstream tasks, but only if dbt has not built the node.

The triggerer loads this module when it starts, so a change here needs an update of the MWAA environment.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from mwaa_pipelines.cosmos_internals import PRODUCER_TERMINAL_STATES, NodeProgress, is_dbt_node_status_success

_POKE_SECONDS = 2.0
# Of a model, seed, snapshot or function. Cosmos reports a skipped node as "failed".
_OWN_FAILURES = {"error", "runtime error", "fail", "partial success"}
# An API server or a metadata database that restarts answers again within a minute.
_ERRORS_IN_A_ROW = 60

log = logging.getLogger(__name__)


class NodeTrigger(BaseTrigger):
    """Ends the task when dbt has built the node, or cannot build it. Resumes it on a worker if the node must run again.

    Args:
        model_unique_id: the node, or the node whose tests are watched.
        producer_task_id: the task that runs dbt.
        is_test_sensor: whether tests are watched.
        upstream: the tasks that must have succeeded before the node runs again.
    """

    def __init__(
        self, model_unique_id: str, producer_task_id: str, is_test_sensor: bool, upstream: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._node = {
            "model_unique_id": model_unique_id,
            "producer_task_id": producer_task_id,
            "is_test_sensor": is_test_sensor,
        }
        self._upstream = list(upstream)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, which Airflow stores."""
        name = f"{NodeTrigger.__module__}.{NodeTrigger.__qualname__}"
        return name, {**self._node, "upstream": self._upstream}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for dbt's report. Without a success, wait until dbt and the upstream tasks have ended.

        A task's second try, or one that a person has cleared, begins after dbt has ended, or waits for its end: reports
        of a process that has not begun yet would be those of an earlier one.
        """
        self._drop_dag_reference()
        progress, is_first_try = NodeProgress(self.task_instance, **self._node), self.task_instance.try_number == 1
        status, state = None, await self._call(progress.producer_state)
        is_rerun = not is_first_try and state in PRODUCER_TERMINAL_STATES
        while status is None and state not in PRODUCER_TERMINAL_STATES:
            # In this order, because all reports are complete once the producer has ended.
            status = await self._call(progress.node_status) if is_first_try else None
            if status is None:
                await asyncio.sleep(_POKE_SECONDS)
                state = await self._call(progress.producer_state)
        if status is None and not is_rerun:
            status = await self._call(progress.node_status)
        self._log(status, await self._call(progress.outcomes) if status is not None else [])
        # dbt that succeeds without a node was told to leave it out.
        if is_dbt_node_status_success(status) or (status is None and state == "success" and not is_rerun):
            yield TaskSuccessEvent()
            return
        if is_first_try and status in _OWN_FAILURES and not self._node["is_test_sensor"]:
            yield TriggerEvent({"status": status})
            return
        while await self._call(progress.producer_state) not in PRODUCER_TERMINAL_STATES:
            await asyncio.sleep(_POKE_SECONDS)
        async for event in self._after_upstream(progress):
            yield event

    async def _after_upstream(self, progress: NodeProgress) -> AsyncIterator[TriggerEvent]:
        """Wait until all upstream tasks have ended. Then resume on a worker, if they succeeded."""
        states: dict[str, str | None] = {}
        while missing := set(self._upstream) - set(states):
            now = await self._call(progress.states, sorted(missing))
            states |= {task_id: state for task_id, state in now.items() if state in PRODUCER_TERMINAL_STATES}
            if missing - set(states):
                await asyncio.sleep(_POKE_SECONDS)
        if failed := sorted(task for task, state in states.items() if state in ("failed", "upstream_failed")):
            log.error("Not run, because %s failed", ", ".join(failed))
            yield TaskFailedEvent()
        elif skipped := sorted(task for task, state in states.items() if state == "skipped"):
            log.info("Not run, because %s was skipped", ", ".join(skipped))
            yield TaskSkippedEvent()
        else:
            yield TriggerEvent({})

    async def _call(self, question: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Ask Airflow's API. Errors are retried for two minutes."""
        for errors in range(1, _ERRORS_IN_A_ROW + 1):
            try:
                return await question(*arguments)
            except AirflowRuntimeError as error:
                if errors == _ERRORS_IN_A_ROW:
                    raise
                log.warning("Airflow's API did not answer; trying again: %s", error)
                await asyncio.sleep(_POKE_SECONDS)
        raise AssertionError

    def _log(self, status: Any, outcomes: list[str]) -> None:
        """Log what dbt reported. Airflow shows it as the log of the task."""
        for line in outcomes:
            log.info(line)
        node, dbt_task = self._node["model_unique_id"], self._node["producer_task_id"]
        nodes = f"the tests of {node}" if self._node["is_test_sensor"] else node
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
