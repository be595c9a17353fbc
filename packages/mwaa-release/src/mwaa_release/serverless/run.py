"""Runs a workflow once, and says what failed."""

import time
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.serverless.workflow import RUN_KEY
from mwaa_release.errors import DeployError, from_aws
from mwaa_release.progress import Progress, no_progress
from mwaa_release.serverless.workflows import Workflows

_ENDED = ("SUCCESS", "FAILED", "TIMEOUT", "STOPPED")


@dataclass
class WorkflowRun:
    """A run that has ended. `airflow_run_id` is that of the audit rows, and empty if no task has run."""

    run_id: str
    state: str
    seconds: float
    error: str = ""
    airflow_run_id: str = ""
    tasks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether all of its tasks succeeded."""
        return self.state == "SUCCESS"

    @property
    def failed_tasks(self) -> list[str]:
        """The tasks that failed."""
        return sorted(task["TaskId"] for task in self.tasks if task["Status"] in ("FAILED", "TIMEOUT"))


def run_workflow(
    serverless: Any,
    workflows: Workflows,
    name: str,
    progress: Progress = no_progress,
    poll_seconds: float = 10.0,
    total_seconds: float = 3300.0,
) -> WorkflowRun:
    """Start a run of a workflow, and wait for its end.

    Args:
        serverless: boto3 client of mwaa-serverless.
        workflows: those of the account.
        name: the workflow.
        progress: receives the current state.
        poll_seconds: interval between requests.
        total_seconds: how long to wait.

    Raises:
        SetupError: there is no such workflow.
        DeployError: AWS refused a request, or the run does not end.
    """
    arn = workflows.arn(name)
    started = time.monotonic()
    try:
        run_id = serverless.start_workflow_run(WorkflowArn=arn)["RunId"]
        while True:
            detail = serverless.get_workflow_run(WorkflowArn=arn, RunId=run_id)["RunDetail"]
            elapsed = time.monotonic() - started
            if detail["RunState"] in _ENDED:
                return _ended(serverless, arn, run_id, detail, elapsed)
            if elapsed > total_seconds:
                raise DeployError(
                    f"run {run_id} of {name} is still {detail['RunState']} after {elapsed / 60:.0f} minutes"
                )
            progress(_state(serverless, arn, run_id, detail), int(elapsed), int(total_seconds))
            time.sleep(poll_seconds)
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"running the workflow {name}") from error


def _state(serverless: Any, arn: str, run_id: str, detail: dict[str, Any]) -> str:
    answer = serverless.list_task_instances(WorkflowArn=arn, RunId=run_id)
    running = sum(task["Status"] == "RUNNING" for task in answer.get("TaskInstances", []))
    ended = sum(task["Status"] in ("SUCCESS", "FAILED", "UPSTREAM_FAILED") for task in answer.get("TaskInstances", []))
    return f"run {run_id}: {detail['RunState'].lower()}, {ended} tasks ended, {running} running"


def _ended(serverless: Any, arn: str, run_id: str, detail: dict[str, Any], elapsed: float) -> WorkflowRun:
    pages = serverless.get_paginator("list_task_instances").paginate(WorkflowArn=arn, RunId=run_id)
    ids = [task["TaskInstanceId"] for page in pages for task in page.get("TaskInstances", [])]
    tasks = [serverless.get_task_instance(WorkflowArn=arn, RunId=run_id, TaskInstanceId=task_id) for task_id in ids]
    runs = [task["Xcom"][RUN_KEY] for task in tasks if RUN_KEY in (task.get("Xcom") or {})]
    seconds = float(detail.get("Duration") or elapsed)
    error = detail.get("ErrorMessage", "")
    return WorkflowRun(run_id, detail["RunState"], seconds, error, runs[0].strip('"') if runs else "", tasks)


def failure(name: str, run: WorkflowRun) -> str:
    """Return the message about a run that did not succeed."""
    tasks = (
        f"; failed: {', '.join(run.failed_tasks)}. Their logs, and the audit table, say why" if run.failed_tasks else ""
    )
    reason = f" ({run.error})" if run.error else ""
    return f"workflow {name}: run {run.run_id} is {run.state}{reason}{tasks}"
