"""The task that runs dbt in a task of ECS, and waits for it in the triggerer, so that it occupies no worker."""

import json
import os
import re
import uuid
from typing import Any

from airflow.configuration import conf
from cosmos.operators.watcher import DbtProducerWatcherOperator

from mwaa_pipelines.compatibility import AirflowException, AirflowFailException
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import Cluster
from mwaa_pipelines.ecs_trigger import EcsTrigger
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.release import Release
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.stream import job_key
from mwaa_pipelines.sensors import STARTS_IN_TRIGGERER
from mwaa_pipelines.unwritten_rows import KEPT_RESULTS


class EcsProducer(DbtProducerWatcherOperator):
    """Cosmos's operator, but its dbt command runs in ECS. `run_in_ecs` makes one of a task that Cosmos created."""

    ecs: Ecs
    release: Release

    def run_command(self, cmd: list[str], env: Any, context: Any, **_: Any) -> None:
        """Start a task of ECS for the command, and wait for it in the triggerer. Cosmos would start a process here.

        Raises:
            AirflowFailException: ECS refused the task; the message says why.
        """
        # Imported here because parsing a DAG file does not need it.
        import boto3

        if not STARTS_IN_TRIGGERER:
            raise AirflowFailException(
                "execution_mode: ecs needs a triggerer that finds mwaa_pipelines. startup.sh could not write "
                "mwaa_pipelines.pth; its log says why"
            )
        try:
            cluster = Cluster.read(boto3.client("ssm"), self.ecs.cluster)
            url = f"s3://{cluster.bucket}/{self.dag_id}/{uuid.uuid4()}"
            prefix = url.removeprefix(f"s3://{cluster.bucket}/")
            job = self._job(cmd, cluster.projects, context)
            boto3.client("s3").put_object(Bucket=cluster.bucket, Key=job_key(prefix), Body=job.to_json())
            started_by = re.sub(r"[^\w/-]", "_", f"{self.dag_id}/{context['run_id']}", flags=re.ASCII)[:128]
            task_arn = cluster.run(boto3.client("ecs"), self.ecs, url, started_by)
        except PipelineError as error:
            raise AirflowFailException(str(error)) from None
        self.log.info(
            "ECS task %s. Its log: group %s, stream dbt/dbt/%s",
            task_arn,
            cluster.log_group,
            task_arn.rpartition("/")[2],
        )
        self.defer(
            trigger=EcsTrigger(task_arn=task_arn, url=url, memory=self.ecs.memory),
            method_name=self.end.__name__,
            timeout=self.execution_timeout,
        )

    def end(self, context: Any, event: dict[str, Any]) -> None:
        """End the task as dbt, or the task of ECS, has ended.

        Raises:
            AirflowException: it failed; the message says why.
        """
        if event["error"]:
            raise AirflowException(event["error"])
        if event["exit_code"]:
            raise AirflowException(
                f"dbt command failed. The command returned a non-zero exit code {event['exit_code']}."
            )

    def _job(self, command: list[str], projects: str, context: Any) -> Job:
        # The worker's own variables mean nothing there.
        self.append_env = False
        profile = self.profile_config.profile_mapping
        backend = json.loads(conf.get("secrets", "backend_kwargs", fallback="") or "{}")
        return Job(
            dag_id=self.dag_id,
            run_id=context["run_id"],
            task_id=self.task_id,
            try_number=context["ti"].try_number,
            projects=projects,
            project_name=self.profile_config.profile_name,
            release_id=self.release.release_id,
            command=command[1:],
            environment={name: str(value) for name, value in self.get_env(context).items()},
            conn_id=profile.conn_id,
            connection_secret=f"{backend.get('connections_prefix', 'airflow/connections')}/{profile.conn_id}",
            secret_name=profile.secret_name,
            secret_env=profile.secret_env,
            profile_args=profile.profile_args,
            tests_per_model=self.tests_per_model,
            kept_results=os.environ.get(KEPT_RESULTS, ""),
            memory=self.ecs.memory,
        )


def run_in_ecs(producer: Any, ecs: Ecs, release: Release) -> None:
    """Let a task that Cosmos created run dbt in ECS.

    Args:
        producer: Cosmos's task. Cosmos has no setting for the class of it.
        ecs: the pipeline's setting.
        release: which the task builds.
    """
    producer.__class__ = EcsProducer
    producer.ecs, producer.release = ecs, release
