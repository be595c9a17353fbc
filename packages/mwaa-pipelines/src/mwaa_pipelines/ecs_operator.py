"""Lets tasks that Cosmos created run dbt in tasks of ECS. The one that builds the models waits in the triggerer."""

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow.configuration import conf
from cosmos.hooks.subprocess import FullOutputSubprocessResult

from mwaa_pipelines.compatibility import AirflowException, AirflowFailException
from mwaa_pipelines.ecs_job import parsed_project, start_job
from mwaa_pipelines.ecs_progress import EcsProgress
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import Cluster
from mwaa_pipelines.ecs_trigger import EcsTrigger
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.release import Release
from mwaa_pipelines.reporting import try_number
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.unwritten_rows import KEPT_RESULTS

_SECONDS = 0.5


class EcsCommand:
    """Runs the dbt command of an operator in ECS. Comes before Cosmos's operator in the bases of a class."""

    ecs: Ecs
    release: Release
    # Whether it waits in the triggerer, which occupies no worker. Others run a few seconds, in few runs.
    defers = False
    # Tasks of Airflow that have ended. What they have left running in ECS must end, too.
    after: Collection[str] = ()
    has_measured = False
    # Ids of nodes by the selector for them, see `state_arguments`.
    selected_ids: Mapping[str, Sequence[str]] = {}
    _progress: EcsProgress | None = None

    def run_command(self, cmd: list[str], env: Any, context: Any, **_: Any) -> FullOutputSubprocessResult:
        """Start a task of ECS for the command, and wait for it. Cosmos would start a process here.

        The runner does what Cosmos does after dbt: the callbacks, which store and push dbt's results.

        Raises:
            AirflowFailException: ECS refused the task; the message says why.
            AirflowException: dbt or its task failed; the message says why.
        """
        waiting = self._start(cmd, context)
        # Otherwise the triggerer could not import the trigger.
        if self.defers and "AIRFLOW__DBT__START_IN_TRIGGERER" in os.environ:
            limit = self.execution_timeout
            deadline = time.time() + limit.total_seconds() if limit else None
            self.defer(trigger=EcsTrigger(**waiting, deadline=deadline), method_name=self.finish.__name__)
        self._progress = EcsProgress(**waiting)
        lines: list[str] = []
        while True:
            for batch in self._progress.look():
                for line in batch.lines:
                    self.log.info("%s", line)
                for key, value in batch.xcoms.items():
                    context["ti"].xcom_push(key=key, value=value)
                # Of the task that measures sources.
                self.has_measured = self.has_measured or RESULTS_KEY in batch.xcoms
                lines += batch.lines
            if outcome := self._progress.outcome:
                self.finish(context, {"exit_code": outcome.exit_code, "error": outcome.error})
                return FullOutputSubprocessResult(outcome.exit_code, lines[-1] if lines else "", lines)
            time.sleep(_SECONDS)

    def finish(self, context: Any, event: dict[str, Any]) -> None:
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

    def on_kill(self) -> None:
        """Stop the task of ECS, and wait for its end. Airflow calls this on a worker only."""
        if self._progress:
            self._progress.end("The task in Airflow was ended")

    def _start(self, command: list[str], context: Any) -> dict[str, Any]:
        """Start a task of ECS, and return what follows it."""
        try:
            return start_job(self.ecs, lambda cluster: self._job(command, cluster, context), self.after)
        except PipelineError as error:
            raise AirflowFailException(str(error)) from None

    def _job(self, command: list[str], cluster: Cluster, context: Any) -> Job:
        # The worker's own variables mean nothing there.
        self.append_env = False
        profile = self.profile_config.profile_mapping
        backend = json.loads(conf.get("secrets", "backend_kwargs", fallback="") or "{}")
        return Job(
            # An operator that a sensor creates belongs to no DAG.
            dag_id=context["ti"].dag_id,
            run_id=context["run_id"],
            task_id=context["ti"].task_id,
            try_number=try_number(context),
            projects=cluster.projects,
            project_name=self.profile_config.profile_name,
            release_id=self.release.release_id,
            command=command[1:],
            environment={name: str(value) for name, value in self.get_env(context).items()},
            conn_id=profile.conn_id,
            connection_secret=f"{backend.get('connections_prefix', 'airflow/connections')}/{profile.conn_id}",
            secret_name=profile.secret_name,
            secret_env=profile.secret_env,
            profile_args=profile.profile_args,
            watched_together=getattr(self, "watched_together", None),
            freshness_is_required=getattr(self, "is_required", None),
            parsed=parsed_project(cluster, context["ti"].dag_id, self.release.release_id),
            kept_results=os.environ.get(KEPT_RESULTS, ""),
            memory=self.ecs.memory,
            selected_ids={selector: list(nodes) for selector, nodes in self.selected_ids.items()},
        )


def run_in_ecs(task: Any, ecs: Ecs, release: Release, *, defers: bool = False, after: Collection[str] = ()) -> None:
    """Let a task that Cosmos created run dbt in ECS.

    Args:
        task: a local operator of Cosmos. Cosmos has no setting for the class of all of them.
        ecs: the pipeline's setting.
        release: which the task builds.
        defers: whether it waits in the triggerer.
        after: tasks that have ended when it runs dbt. If one was lost, its dbt may still run in ECS, and is stopped.
    """
    task.__class__ = type(f"Ecs{type(task).__name__}", (EcsCommand, type(task)), {"defers": defers})
    task.ecs, task.release, task.after = ecs, release, after
