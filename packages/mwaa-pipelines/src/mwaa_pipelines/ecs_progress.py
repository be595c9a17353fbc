"""Follows a task of ECS: the news of its runner, and whether it is still there."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.ecs_task import STOPPED_BY_OTHERS, cluster_of, find_task, why_stopped
from mwaa_pipelines.runner.outcome import Outcome
from mwaa_pipelines.runner.stream import Batch, BatchReader

SECONDS_BETWEEN_LOOKS_AT_ECS = 10.0
# The runner writes something every ten seconds.
LOST_SECONDS = 45.0
# While AWS does not answer, Airflow cannot know whether the task is lost.
UNANSWERED_SECONDS = 600.0

log = logging.getLogger(__name__)


class EcsProgress:
    """The progress of a task of ECS. It has an outcome when the runner has ended, or the task has stopped or was lost.

    Args:
        task_arn: the task.
        url: `s3://bucket/prefix` of the runner's news.
        memory: MiB that the task can use, for the message when that was too little.
        deadline: when to stop the task, in seconds since 1970; None: never.
    """

    def __init__(self, task_arn: str, url: str, memory: int, deadline: float | None = None) -> None:
        self._task_arn, self._memory, self._deadline = task_arn, memory, deadline
        self._ecs, self._reader = boto3.client("ecs"), BatchReader(boto3.client("s3"), url)
        self._task: dict[str, Any] | None = {}
        self._last_sign = self._next_look = self._answered = time.monotonic()
        self.outcome: Outcome | None = None

    def look(self) -> Iterator[Batch]:
        """Yield the news since the last call, and set the outcome if there is one."""
        try:
            # Before the news, because these are complete once the task has stopped.
            if time.monotonic() >= self._next_look:
                self._look_at_ecs()
            for batch in self._reader.read():
                self._last_sign = time.monotonic()
                yield batch
                if batch.is_last:
                    self.outcome = Outcome(batch.exit_code or 0, self._explained(batch.error))
                    return
            self._answered = time.monotonic()
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"].startswith("AccessDenied"):
                self._fail(f"Airflow cannot follow the task {self._task_arn} of ECS: {error}")
                return
            if time.monotonic() - self._answered > UNANSWERED_SECONDS:
                self._fail(f"AWS did not answer for {UNANSWERED_SECONDS / 60:.0f} minutes: {error}")
                return
            log.warning("AWS does not answer, trying again: %s", error)
            self._last_sign = time.monotonic()
        if self._deadline and time.time() > self._deadline:
            self.stop("Time limit of the task in Airflow")
            self._fail(f"the task {self._task_arn} was stopped, because it took longer than task_timeout_minutes")
        elif self._status == "STOPPED" or self._task is None:
            self._fail(why_stopped(self._task, self._memory))
        elif self._status != "RUNNING":
            self._last_sign = time.monotonic()
        elif time.monotonic() - self._last_sign > LOST_SECONDS:
            self.stop("No sign of life")
            self._fail(
                f"the task {self._task_arn} gave no sign of life for {LOST_SECONDS:.0f} seconds, and was stopped. "
                "Clear the failed tasks of the run to run the rest"
            )

    def stop(self, reason: str) -> None:
        """Stop the task.

        Args:
            reason: shown by ECS.
        """
        try:
            self._ecs.stop_task(cluster=cluster_of(self._task_arn), task=self._task_arn, reason=reason)
        except (BotoCoreError, ClientError) as error:
            log.warning("The task %s could not be stopped: %s", self._task_arn, error)

    @property
    def _status(self) -> str:
        return (self._task or {}).get("lastStatus", "")

    def _look_at_ecs(self) -> None:
        before, self._task = self._status, find_task(self._ecs, self._task_arn)
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS_AT_ECS
        if self._status != before:
            log.info("ECS task: %s", self._status)

    def _explained(self, error: str) -> str:
        """Return the runner's error with the reason of ECS, if ECS stopped it."""
        if error:
            self._look_at_ecs()
            if self._task and self._task.get("stopCode") in STOPPED_BY_OTHERS:
                return f"{why_stopped(self._task, self._memory)}. {error}"
        return error

    def _fail(self, error: str) -> None:
        self.outcome = Outcome(1, error)
