"""dbt's settings and files that the report, the alert, the audit trail and its recovery rely on."""

from pathlib import Path
from typing import Any

# In the folder that dbt runs in.
RUN_RESULTS = Path("target", "run_results.json")
LOG = Path("logs", "dbt.log")
# A project can set other values in its dbt_project.yml. The environment takes precedence.
ENVIRONMENT = {
    "DBT_TARGET_PATH": str(RUN_RESULTS.parent),
    "DBT_WRITE_JSON": "true",
    "DBT_LOG_PATH": str(LOG.parent),
    # One file, with one JSON event in each line.
    "DBT_LOG_FORMAT_FILE": "json",
    "DBT_LOG_LEVEL_FILE": "debug",
    "DBT_LOG_FILE_MAX_BYTES": "0",
    "DBT_USE_COLORS_FILE": "false",
    # Cosmos reads from dbt's output which nodes have ended.
    "DBT_LOG_LEVEL": "info",
    # After a failure, dbt would cancel nodes that other tasks of the DAG stand for.
    "DBT_FAIL_FAST": "false",
}


def try_number(context: Any) -> int:
    """Return which try of its node a task runs, from 1. A sensor can run its node several times in one try of Airflow.

    Args:
        context: Airflow's task context.
    """
    return getattr(context.get("task"), "try_number", None) or context["ti"].try_number
