"""What startup.sh left on this worker, and a readable error when it left nothing."""

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
    """Path of the dbt that startup.sh installs. It need not exist where a DAG file is parsed."""
    return str(_venv() / "bin" / "dbt")


def check_worker(context: Any) -> None:
    """Fail a task, without a further try, on a worker whose startup.sh failed.

    Raises:
        AirflowFailException: dbt is not installed; the text is what startup.sh said.
    """
    error = _venv().with_name(f"{_venv().name}.error")
    if error.is_file():
        raise AirflowFailException(error.read_text().strip())
    if not os.access(dbt_executable(), os.X_OK):
        raise AirflowFailException(
            f"dbt is not installed at {dbt_executable()}, and startup.sh left no word why; does it run here?"
        )


def share_parsed(task: Any) -> None:
    """Let dbt take over what a dbt process before it, on this worker, has parsed of the same release.

    dbt does so only if target, variables and connection are the same, too. What was parsed of other releases goes.

    Args:
        task: an operator of Cosmos that is about to run dbt.
    """
    release = Path(task.project_dir).name
    folder = Path(tempfile.gettempdir()) / "dbt_parsed" / task.dag_id
    for other in folder.glob("*"):
        if other.name != release:
            shutil.rmtree(other, ignore_errors=True)
    task.cache_dir = folder / release
