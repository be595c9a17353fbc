"""Follows a task of ECS: the news of its runner, and whether it is still there."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.ecs_task import STOP_SECONDS, STOPPED_BY_OTHERS, cluster_of, find_task, why_stopped
from mwaa_pipelines.runner.outcome import Outcome
from mwaa_pipelines.runner.stream import Batch, BatchReader

SECONDS_BETWEEN_LOOKS_AT_ECS = 10.0
_SECONDS = 1.0
# The runner writes something every ten seconds.
LOST_SECONDS = 45.0
# ECS may not show a new task at once.
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
NEW_SECONDS = 60.0
# While AWS does not answer, Airflow cannot know whether the task is lost.
UNANSWERED_SECONDS = 600.0

log = logging.getLogger(__name__)


class EcsProgress:
    """The progress of a task of ECS. It has an outcome when the runner has ended, or the task has stopped.

    A task that is lost or takes too long is stopped, and has no outcome before that: until then it can still change
    tables, which a retry must not do at the same time.

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
        self._last_sign = self._next_look = self._answered = self._began = time.monotonic()
        # Why this stops the task, for people and for ECS. Empty: it does not.
        self._error = self._reason = ""
        self._stop_until = 0.0
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
            self._on_error(error)
        if self.outcome:
            return
        if self._error:
            self._check_stopped()
        elif self._deadline and time.time() > self._deadline:
            self._end(
                "Time limit of the task in Airflow",
                f"the task {self._task_arn} was stopped, because it took longer than task_timeout_minutes",
            )
        elif self._has_stopped:
            self._fail(why_stopped(self._task, self._memory))
        elif self._status != "RUNNING":
            self._last_sign = time.monotonic()
        elif time.monotonic() - self._last_sign > LOST_SECONDS:
            self._end(
                "No sign of life",
                f"the task {self._task_arn} gave no sign of life for {LOST_SECONDS:.0f} seconds, and was stopped. "
                "Clear the failed tasks of the run to run the rest",
            )

    def end(self, reason: str, take: Callable[[Batch], None] = lambda _: None) -> None:
        """Stop the task if it has no outcome, and wait until it has stopped, for at most 150 seconds.

        Args:
            reason: shown by ECS.
            take: receives the news until then.
        """
        if self.outcome:
            return
        self._end(reason, reason)
        while not self.outcome:
            time.sleep(_SECONDS)
            for batch in self.look():
                take(batch)

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

    @property
    def _has_stopped(self) -> bool:
        return self._status == "STOPPED" or self._task is None

    def _on_error(self, error: BotoCoreError | ClientError) -> None:
        """Wait for AWS, unless it has not answered for long, or denies access."""
        if isinstance(error, ClientError) and error.response["Error"]["Code"].startswith("AccessDenied"):
            if not self._error:
                self._end("Airflow was denied access", f"Airflow cannot follow the task {self._task_arn}: {error}")
        elif time.monotonic() - self._answered > UNANSWERED_SECONDS:
            self._fail(f"AWS did not answer for {UNANSWERED_SECONDS / 60:.0f} minutes: {error}")
        else:
            log.warning("AWS does not answer, trying again: %s", error)
            self._last_sign = time.monotonic()

    def _look_at_ecs(self) -> None:
        before, self._task = self._status, find_task(self._ecs, self._task_arn)
        if self._task is None and not before and time.monotonic() - self._began < NEW_SECONDS:
            self._task = {}
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS_AT_ECS
        if self._status != before:
            log.info("ECS task: %s", self._status)
        if self._error and not self._has_stopped and (self._task or {}).get("desiredStatus") != "STOPPED":
            # An earlier call has failed.
            self.stop(self._reason)

    def _explained(self, error: str) -> str:
        """Return the runner's error with the reason of ECS, if ECS stopped it."""
        if error and self._error:
            return f"{self._error}. {error}"
        if error:
            # The runner's last news come once, so its own words must do if AWS does not answer now.
            with contextlib.suppress(BotoCoreError, ClientError):
                self._look_at_ecs()
            if self._task and self._task.get("stopCode") in STOPPED_BY_OTHERS:
                return f"{why_stopped(self._task, self._memory)}. {error}"
        return error

    def _end(self, reason: str, error: str) -> None:
        """Stop the task, and give it `error` as its outcome when it has stopped."""
        log.error("Stopping the ECS task: %s", error)
        self._reason, self._error = reason, error
        self._stop_until = time.monotonic() + STOP_SECONDS
        self.stop(reason)

    def _check_stopped(self) -> None:
        if self._has_stopped:
            self._fail(self._error)
        elif time.monotonic() > self._stop_until:
            self._fail(f"{self._error}. But ECS has not stopped it within {STOP_SECONDS:.0f} seconds")

    def _fail(self, error: str) -> None:
        self.outcome = Outcome(1, error)
