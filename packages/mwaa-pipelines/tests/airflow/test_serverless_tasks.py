"""The functions of a workflow's tasks, without the service. test_serverless.py of mwaa-local runs workflows."""

import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mwaa_pipelines.serverless import tasks
from mwaa_pipelines.serverless import workflow as variables
from mwaa_pipelines.serverless.workflow import Workflow

WORKFLOW = Workflow("shop_pipeline", "shop", "shop_redshift", None, commands={"transform_data": ["build"]})
# More output than a pipe takes, before the process ends.
VERBOSE = """
import signal, sys
def end(*_):
    for number in range(20_000):
        print(f"{number} SKIP relation")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""


def test_job_has_the_name_of_the_pipeline_and_not_that_of_the_services_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (variables.PROJECTS, variables.RELEASE, tasks.KEPT_RESULTS):
        monkeypatch.setenv(name, "x")
    ti = SimpleNamespace(dag_id="shop_pipeline-0123456789", run_id="r", task_id="transform_data", try_number=1)
    context: dict[str, Any] = {"ti": ti, "dag_run": SimpleNamespace(logical_date=datetime(2026, 1, 1, tzinfo=UTC))}
    job = tasks._job(WORKFLOW, context, {})
    assert (job.dag_id, job.environment["AIRFLOW_CTX_DAG_ID"]) == ("shop_pipeline", "shop_pipeline")


def test_process_that_writes_much_while_it_ends_is_not_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", VERBOSE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        tasks._stop(process)
    assert process.returncode == 0
