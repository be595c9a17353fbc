"""The dbt that startup.sh installs on a worker, and a readable error if it is missing."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mwaa_pipelines.compatibility import AirflowFailException


def _venv() -> Path:
    home = os.environ.get("AIRFLOW_HOME", "/usr/local/airflow")
    return Path(os.environ.get("DBT_VENV_PATH", f"{home}/dbt_venv"))


def dbt_executable() -> str:
    """Return the path of the dbt that startup.sh installs. It may be missing where DAG files are parsed."""
    return str(_venv() / "bin" / "dbt")


def check_worker(context: Any) -> None:
    """Fail a task without a retry on a worker whose startup.sh failed.

    Raises:
        AirflowFailException: dbt is not installed; the message is the error of startup.sh.
    """
    error = _venv().with_name(f"{_venv().name}.error")
    if error.is_file():
        raise AirflowFailException(error.read_text().strip())
    if not os.access(dbt_executable(), os.X_OK):
        raise AirflowFailException(
            f"dbt is not installed at {dbt_executable()}, and startup.sh left no error file. "
            "Is it configured as this environment's startup script?"
        )


def share_parsed(task: Any, dag_id: str) -> None:
    """Let dbt reuse the parse result of an earlier dbt process on this worker for the same release.

    dbt does so only if target, variables and connection are also the same. Parse results of other releases are deleted.

    Args:
        task: a Cosmos operator that is about to run dbt.
        dag_id: its DAG.
    """
    release = Path(task.project_dir).name
    folder = Path(tempfile.gettempdir()) / "dbt_parsed" / dag_id
    for other in folder.glob("*"):
        if other.name != release:
            shutil.rmtree(other, ignore_errors=True)
    task.cache_dir = folder / release
