"""Runs a pipeline once as a workflow, and returns the result as `make run` shows it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mwaa_local.aws import roles, seed
from mwaa_local.dag_run import Outcome, audit, audited_seconds
from mwaa_local.settings import Settings
from mwaa_pipelines.settings import Pipeline
from mwaa_release.progress import Steps
from mwaa_release.serverless.run import run_workflow
from mwaa_release.serverless.workflows import Workflows


def run_as_workflow(settings: Settings, pipeline: Pipeline, steps: Steps, check: Callable[[], None]) -> Outcome:
    """Start the workflow of a pipeline, wait for its end, and return the result.

    Args:
        settings: paths and ports of running stand-ins.
        pipeline: the workflow's.
        steps: where progress is shown.
        check: raises SetupError if a stand-in has ended.

    Raises:
        SetupError, DeployError: there is no such workflow, or a stand-in has ended.
    """
    # With the role of infra/github.yml, as `smoke` in a GitHub workflow.
    session = roles.job_session(settings, seed.RELEASE_ROLE_ARN)
    serverless, ssm = (roles.client_of(session, settings, service) for service in ("mwaa-serverless", "ssm"))
    seed.read_alerts(settings)
    with steps.step("Run") as step:

        def say(what: str, *_: int, **__: int) -> None:
            step.say(what)
            check()

        workflows = Workflows(serverless, ssm, seed.DAGS_BUCKET)
        run = run_workflow(serverless, workflows, pipeline.dag_name, say, poll_seconds=1)
    columns, rows = audit(settings, pipeline, run.airflow_run_id)
    return Outcome(
        pipeline.dag_name,
        run.airflow_run_id or run.run_id,
        "success" if run.succeeded else run.state.lower(),
        run.seconds,
        [_task(task) for task in run.tasks],
        columns,
        rows,
        seed.read_alerts(settings),
        dbt_seconds=audited_seconds(settings, pipeline, run.airflow_run_id) if rows else None,
    )


def _task(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task as Airflow's API shows it."""
    dates = {name: task.get(key) for name, key in (("start_date", "StartedAt"), ("end_date", "EndedAt"))}
    return {
        "task_id": task["TaskId"],
        "state": "skipped" if task["Status"] == "NONE" else task["Status"].lower(),
        "try_number": task.get("AttemptNumber", 0),
        **{
            name: date.astimezone(UTC).isoformat() if isinstance(date, datetime) else None
            for name, date in dates.items()
        },
    }
