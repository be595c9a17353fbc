"""Waits for a task of ECS in the triggerer, and hands its news to Airflow: the output of dbt, and XComs.

The triggerer loads this module when it starts, so a change here needs an update of the MWAA environment.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from mwaa_pipelines.ecs_progress import EcsProgress

# One GET each: a cent for two hours.
_SECONDS = 0.25

log = logging.getLogger(__name__)


class EcsTrigger(BaseTrigger):
    """Ends when the task of ECS has ended or was lost.

    If dbt has succeeded, Airflow's task ends here: a worker would need seconds to start, and would do nothing. If not,
    a worker fails it, which reports the error to dbt_check. Its event has `exit_code` and `error`.

    Args:
        task_arn: the task.
        url: `s3://bucket/prefix` of the runner's news.
        memory: MiB that the task can use, for the message when that was too little.
        deadline: when to stop the task, in seconds since 1970; None: never. Airflow would not stop it.
    """

    def __init__(self, task_arn: str, url: str, memory: int, deadline: float | None) -> None:
        super().__init__()
        self._arguments = {"task_arn": task_arn, "url": url, "memory": memory, "deadline": deadline}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, which Airflow stores."""
        return f"{EcsTrigger.__module__}.{EcsTrigger.__qualname__}", self._arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Hand over the news until there is an outcome.

        After a restart of the triggerer, it hands over all news again, which changes nothing.
        """
        progress = await asyncio.to_thread(EcsProgress, **self._arguments)
        ti = self.task_instance
        where = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
        while True:
            for batch in await asyncio.to_thread(lambda: list(progress.look())):
                if batch.lines:
                    # As one message: of many, Airflow drops those that it has not written when the trigger ends.
                    log.info("%s", "\n".join(batch.lines))
                for key, value in batch.xcoms.items():
                    await sync_to_async(XCom.set)(key, value, **where)
            if outcome := progress.outcome:
                failed = outcome.exit_code or outcome.error
                yield TriggerEvent(asdict(outcome)) if failed else TaskSuccessEvent()
                return
            await asyncio.sleep(_SECONDS)

    async def on_kill(self) -> None:
        """Stop the task. Airflow calls this when somebody marks its task as failed, or clears it."""
        await asyncio.to_thread(lambda: EcsProgress(**self._arguments).stop("The task in Airflow was ended"))
