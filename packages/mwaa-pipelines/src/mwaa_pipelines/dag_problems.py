"""Problems of single pipelines, which do not remove the DAGs of the others.

Airflow disables all DAGs of a file with an import error, so pipelines.py cannot report them. pipelines_errors.py does.
"""

import logging
import runpy
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from mwaa_pipelines.settings import Pipeline, PipelineError

log = logging.getLogger(__name__)

# The messages that find_problems collects; None if Airflow itself parses pipelines.py.
_problems: ContextVar[list[str] | None] = ContextVar("problems", default=None)


def find_problems(dag_file: Path) -> list[str]:
    """Run pipelines.py without registering its DAGs, and return a message for each pipeline that has no DAG.

    Airflow parses each file in its own process, so this creates the DAGs a second time.
    """
    problems: list[str] = []
    token = _problems.set(problems)
    try:
        runpy.run_path(str(dag_file))
    except PipelineError:
        # The whole of pipelines.yml is unusable. pipelines.py raises the same error, and there is no DAG to protect.
        return []
    finally:
        _problems.reset(token)
    return problems


def is_dag_file() -> bool:
    """Whether Airflow itself parses pipelines.py, and not find_problems."""
    return _problems.get() is None


def report(problems: Sequence[str]) -> None:
    """Hand problems to find_problems, if it runs pipelines.py."""
    if (collected := _problems.get()) is not None:
        collected += problems


@contextmanager
def isolated(pipeline: Pipeline) -> Iterator[None]:
    """Turn an exception into a problem of this pipeline, so that the other pipelines of the file keep their DAGs."""
    try:
        yield
    except Exception as error:
        message = str(error) if isinstance(error, PipelineError) else f"{_place(error)}{type(error).__name__}: {error}"
        problem = f"pipeline {pipeline.dag_name}: its DAG cannot be created: {message}"
        if is_dag_file():
            log.exception(problem)
        report([problem])


def _place(error: Exception) -> str:
    """Return `file:line: ` of the team's code that an error comes from; nothing if it has no part in the error."""
    libraries = (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and "site-packages" not in path.parts and not any(map(path.is_relative_to, libraries)):
            return f"{path}:{frame.lineno}: "
    return ""
