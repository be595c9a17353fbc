"""Parses pipelines.py in a new process and prints the side effects and the files read as JSON."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
# Prefixes of events in https://docs.python.org/3.12/library/audit_events.html. The hook handles "open" separately.
SIDE_EFFECTS = (
    *("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty."),
    *("socket.", "http.", "urllib.", "ftplib.", "smtplib.", "sqlite3.connect"),
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime", "os.ch"),
    *("shutil.", "tempfile."),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main() -> None:
    sys.path.insert(0, str(DAGS))
    # Import the DAG file's dependencies first, so that the hook records only the parse.
    import boto3  # noqa: F401
    import cosmos.airflow.task_group  # noqa: F401
    import croniter  # noqa: F401 - runs the program `file` when it is imported
    from airflow.providers.amazon.aws.operators.lambda_function import LambdaInvokeFunctionOperator  # noqa: F401

    from mwaa_pipelines import config_file, profile, run_outcome, sensors, worker  # noqa: F401

    events: list[str] = []
    reads: list[str] = []
    is_recording = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not is_recording:
            return
        if event == "open":
            path, mode, flags = arguments
            if set(mode or "") & set("wax+") or (flags or 0) & WRITING:
                events.append(f"open for writing: {path}")
            else:
                reads.append(str(path))
        elif event.startswith(SIDE_EFFECTS):
            events.append(f"{event}: {arguments}")

    sys.addaudithook(hook)
    specification = importlib.util.spec_from_file_location("pipelines", DAGS / "pipelines.py")
    specification.loader.exec_module(importlib.util.module_from_spec(specification))
    is_recording = False
    print(json.dumps({"events": events, "reads": reads}))


if __name__ == "__main__":
    main()
