"""The service's Airflow on the laptop: a virtual environment with its versions, and an empty database."""

import fcntl
import os
from pathlib import Path

import mwaa_local
from mwaa_local.mwaa.image import find_uv, made_from, read, run
from mwaa_local.processes import base_environment
from mwaa_local.serverless import airflow_folder

LOCK = Path(mwaa_local.__file__).parent / "requirements" / "mwaa-serverless.txt"
DATABASE = "airflow.db"


def install_airflow(state: Path) -> Path:
    """Create the environment if it is missing or outdated, and return its folder.

    Args:
        state: the state folder.

    Raises:
        SetupError: uv or Airflow failed; the text shows the end of its output.
    """
    folder = airflow_folder(state)
    folder.parent.mkdir(parents=True, exist_ok=True)
    expected = made_from(LOCK, folder)
    with folder.with_name("mwaa-serverless.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read(folder / ".ready") == expected:
            return folder
        uv, log = find_uv(folder.parent), state / "logs" / "mwaa-serverless.log"
        environment = {**base_environment(), "VIRTUAL_ENV": str(folder)}
        python = str(folder.with_name("tools") / "bin" / "python")
        run([uv, "venv", "--clear", "--python", python, str(folder)], environment, log)
        run([uv, "pip", "sync", "--compile-bytecode", "--require-hashes", str(LOCK)], environment, log)
        # Each run starts with a copy of an empty database, because creating its tables takes seconds.
        database = {
            "PATH": os.defpath,
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / DATABASE}",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        run([str(folder / "bin" / "airflow"), "db", "migrate"], {**base_environment(), **database}, log)
        (folder / ".ready").write_text(expected)
    return folder
