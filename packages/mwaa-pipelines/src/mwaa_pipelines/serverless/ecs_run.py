"""Runs dbt of a workflow's task in ECS: with the program, image and cluster of execution_mode ecs.

A function, and not the service's EcsRunTaskOperator, for three reasons. A definition is the same in all accounts, but
the operator needs subnets and a security group in it. Before a retry, the operator does not wait until the task of the
earlier try has stopped, so both could change the same tables. And it sees neither dbt's results nor a lost task.
"""

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.ecs_job import parsed_project, start_job, stop_left_running
from mwaa_pipelines.ecs_progress import EcsProgress
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import Cluster
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.outcome import Outcome
from mwaa_pipelines.runner.stream import Batch

ENDED = "the task was ended before dbt had built everything. Its results so far were kept"
# Shown by ECS.
_REASON = "The task in Airflow was ended"
_SECONDS = 1.0

log = logging.getLogger(__name__)


def run_job_in_ecs(ecs: Ecs, job: Job, push: Callable[[str, Any], None]) -> Outcome:
    """Run a job in a task of ECS, copy its output to the log, and wait for its end.

    Args:
        ecs: the pipeline's setting.
        job: the dbt command.
        push: receives the XComs of the task.

    Raises:
        PipelineError: ECS refused the task; the message says why.
        AirflowFailException, AirflowTaskTimeout: Airflow has ended the task. The task of ECS has stopped then, or
            was asked to stop 150 seconds ago.
    """

    def for_cluster(cluster: Cluster) -> Job:
        parsed = parsed_project(cluster, job.dag_id, job.release_id or "")
        return dataclasses.replace(job, parsed=parsed, memory=ecs.memory)

    def take(batch: Batch) -> None:
        for line in batch.lines:
            log.info("%s", line)
        for key, value in batch.xcoms.items():
            push(key, value)

    progress: EcsProgress | None = None
    with _noted_sigterm() as is_ended:
        try:
            progress = EcsProgress(**start_job(ecs, for_cluster))
            while not (progress.outcome or is_ended.is_set()):
                for batch in progress.look():
                    take(batch)
                if not progress.outcome:
                    time.sleep(_SECONDS)
        except PipelineError:
            raise
        except BaseException:
            if progress:
                progress.end(_REASON, take)
            else:
                # ECS may have started the task.
                stop_left_running(ecs, job.dag_id, job.run_id, [job.task_id])
            raise
        if not progress.outcome:
            progress.end(_REASON, take)
            raise AirflowFailException(ENDED)
    return progress.outcome


@contextlib.contextmanager
def _noted_sigterm() -> Iterator[threading.Event]:
    """Note SIGTERM in an event. boto3 would count an exception of the handler as a failed request, and repeat that."""
    event = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
