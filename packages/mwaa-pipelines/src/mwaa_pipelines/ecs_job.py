"""Starts a task of ECS for a job of the runner, and stops what lost tasks of Airflow have left running."""

import logging
import uuid
from collections.abc import Callable, Collection
from typing import Any

import boto3

from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import Cluster, started_by
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.stream import job_key

log = logging.getLogger(__name__)


def start_job(ecs: Ecs, make_job: Callable[[Cluster], Job], after: Collection[str] = ()) -> dict[str, Any]:
    """Start a task of ECS for a job. First stop what earlier tries have left running.

    Args:
        ecs: the pipeline's setting.
        make_job: returns the job for the pipeline's cluster.
        after: tasks of Airflow that have ended. What they have left running in ECS must end, too.

    Returns:
        The arguments of EcsProgress: the task's ARN, the address of its news, and its memory in MiB.

    Raises:
        PipelineError: ECS refused, or an earlier task does not end; the message says why.
    """
    cluster, ecs_client = Cluster.read(boto3.client("ssm"), ecs.cluster), boto3.client("ecs")
    job = make_job(cluster)
    names = [started_by(job.dag_id, job.run_id, task_id) for task_id in (job.task_id, *after)]
    # Airflow counts a try of which it has lost the worker, too.
    if job.try_number > 1 or after:
        cluster.stop_earlier(ecs_client, names)
    prefix = f"{job.dag_id}/{uuid.uuid4()}"
    boto3.client("s3").put_object(Bucket=cluster.bucket, Key=job_key(prefix), Body=job.to_json())
    url = f"s3://{cluster.bucket}/{prefix}"
    task_arn = cluster.run(ecs_client, ecs, url, names[0])
    stream = f"dbt/dbt/{task_arn.rpartition('/')[2]}"
    log.info("ECS task %s. Its log: group %s, stream %s", task_arn, cluster.log_group, stream)
    return {"task_arn": task_arn, "url": url, "memory": ecs.memory}


def parsed_project(cluster: Cluster, dag_id: str, release_id: str) -> str:
    """Return the address at which the tasks of a release keep dbt's parsed project."""
    return f"s3://{cluster.bucket}/parsed/{dag_id}/{release_id}.msgpack"


def stop_left_running(ecs: Ecs, dag_id: str, run_id: str, task_ids: Collection[str]) -> None:
    """Stop what lost tasks of a run have left running in ECS. An error is logged.

    Args:
        ecs: the pipeline's setting.
        dag_id, run_id: the run.
        task_ids: its tasks that run dbt. All have ended.
    """
    try:
        names = {started_by(dag_id, run_id, task_id) for task_id in task_ids}
        Cluster.read(boto3.client("ssm"), ecs.cluster).stop_earlier(boto3.client("ecs"), names)
    except Exception:
        log.exception("dbt may still run in ECS")
