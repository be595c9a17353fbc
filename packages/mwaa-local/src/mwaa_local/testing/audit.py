"""What dbt reported in a run beside what the audit table holds of it."""

import contextlib
from typing import Any

import httpx
import redshift_connector

from mwaa_local.mwaa.api import Airflow
from mwaa_local.stack import rows


def kept(airflow: Airflow, dag_id: str, run_id: str, task_id: str, key: str = "dbt_results") -> Any:
    """The XCom that the last try of a task pushed, or None if it pushed none."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
    with contextlib.suppress(httpx.HTTPStatusError):
        return airflow.call("GET", path, deserialize="true")["value"]
    return None


def reported(airflow: Airflow, dag_id: str, run_id: str) -> list[tuple[str, str, str]]:
    """(invocation_id, unique_id, status) of every node in the run_results.json of every task, in order.

    A hook is left out: it cannot see its own result.
    """
    found = []
    for task in airflow.tasks(dag_id, run_id):
        if results := kept(airflow, dag_id, run_id, task["task_id"]):
            found += [(results["invocation_id"], node["unique_id"], node["status"]) for node in results["results"]]
    return sorted(entry for entry in found if not entry[1].startswith("operation."))


def audited(connection: redshift_connector.Connection, schema: str, run_id: str) -> list[tuple[str, str, str]]:
    """(invocation_id, unique_id, status) of every row that the run left in the audit table, in order."""
    query = f"select invocation_id, unique_id, status from {schema}.audit_table where airflow_run_id = %s"
    return sorted(tuple(row) for row in rows(connection, query, (run_id,))[1])
