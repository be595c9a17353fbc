"""Compares the results that dbt reported in a run with the rows in the audit table."""

import contextlib
from typing import Any

import httpx
import redshift_connector

from mwaa_local.mwaa.api import Airflow
from mwaa_local.stack import rows


def xcom(airflow: Airflow, dag_id: str, run_id: str, task_id: str, key: str = "dbt_results") -> Any:
    """Return the XCom of a task's last try, or None without one."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
    with contextlib.suppress(httpx.HTTPStatusError):
        return airflow.call("GET", path, deserialize="true")["value"]
    return None


def reported(airflow: Airflow, dag_id: str, run_id: str) -> list[tuple[str, str, str]]:
    """Return sorted (invocation_id, unique_id, status) of every node in the run_results.json of every task.

    Hooks are left out, because a hook cannot see its own result.
    """
    nodes = []
    for task in airflow.tasks(dag_id, run_id):
        if results := xcom(airflow, dag_id, run_id, task["task_id"]):
            nodes += [(results["invocation_id"], node["unique_id"], node["status"]) for node in results["results"]]
    return sorted(entry for entry in nodes if not entry[1].startswith("operation."))


def audited(connection: redshift_connector.Connection, schema: str, run_id: str) -> list[tuple[str, str, str]]:
    """Return sorted (invocation_id, unique_id, status) of every row of the run in the audit table."""
    query = f"select invocation_id, unique_id, status from {schema}.audit_table where airflow_run_id = %s"
    return sorted(tuple(row) for row in rows(connection, query, (run_id,))[1])
