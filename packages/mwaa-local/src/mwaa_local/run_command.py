"""`make run` and `make drill`: release, run the pipeline on the stand-ins, print the result, return an exit code."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from mwaa_local import drill, up
from mwaa_local.aws import seed
from mwaa_local.dag_run import Outcome, end_runs, run_pipeline, show
from mwaa_local.processes import RUN_LOCK, take_lock
from mwaa_local.serverless.pipeline_run import run_as_workflow
from mwaa_local.settings import HOST, Passwords, Settings, SetupError
from mwaa_local.stack import PROJECT, Stack
from mwaa_local.target import SERVERLESS, check_target
from mwaa_pipelines.config_file import ENVIRONMENT
from mwaa_pipelines.settings import Pipeline, did_you_mean
from mwaa_release.apply import rollback
from mwaa_release.bucket import Bucket, aws_client
from mwaa_release.pipelines import find_pipeline, first_pipeline
from mwaa_release.progress import Steps, console, errors
from mwaa_release.release import CURRENT, PROJECTS

RUN_FAILED = 1


def run(settings: Settings, dag_name: str = "", environment: str = "", verbose: bool = False, target: str = "") -> int:
    """Run a pipeline of dags/pipelines.yml, print the result, and return 0 if the run succeeded.

    Args:
        settings: paths and ports.
        dag_name: the pipeline; empty: the first one.
        environment: the environment of dags/pipelines.yml whose settings apply; default: the file's first one.
        verbose: also print every task and every audit row.
        target: `ecs` or `serverless`; default: as dags/pipelines.yml says.

    Raises:
        SetupError, DeployError: the run could not start.
    """
    check_target(target)
    if environment:
        if up.running(settings):
            raise SetupError(f"--environment {environment}: make up runs another environment; stop it with: make down")
        os.environ[ENVIRONMENT] = environment
    pipeline = find_pipeline(dag_name) if dag_name else first_pipeline()
    outcome = _play(settings, pipeline, PROJECT, lambda_works=True, verbose=verbose, target=target)
    if not verbose:
        console.print("Every task and audit row: make run V=1. Airflow's UI: make up. The audit trail: make report.")
    return 0 if outcome.state == "success" else RUN_FAILED


def run_drill(settings: Settings, lambda_works: bool, target: str = "") -> int:
    """Run the first pipeline with a model that fails, and return 0 only if the failure is reported everywhere.

    Args:
        settings: paths and ports.
        lambda_works: if False, the alert's function fails too.
        target: `ecs` or `serverless`; default: as dags/pipelines.yml says.

    Raises:
        SetupError, DeployError: the run could not start.
    """
    check_target(target)
    project = drill.altered_project(PROJECT, settings.state / "drill")
    outcome = _play(settings, first_pipeline(), project, lambda_works, target=target)
    problems = drill.find_problems(outcome, lambda_works)
    for problem in problems:
        errors.print(f"✗ {problem}", style="red", markup=False)
    if not problems:
        console.print("Drill passed: the run failed, and the failure was reported everywhere.", style="green")
    return RUN_FAILED if problems else 0


def _play(
    settings: Settings,
    pipeline: Pipeline,
    project: Path,
    lambda_works: bool,
    verbose: bool = False,
    target: str = "",
) -> Outcome:
    locked = "another make run or make drill is running in this checkout; wait for it, or stop it with: make down"
    with (
        take_lock(settings.state / RUN_LOCK, locked),
        _stand_ins(settings, pipeline, project, target) as (release, check),
    ):
        with Steps() as steps:
            releases = release(steps, project)
            if pipeline.project_name not in releases:
                raise SetupError(
                    f"pipeline {pipeline.dag_name}: project_name: this repository has no dbt project "
                    f"{pipeline.project_name!r}{did_you_mean(pipeline.project_name, releases)}"
                )
            if not lambda_works:
                seed.break_lambda(settings)
            if target == SERVERLESS:
                outcome = run_as_workflow(settings, pipeline, steps, check)
            else:
                outcome = run_pipeline(settings, pipeline, releases[pipeline.project_name], steps, check)
        outcome.save(settings.state / "last-run.json")
        show(outcome, settings.state / ("logs" if target == SERVERLESS else "mwaa/logs"), verbose)
    return outcome


@contextmanager
def _stand_ins(
    settings: Settings, pipeline: Pipeline, project: Path, target: str
) -> Iterator[tuple[Callable[[Steps, Path], dict[str, str]], Callable[[], None]]]:
    """Use the stand-ins of `make up`, or start new ones and stop them at the end.

    Yields:
        A function that releases the projects and returns their release_ids, and one that raises if a stand-in has
        ended.
    """
    stack = Stack(settings, target=target)
    if not up.running(settings):
        try:
            stack.take_lock()
            yield stack.start, stack.check
        finally:
            stack.stop()
        return
    if target == SERVERLESS:
        raise SetupError(f"--target {SERVERLESS}: make up runs an MWAA environment; stop it with: make down")
    name = pipeline.project_name
    live = Bucket(seed.DAGS_BUCKET, aws_client("s3")).read(f"{PROJECTS}{name}/{CURRENT}")
    try:
        yield stack.update, lambda: up.check(settings)
    except KeyboardInterrupt:
        with suppress(SetupError, httpx.HTTPError):
            end_runs(settings, pipeline)
        raise
    finally:
        if project != PROJECT and up.running(settings):
            _undo_drill(settings, name, live)


def _undo_drill(settings: Settings, project_name: str, live: bytes | None) -> None:
    """Restore the Lambda function and the release of `make up`, and delete the drill's alerts."""
    seed.seed(settings, Passwords.load(settings.state), HOST, settings.warehouse_port)
    if live:
        rollback(Bucket(seed.DAGS_BUCKET, aws_client("s3")), project_name, live.decode().strip())
    seed.read_alerts(settings)
