"""Waits for a task of ECS in the triggerer, and hands its news to Airflow: the output of dbt, and XComs.

The triggerer loads this module when it starts, so a change here needs an update of the MWAA environment.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import boto3
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.ecs_task import cluster_of, find_task, why_stopped
from mwaa_pipelines.runner.stream import Batch, BatchReader

_SECONDS = 1.0
_SECONDS_BETWEEN_LOOKS_AT_ECS = 10.0
# The runner writes something every ten seconds.
LOST_SECONDS = 45.0

log = logging.getLogger(__name__)


class EcsTrigger(BaseTrigger):
    """Ends when the task of ECS has ended or was lost. Its event has `exit_code`, or None, and `error`.

    Args:
        task_arn: the task.
        url: `s3://bucket/prefix` of the runner's news.
        memory: MiB that the task can use, for the message when that was too little.
    """

    def __init__(self, task_arn: str, url: str, memory: int) -> None:
        super().__init__()
        self._arguments = {"task_arn": task_arn, "url": url, "memory": memory}
        self._task_arn, self._url, self._memory = task_arn, url, memory
        self._status = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, which Airflow stores."""
        return f"{EcsTrigger.__module__}.{EcsTrigger.__qualname__}", self._arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Hand over the news until the runner has ended, the task has stopped, or nothing came for 45 seconds.

        After a restart of the triggerer, it hands over all news again, which changes nothing.
        """
        exit_code, error = await self._end()
        yield TriggerEvent({"exit_code": exit_code, "error": error})

    async def on_kill(self) -> None:
        """Stop the task. Airflow calls this when somebody marks its task as failed, or clears it."""
        await asyncio.to_thread(self._stop, "The task in Airflow was ended")

    async def _end(self) -> tuple[int | None, str]:
        s3, ecs = await asyncio.to_thread(lambda: (boto3.client("s3"), boto3.client("ecs")))
        reader = BatchReader(s3, self._url)
        last_sign = next_look = time.monotonic()
        task: dict[str, Any] | None = {}
        while True:
            try:
                # Before the news, because these are complete once the task has stopped.
                if time.monotonic() >= next_look:
                    task = await asyncio.to_thread(find_task, ecs, self._task_arn)
                    self._log_status(task)
                    next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS_AT_ECS
                for batch in await asyncio.to_thread(lambda: list(reader.read())):
                    last_sign = time.monotonic()
                    await self._hand_over(batch)
                    if batch.is_last:
                        return batch.exit_code, batch.error
            except (BotoCoreError, ClientError) as error:
                if _is_denied(error):
                    return None, f"Airflow cannot follow the task {self._task_arn} of ECS: {error}"
                log.warning("AWS does not answer, trying again: %s", error)
                last_sign = time.monotonic()
            if task is None or task.get("lastStatus") == "STOPPED":
                return None, why_stopped(task, self._memory)
            if self._status != "RUNNING":
                last_sign = time.monotonic()
            elif time.monotonic() - last_sign > LOST_SECONDS:
                await asyncio.to_thread(self._stop, "No sign of life")
                return None, (
                    f"the task {self._task_arn} gave no sign of life for {LOST_SECONDS:.0f} seconds, and was stopped. "
                    "Clear the failed tasks of the run to run the rest"
                )
            await asyncio.sleep(_SECONDS)

    async def _hand_over(self, batch: Batch) -> None:
        for line in batch.lines:
            log.info("%s", line)
        ti = self.task_instance
        where = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
        for key, value in batch.xcoms.items():
            await sync_to_async(XCom.set)(key, value, **where)

    def _log_status(self, task: dict[str, Any] | None) -> None:
        status = task["lastStatus"] if task else "unknown"
        if status != self._status:
            self._status = status
            log.info("ECS task: %s", status)

    def _stop(self, reason: str) -> None:
        try:
            boto3.client("ecs").stop_task(cluster=cluster_of(self._task_arn), task=self._task_arn, reason=reason)
        except (BotoCoreError, ClientError) as error:
            log.warning("The task %s could not be stopped: %s", self._task_arn, error)


def _is_denied(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"].startswith("AccessDenied")
