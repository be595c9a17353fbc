"""Reads the audit views of a warehouse: the one that REDSHIFT_* variables name, or whatever connection is given."""

import contextlib
import datetime
import os
from collections.abc import Mapping
from typing import Any

import redshift_connector

from mwaa_release.errors import SetupError
from mwaa_release.redshift import error_code, error_text, quote_identifier

Row = dict[str, Any]

# Details of about 20,000 node results make a page of 1.5 MB, which a phone still opens at once.
MAX_NODES = 20_000
_UNDEFINED_TABLE, _UNDEFINED_COLUMN, _UNDEFINED_SCHEMA, _NO_PRIVILEGE = "42P01", "42703", "3F000", "42501"
_MODES = {
    "disable": None,
    "prefer": "verify-ca",
    "require": "verify-ca",
    "verify-ca": "verify-ca",
    "verify-full": "verify-full",
}

# Fixed text; the schema is quoted into {}, values are bound.
_QUERIES = {
    "runs": """
        select run_key, airflow_dag_id, release_id, run_date, started_at, duration_seconds, outcome, nodes,
            passed_nodes, warned_nodes, failed_nodes, skipped_nodes, retried_nodes, critical_path, critical_path_seconds
        from {}.audit_runs where run_date >= cast(? as date)
        order by started_at desc nulls last, run_key desc""",
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
}


def named_warehouse(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether REDSHIFT_* variables name a warehouse."""
    return bool(environment.get("REDSHIFT_HOST"))


def connect(environment: Mapping[str, str] = os.environ) -> redshift_connector.Connection:
    """Connect to the warehouse that REDSHIFT_HOST, _PORT, _USER, _PASSWORD, _DATABASE and _SSLMODE name, as dbt does.

    Raises:
        SetupError: a variable is missing or wrong, or the warehouse does not answer.
    """
    if missing := [name for name in ("REDSHIFT_USER", "REDSHIFT_PASSWORD") if not environment.get(name)]:
        raise SetupError(f"REDSHIFT_HOST is set but {' and '.join(missing)} not; set both, or unset REDSHIFT_HOST")
    host, port = environment["REDSHIFT_HOST"], environment.get("REDSHIFT_PORT") or "5439"
    if not (port.isascii() and port.isdecimal()):
        raise SetupError(f"REDSHIFT_PORT={port!r} is not a port; set it to a number")
    mode = environment.get("REDSHIFT_SSLMODE") or "verify-full"
    if mode not in _MODES:
        raise SetupError(f"REDSHIFT_SSLMODE={mode!r} is unknown; choose one of {', '.join(_MODES)}")
    try:
        return redshift_connector.connect(
            host=host,
            port=int(port),
            user=environment["REDSHIFT_USER"],
            password=environment["REDSHIFT_PASSWORD"],
            database=environment.get("REDSHIFT_DATABASE") or "dev",
            ssl=mode != "disable",
            sslmode=_MODES[mode] or "verify-ca",
            timeout=30,
        )
    except (redshift_connector.Error, OSError) as error:
        text = error_text(error) if error.args and isinstance(error.args[0], dict) else str(error)
        raise SetupError(
            f"{host}:{port} does not let {environment['REDSHIFT_USER']} in: {text}; check REDSHIFT_*"
        ) from None


def read(connection: redshift_connector.Connection, schema: str, days: int) -> dict[str, list[Row]]:
    """Read what the report shows.

    Args:
        connection: to the warehouse; closed by the caller.
        schema: where the audit views are.
        days: runs of the last so many days (UTC), today included.

    Returns:
        Rows by column name: `runs` and `nodes` (newest first), `statistics`, `tests` and `marts`
        (of the whole history).

    Raises:
        SetupError: the views are not there, or not for this user.
    """
    first = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days - 1)
    parameters = {"runs": (first.isoformat(),), "nodes": (first.isoformat(), MAX_NODES)}
    found = {}
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.paramstyle = "qmark"
        for name, query in _QUERIES.items():
            try:
                cursor.execute(query.format(quote_identifier(schema)), parameters.get(name, ()))
            except redshift_connector.Error as error:
                raise _in_words(error, schema) from error
            columns = [column[0] for column in cursor.description]
            found[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    nodes = found["nodes"]
    if len(nodes) == MAX_NODES:
        # The last run may have more results than were read, and a part of a run would look like a whole one.
        found["nodes"] = [row for row in nodes if row["run_key"] != nodes[-1]["run_key"]]
    return found


def _in_words(error: redshift_connector.Error, schema: str) -> SetupError:
    code, text = error_code(error), error_text(error)
    if code in (_UNDEFINED_TABLE, _UNDEFINED_SCHEMA):
        return SetupError(f"schema {schema} has no audit views yet ({text}); run the pipeline: make run")
    if code == _UNDEFINED_COLUMN:
        return SetupError(
            f"the audit views in schema {schema} are of another release ({text}); run the pipeline: make run"
        )
    if code == _NO_PRIVILEGE:
        return SetupError(
            f"the audit views in schema {schema} may not be read ({text}); connect as the pipeline's user"
        )
    return SetupError(f"the audit views in schema {schema} cannot be read: {text}")
