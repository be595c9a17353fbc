"""`make run` and `make drill`: from stand-ins, started here or kept by `make up`, to tables and an exit code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from mwaa_local import drill, up
from mwaa_local.aws import seed
from mwaa_local.dag_run import Outcome, end_runs, run_pipeline, show
from mwaa_local.processes import RUN_LOCK, take_lock
from mwaa_local.settings import HOST, Passwords, Settings, SetupError
from mwaa_local.stack import PROJECT, Stack
from mwaa_release.apply import rollback
from mwaa_release.bucket import Bucket, aws_client
from mwaa_release.progress import Steps, console, errors
from mwaa_release.release import CURRENT, PROJECTS

RUN_FAILED = 1
_PROJECT_NAME = "flights"


def run(settings: Settings) -> int:
    """Run the sample pipeline, show how it went, and return the exit code: 0 if it succeeded.

    Raises:
        SetupError, DeployError: no run could be made.
    """
    outcome = _play(settings, PROJECT, lambda_works=True)
    return 0 if outcome.state == "success" else RUN_FAILED


def run_drill(settings: Settings, lambda_works: bool) -> int:
    """Run the pipeline with a model that fails, and return 0 only if the failure is reported everywhere it must.

    Args:
        settings: paths and ports.
        lambda_works: False: the alert's function fails as well.

    Raises:
        SetupError, DeployError: no run could be made.
    """
    outcome = _play(settings, drill.altered_project(PROJECT, settings.state / "drill"), lambda_works)
    found = drill.problems(outcome, lambda_works)
    for problem in found:
        errors.print(f"✗ {problem}", style="red", markup=False)
    if not found:
        console.print("Drill passed: the run failed, and said so everywhere it must.", style="green")
    return RUN_FAILED if found else 0


def _play(settings: Settings, project: Path, lambda_works: bool) -> Outcome:
    refusal = "another make run or make drill is at work in this checkout; wait for it, or stop it with: make down"
    with take_lock(settings.state / RUN_LOCK, refusal), _stand_ins(settings, project) as (release, check):
        with Steps() as steps:
            release_id = release(steps, project)
            if not lambda_works:
                seed.break_lambda(settings)
            outcome = run_pipeline(settings, release_id, steps, check)
        outcome.save(settings.state / "last-run.json")
        show(outcome, settings.state / "mwaa" / "logs")
    return outcome


@contextmanager
def _stand_ins(settings: Settings, project: Path) -> Iterator[tuple[Callable[[Steps, Path], str], Callable[[], None]]]:
    """Those of `make up` as they are, or new ones that are stopped in the end.

    Yields:
        What makes a project the released one and returns its release_id, and what raises if a stand-in has died.
    """
    stack = Stack(settings)
    if not up.running(settings):
        try:
            stack.take_lock()
            yield stack.start, stack.check
        finally:
            stack.stop()
        return
    live = Bucket(seed.DAGS_BUCKET, aws_client("s3")).read(f"{PROJECTS}{_PROJECT_NAME}/{CURRENT}")
    try:
        yield stack.release, lambda: up.check(settings)
    except KeyboardInterrupt:
        with suppress(SetupError, httpx.HTTPError):
            end_runs(settings)
        raise
    finally:
        if project != PROJECT and up.running(settings):
            _undo_drill(settings, live)


def _undo_drill(settings: Settings, live: bytes | None) -> None:
    """Leave the stand-ins of `make up` as they were before the drill."""
    seed.seed(settings, Passwords.load(settings.state), HOST, settings.warehouse_port)
    if live:
        rollback(Bucket(seed.DAGS_BUCKET, aws_client("s3")), _PROJECT_NAME, live.decode().strip())
    seed.read_alerts(settings)
