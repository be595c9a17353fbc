"""The functions of a workflow's tasks, which the service calls on a worker of Airflow 3.0.6. Needs no Cosmos."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import boto3
from airflow.sdk import get_current_context

from mwaa_pipelines.alert import Alert, AlertNode
from mwaa_pipelines.compatibility import AirflowException, AirflowFailException, AirflowTaskTimeout
from mwaa_pipelines.ecs_job import stop_left_running
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.results import ERROR_KEY, RESULTS_KEY, first_error_line
from mwaa_pipelines.run_outcome import ALERT_NODES, nodes_to_report
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.outcome import KILLED
from mwaa_pipelines.runner.process import STOP_SECONDS
from mwaa_pipelines.serverless import workflow as variables
from mwaa_pipelines.serverless.ecs_run import ENDED, run_job_in_ecs
from mwaa_pipelines.serverless.limits import limit
from mwaa_pipelines.serverless.workflow import CONNECTIONS_PREFIX, JOB_FILE, OUTCOME_FILE, Workflow, read_workflow
from mwaa_pipelines.serverless.xcoms import PackedXComs, pack_results
from mwaa_pipelines.task_ids import AUDIT_GROUP
from mwaa_pipelines.unwritten_rows import KEPT_RESULTS, delete_stored_results, inject_stored_results

ALERT_KEY = "alert"
# For the results, after dbt has been killed because it did not end.
_STORE_SECONDS = 15.0

log = logging.getLogger(__name__)


def run_dbt() -> None:
    """Run the dbt command of this task, and push its results.

    Raises:
        AirflowException: dbt failed, or could not start; the message says why.
    """
    context = get_current_context()
    ti = context["ti"]
    ti.xcom_push(key=variables.RUN_KEY, value=ti.run_id)
    os.environ[KEPT_RESULTS] = os.environ.get(variables.KEPT_RESULTS, "")
    try:
        workflow = _workflow()
        # In the form in which the functions of an audit task of Cosmos read and change it.
        callbacks: dict[str, Any] = {"ti": SimpleNamespace(dag_id=workflow.dag_name), "task": SimpleNamespace(env={})}
        is_audit = ti.task_id == AUDIT_GROUP
        if is_audit:
            inject_stored_results(callbacks)
        job = _job(workflow, context, callbacks["task"].env)
        if workflow.ecs:
            _run_in_ecs(Ecs(**workflow.ecs), job, ti)
        else:
            _run(job, ti)
        if is_audit:
            delete_stored_results(callbacks)
    except BaseException as error:
        # The error is worth more than its XCom, which cannot be pushed while the task is ended.
        with contextlib.suppress(Exception):
            value = {"message": first_error_line(_message(error)), "try_number": ti.try_number}
            ti.xcom_push(key=ERROR_KEY, value=value)
        if isinstance(error, PipelineError):
            raise AirflowException(str(error)) from None
        raise


def check_dbt() -> None:
    """Raise if a task before this one failed, naming what failed. Push the alert's payload first.

    Raises:
        AirflowFailException: a node or task failed.
    """
    context = get_current_context()
    ti, dag = context["ti"], context["dag"]
    upstream = dag.get_task(ti.task_id).upstream_task_ids
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    tasks = {task_id: dag.get_task(task_id) for task_id in sorted(upstream)}
    failed, warned, _built = nodes_to_report(PackedXComs(ti), tasks, states)
    ti.xcom_push(key=variables.RUN_KEY, value=ti.run_id)
    if warned:
        log.warning("%s warned: %s", len(warned), ", ".join(node["unique_id"] for node in warned))
    if not failed:
        return
    _stop_lost_dbt(ti, tasks)
    alert = Alert(
        dag_name=_file().partition("@")[0],
        run_id=ti.run_id,
        logical_date=_logical_date(context),
        release_id=os.environ[variables.RELEASE],
        status="failed",
        failed=[AlertNode(**node) for node in failed[:ALERT_NODES]],
    )
    while len(payload := alert.payload()) > limit("xcom_bytes"):
        alert = alert.model_copy(update={"failed": (alert.failed or [])[: len(alert.failed or []) // 2]})
    ti.xcom_push(key=ALERT_KEY, value=payload)
    lines = [f"{node['unique_id']} ({node['status']}): {node['message']}" for node in failed[:ALERT_NODES]]
    raise AirflowFailException("\n".join([f"{len(failed)} failed or skipped:", *lines]))


def _stop_lost_dbt(ti: Any, task_ids: Collection[str]) -> None:
    """Stop dbt that a lost worker has left running in ECS, before the next run starts."""
    try:
        workflow = _workflow()
    except PipelineError as error:
        # It must not prevent the alert.
        log.warning("Whether dbt still runs in ECS is unknown: %s", error)
        return
    if workflow.ecs:
        stop_left_running(Ecs(**workflow.ecs), workflow.dag_name, ti.run_id, task_ids)


def _workflow() -> Workflow:
    missing = [name for name in (variables.NAME, variables.RELEASE, variables.PROJECTS) if name not in os.environ]
    if missing:
        raise PipelineError(
            f"the workflow has no variable {missing[0]}. Create it with `python -m mwaa_release apply`, not by hand"
        )
    project_name = os.environ[variables.NAME].partition("/")[0]
    projects, release_id = os.environ[variables.PROJECTS], os.environ[variables.RELEASE]
    return read_workflow(boto3.client("s3"), projects, project_name, release_id, _file())


def _file() -> str:
    """Return the name of the workflow's files: <pipeline>, or <pipeline>@<environment>.

    The name of Airflow's DAG is the service's: its guide lists dag_id among the parameters that it ignores.
    """
    return os.environ[variables.NAME].partition("/")[2]


def _message(error: BaseException) -> str:
    if isinstance(error, AirflowTaskTimeout):
        return "the task reached its time limit (setting task_timeout_minutes; the service allows 60 minutes)"
    return str(error) or type(error).__name__


def _logical_date(context: Any) -> str | None:
    date = getattr(context["dag_run"], "logical_date", None)
    return date.isoformat() if date else None


def _job(workflow: Workflow, context: Any, further_environment: dict[str, str]) -> Job:
    ti = context["ti"]
    return Job(
        dag_id=workflow.dag_name,
        run_id=ti.run_id,
        task_id=ti.task_id,
        try_number=ti.try_number,
        projects=os.environ[variables.PROJECTS],
        project_name=workflow.project_name,
        release_id=os.environ[variables.RELEASE],
        command=workflow.commands[ti.task_id],
        conn_id=workflow.conn_id,
        connection_secret=f"{CONNECTIONS_PREFIX}/{workflow.conn_id}",
        secret_name=workflow.secret_name,
        secret_env=workflow.secret_env,
        profile_args=workflow.profile_args,
        environment={
            **workflow.environment,
            "AIRFLOW_CTX_DAG_ID": workflow.dag_name,
            "AIRFLOW_CTX_DAG_RUN_ID": ti.run_id,
            "AIRFLOW_CTX_TASK_ID": ti.task_id,
            "AIRFLOW_CTX_TRY_NUMBER": str(ti.try_number),
            "AIRFLOW_CTX_LOGICAL_DATE": _logical_date(context) or "",
            **further_environment,
        },
        watched_together=None,  # outcomes of single nodes have no reader here
        kept_results=os.environ[KEPT_RESULTS],
        memory=limit("worker_memory"),
    )


def _run(job: Job, ti: Any) -> None:
    """Run a job in dbt's environment, copy its output to the log, and push its XComs."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / JOB_FILE).write_bytes(job.to_json())
        # Without the packages of Airflow, which -S leaves out: other versions of some are among dbt's.
        command = [sys.executable, "-S", "-m", "mwaa_pipelines.serverless.process", str(folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / variables.DBT_FOLDER), str(root)])}
        with subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        ) as process:
            try:
                with _ended_by_sigterm():
                    for line in process.stdout or ():
                        log.info("%s", line.rstrip("\n"))
            except BaseException:
                # The time limit, or the end of the task: dbt cancels its queries, and its results are kept.
                _stop(process)
                _push(_outcome(folder, process.returncode)["xcoms"], ti)
                raise
        outcome = _outcome(folder, process.returncode)
    _push(outcome["xcoms"], ti)
    if outcome["exit_code"] in (-signal.SIGKILL, KILLED):
        raise AirflowException(
            "dbt was killed, as Linux does when a task needs more than its memory. A task of the service has "
            f"{job.memory} MiB. Lower threads, set serverless: {{tasks: models}}, or run dbt in ECS (setting ecs)"
        )
    _raise_failure(outcome["exit_code"], outcome["error"])


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the task. Airflow only calls on_kill, which does nothing for a function.

    Raises:
        AirflowFailException: SIGTERM has come.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise AirflowFailException(ENDED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_in_ecs(ecs: Ecs, job: Job, ti: Any) -> None:
    outcome = run_job_in_ecs(ecs, job, lambda key, value: _push({key: value}, ti))
    _raise_failure(outcome.exit_code, outcome.error)


def _raise_failure(exit_code: int, error: str) -> None:
    if error:
        raise AirflowException(error)
    if exit_code:
        raise AirflowException(f"dbt failed with exit code {exit_code}. Its output is above")


def _outcome(folder: Path, exit_code: int) -> dict[str, Any]:
    """Return what the process has written, or how it ended if it was killed before that."""
    try:
        return dict(json.loads((folder / OUTCOME_FILE).read_text()))
    except (OSError, ValueError):
        error = f"the process that runs dbt ended with exit code {exit_code} and left no result"
        return {"exit_code": exit_code, "error": error, "xcoms": {}}


def _push(xcoms: dict[str, Any], ti: Any) -> None:
    for key, value in xcoms.items():
        ti.xcom_push(key=key, value=pack_results(value) if key == RESULTS_KEY else value)


def _stop(process: "subprocess.Popen[str]") -> None:
    """End dbt, and copy its output until it has ended: its process waits while nobody reads it."""
    timer = threading.Timer(STOP_SECONDS + _STORE_SECONDS, process.kill)
    timer.start()
    try:
        process.send_signal(signal.SIGTERM)
        for line in process.stdout or ():
            log.info("%s", line.rstrip("\n"))
        process.wait()
    finally:
        timer.cancel()
