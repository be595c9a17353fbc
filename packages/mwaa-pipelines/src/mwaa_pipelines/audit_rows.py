"""Rows of the audit table about tasks that run no dbt. dbt's own rows are written by the dbt package audit_trail."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mwaa_pipelines.sql import quote_identifier

# Types of audit_table's columns that are no text.
_TYPES = {
    **dict.fromkeys(("started_at", "completed_at", "airflow_logical_date"), "timestamp"),
    **dict.fromkeys(("rows_affected", "failures", "bytes_loaded"), "bigint"),
    "execution_time": "double precision",
    "model_execution_date": "date",
    "airflow_try_number": "integer",
    "full_refresh": "boolean",
}


def run_values(context: Any, invocation_id: str, command: str, release_id: str) -> dict[str, Any]:
    """Return the values that all audit rows of a task share, like the macro audit_run(), for a task without dbt.

    Args:
        context: Airflow's task context.
        invocation_id: unique for each try of a task.
        command: the column dbt_command.
        release_id: the release that ran.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    logical_date = dag_run.logical_date and dag_run.logical_date.astimezone(UTC).replace(tzinfo=None)
    return {
        "invocation_id": invocation_id,
        "model_execution_date": f"{datetime.now(UTC):%Y-%m-%d}",
        "dbt_command": command,
        "full_refresh": bool((context.get("params") or {}).get("full_refresh")),
        "target_name": "prod",
        "dbt_version": None,
        "release_id": release_id,
        "code_version": release_id.split("-", 1)[1] if "-" in release_id else None,
        "airflow_dag_id": ti.dag_id,
        "airflow_run_id": dag_run.run_id,
        "airflow_task_id": ti.task_id,
        "airflow_try_number": str(ti.try_number),
        "airflow_logical_date": str(logical_date) if logical_date else None,
        "airflow_log_url": ti.log_url,
    }


def write_audit_rows(
    connection: Any, schema: str, run: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> None:
    """Insert a row for each result into the audit table, and commit.

    Args:
        connection: of the pipeline's user.
        schema: of the audit table.
        run: from `run_values`.
        results: entries of run_results.json with their `node`.

    Raises:
        redshift_connector.Error: there is no audit table, or it is of an older version.
    """
    table = f"{quote_identifier(schema)}.{quote_identifier('audit_table')}"
    with connection.cursor() as cursor:
        for result in results:
            node = result["node"]
            row = {
                **run,
                "load_id": f"{run['invocation_id']}.{result['unique_id']}",
                "database_name": node["database"],
                "schema_name": node["schema"],
                "name": node["name"],
                "resource_type": "load",
                "unique_id": result["unique_id"],
                "relation_name": node["relation_name"],
                **{name: result[name] for name in ("status", "execution_time", "message", "failures")},
                **result["adapter_response"],
                **result["timing"][1],
            }
            values = {name: str(value) for name, value in row.items() if value is not None}
            places = ", ".join(f"cast(%s as {_TYPES[name]})" if name in _TYPES else "%s" for name in values)
            insert = f"insert into {table} ({', '.join(values)}) values ({places})"  # noqa: S608 - quoted, bound
            cursor.execute(insert, tuple(values.values()))
    connection.commit()
