"""The trigger of the sensors. It waits for a node in the triggerer, where waiting needs no process.

Airflow 3.3 can start a task in the triggerer and end it there, so in a run without failures no sensor uses a worker
slot. All sensors of a run start at once, whatever the state of their upstream tasks: Airflow would need seconds from
one layer to the next. So the trigger waits for the upstream tasks, but only if dbt has not built the node.

It also waits before a retry, because Airflow itself would retry every task that the trigger ends as failed, also those
that cannot run.

The triggerer loads this module when it starts, so a change here needs an update of the MWAA environment.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from mwaa_pipelines.node_outcomes import SUCCEEDED
from mwaa_pipelines.run_progress import RunProgress

# Between two looks at what the triggers of a run share.
_SECONDS = 0.25

log = logging.getLogger(__name__)


class NodeTrigger(BaseTrigger):
    """Ends the task when dbt has built the node, or cannot build it. Resumes it on a worker if the node must run again.

    Args:
        outcome_key: of the nodes that are watched, see `node_outcomes`.
        producer_task_id: the task that runs dbt.
        upstream: the tasks that must have succeeded before the node runs again.
        retries: how often the node may run again after it failed.
        retry_delay: seconds before it runs again.
        attempt: 1 to watch dbt; a higher number to run the node again.
    """

    def __init__(
        self,
        outcome_key: str,
        producer_task_id: str,
        upstream: Sequence[str],
        retries: int,
        retry_delay: float,
        attempt: int = 1,
    ) -> None:
        super().__init__()
        self._arguments = {
            "outcome_key": outcome_key,
            "producer_task_id": producer_task_id,
            "upstream": list(upstream),
            "retries": retries,
            "retry_delay": retry_delay,
            "attempt": attempt,
        }
        self._outcome_key = outcome_key
        self._producer, self._upstream = producer_task_id, list(upstream)
        self._retries, self._retry_delay, self._attempt = retries, retry_delay, attempt
        self._can_wait = True

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, which Airflow stores."""
        return f"{NodeTrigger.__module__}.{NodeTrigger.__qualname__}", self._arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield how the task ends, as soon as that is known, or that the node must run again."""
        _drop_dag_reference(self.task_instance)
        yield await self.event()

    async def event(self, *, can_wait: bool = True) -> TriggerEvent:
        """Wait for dbt, then for the delay of a retry, and for the upstream tasks: as far as the node needs them.

        Args:
            can_wait: False: only look once.

        Raises:
            TimeoutError: it has to wait, but cannot.
        """
        self._can_wait = can_wait
        progress = RunProgress.of(self.task_instance, self._producer)
        progress.decide(self.task_instance.task_id, None)
        event = await self._end(progress)
        state = getattr(event, "task_instance_state", None)
        progress.decide(self.task_instance.task_id, state and str(state.value))
        return event

    async def _end(self, progress: RunProgress) -> TriggerEvent:
        attempt = self._attempt
        if attempt == 1:
            status = await self._watch(progress)
            if status in SUCCEEDED:
                return TaskSuccessEvent()
            if status:
                attempt = 2
        if attempt > 1 + self._retries:
            return TaskFailedEvent()
        if attempt > 1:
            log.info("Retry %s of %s in %g seconds", attempt - 1, self._retries, self._retry_delay)
            await self._sleep(self._retry_delay)
        while not progress.dbt_ended:
            await self._next(progress)
        while any(progress.end_of(task_id) is None for task_id in self._upstream):
            await self._next(progress)
        ends = {task_id: progress.end_of(task_id) for task_id in self._upstream}
        if failed := [task_id for task_id, state in ends.items() if state in ("failed", "upstream_failed")]:
            log.error("Not run, because %s failed", ", ".join(failed))
            return TaskFailedEvent()
        if skipped := [task_id for task_id, state in ends.items() if state == "skipped"]:
            log.info("Not run, because %s was skipped", ", ".join(skipped))
            return TaskSkippedEvent()
        return TriggerEvent({"attempt": attempt})

    async def _watch(self, progress: RunProgress) -> str | None:
        """Wait for dbt's report, log it, and return the status; None if dbt has not built the node.

        A task that a person has cleared begins after dbt has ended, or waits for its end: reports of a process that has
        not begun yet would be those of an earlier one.
        """
        is_cleared = self.task_instance.try_number > 1
        await progress.look()
        if is_cleared and progress.dbt_ended:
            log.info("Cleared after dbt ended, so dbt runs again for %s", self._outcome_key)
            return None
        while not (progress.dbt_ended or (self._outcome_key in progress.outcomes and not is_cleared)):
            await self._next(progress)
        outcome = progress.outcomes.get(self._outcome_key)
        if outcome and outcome["lines"]:
            # As one message: of hundreds, Airflow 3.3.1 drops those that it has not written when the trigger ends.
            log.info("%s", "\n".join(outcome["lines"]))
        reported = f"dbt reported {outcome['status']} for" if outcome else "dbt ended without a report about"
        ti, pages = self.task_instance, conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
        url = f"{pages}/dags/{ti.dag_id}/runs/{quote(ti.run_id)}/tasks/{self._producer}"
        log.info("%s %s. The output of dbt is in the log of %s: %s", reported, self._outcome_key, self._producer, url)
        if outcome:
            return None if is_cleared and outcome["status"] not in SUCCEEDED else outcome["status"]
        # dbt that succeeds without a node was told to leave it out.
        return "success" if progress.producer_state == "success" else None

    async def _next(self, progress: RunProgress) -> None:
        await self._sleep(_SECONDS)
        await progress.look()

    async def _sleep(self, seconds: float) -> None:
        if not self._can_wait:
            raise TimeoutError
        await asyncio.sleep(seconds)


def _drop_dag_reference(ti: Any) -> None:
    """Release the DAG's other tasks. Airflow loads the whole DAG for each trigger: 4 MB for 1,000 models."""
    if task := getattr(ti, "task", None):
        task.dag.task_dict.clear()
        group = task.task_group
        while group is not None:
            group.children.clear()
            group = group.parent_group
