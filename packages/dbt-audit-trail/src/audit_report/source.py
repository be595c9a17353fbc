"""Reads the audit views of a warehouse."""

import contextlib
import datetime
from typing import Any

import redshift_connector

from audit_report.redshift import WarehouseError, error_code, error_text, quote_identifier

Row = dict[str, Any]

# Details of about 20,000 node results make a page of 1.5 MB, which a phone still opens at once.
MAX_NODES = 20_000
_UNDEFINED_TABLE, _UNDEFINED_COLUMN, _UNDEFINED_SCHEMA, _NO_PRIVILEGE = "42P01", "42703", "3F000", "42501"

# The text is fixed: {} takes the quoted schema, and values are bound.
_QUERIES = {
    "runs": """
        select run_key, airflow_dag_id, release_id, run_date, started_at, duration_seconds, outcome, nodes,
            passed_nodes, warned_nodes, failed_nodes, skipped_nodes, retried_nodes, critical_path, critical_path_seconds
        from {}.audit_runs where run_date >= cast(? as date)
        order by started_at desc nulls last, run_key desc""",
    "costs": """
        select run_key, sum(execution_seconds) as execution_seconds, sum(queue_seconds) as queue_seconds,
            sum(scanned_bytes) as scanned_bytes
        from {}.audit_queries where start_time >= cast(? as date) group by run_key""",
    "nodes": """
        select run_key, unique_id, name, resource_type, owner, outcome, message, failures, tries, started_at,
            completed_at, execution_time, usual_execution_time, rows_affected, airflow_log_url
        from {}.audit_node_history where run_date >= cast(? as date)
        order by run_started_at desc nulls last, run_key desc, started_at limit ?""",
    "statistics": """
        select unique_id, name, resource_type, owner, runs, failed_runs, failed_share, retried_runs,
            median_execution_time, p95_execution_time, longest_execution_time, total_execution_time,
            last_execution_time, last_times_usual, last_rows_affected, last_rows_change
        from {}.audit_node_statistics order by total_execution_time desc nulls last""",
    "tests": """
        select unique_id, name, health, last_outcome, last_failures, runs, passed_runs, warned_runs, failed_runs,
            changes, last_passed_at
        from {}.audit_test_health order by failed_runs desc, warned_runs desc, name""",
    "marts": """
        select unique_id, name, owner, last_outcome, built_at, hours_since_built, oldest_source_loaded_at,
            hours_since_source_loaded
        from {}.audit_mart_freshness order by built_at nulls first""",
    "sources": """
        select unique_id, owner, outcome, status, message, completed_at, source_max_loaded_at
        from {}.audit_latest_state where resource_type = 'source' order by source_max_loaded_at nulls first""",
}


def read(connection: redshift_connector.Connection, schema: str, days: int) -> dict[str, list[Row]]:
    """Read the rows that the report shows.

    Args:
        connection: to the warehouse. The caller closes it.
        schema: the schema of the audit views.
        days: the number of days (UTC) whose runs are read, today included.

    Returns:
        Rows by column name: `runs` and `nodes` (newest first), `costs` (of the queries that this user may see
        and Redshift still has), `statistics`, `tests`, `marts` and `sources`
        (of the whole history).

    Raises:
        WarehouseError: the views do not exist, or the user cannot read them.
    """
    first_day = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days - 1)
    parameters = {
        "runs": (first_day.isoformat(),),
        "costs": (first_day.isoformat(),),
        "nodes": (first_day.isoformat(), MAX_NODES),
    }
    history = {}
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.paramstyle = "qmark"
        for name, query in _QUERIES.items():
            try:
                cursor.execute(query.format(quote_identifier(schema)), parameters.get(name, ()))
            except redshift_connector.Error as error:
                raise _explained(error, schema) from error
            columns = [column[0] for column in cursor.description]
            history[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    nodes = history["nodes"]
    if len(nodes) == MAX_NODES:
        # The oldest run can be incomplete, and would look like a complete one.
        history["nodes"] = [row for row in nodes if row["run_key"] != nodes[-1]["run_key"]]
    return history


def _explained(error: redshift_connector.Error, schema: str) -> WarehouseError:
    code, text = error_code(error), error_text(error)
    if code in (_UNDEFINED_TABLE, _UNDEFINED_SCHEMA):
        return WarehouseError(f"schema {schema} has no audit views ({text}). Run the pipeline, or clear its audit task")
    if code == _UNDEFINED_COLUMN:
        return WarehouseError(
            f"the audit views in schema {schema} belong to another release ({text}). Run the pipeline"
        )
    if code == _NO_PRIVILEGE:
        return WarehouseError(
            f"this user cannot read the audit views in schema {schema} ({text}). Connect as the pipeline's user"
        )
    return WarehouseError(f"the audit views in schema {schema} cannot be read: {text}")
