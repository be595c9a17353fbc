"""Callbacks that push dbt's results, and the error of a failed task, as XComs.

dbt_check reads them, so it needs no database query and no file that workers share.
"""

import contextlib
import json
import logging
import re
from pathlib import Path
from typing import Any

from mwaa_pipelines.reporting import LOG, RUN_RESULTS, try_number

RESULTS_KEY = "dbt_results"
ERROR_KEY = "task_error"
# The last error of a dbt process that ended before it ran a node, such as a wrong password or a compilation error.
LAST_WORDS_KEY = "dbt_last_words"
# An alert shows one line for each node, but a database error can be a page long.
MESSAGE_CHARACTERS = 500
# Of the messages in one XCom. A report shows up to 200 nodes, but thousands can fail.
_ALL_MESSAGES_CHARACTERS = 250_000
# "Database Error in model x (models/x.sql)", "Compilation Error", "shop.on-run-end.0 failed, error:".
_HEADING = re.compile(r"[\w ]+ Error( in .*)?|.* failed, error:")
_CREATE_SCHEMA = re.compile(r'create schema if not exists (?:(?:"[^"]+"|\w+)\.)?("[^"]+"|\w+)')

log = logging.getLogger(__name__)


def first_error_line(message: str | None) -> str:
    """Return the line of dbt's message that contains the error, at most 500 characters.

    dbt starts with headings; the database's message follows.
    """
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    causes = [line for line in lines if not _HEADING.fullmatch(line)] or lines
    return causes[0][:MESSAGE_CHARACTERS] if causes else ""


def push_results(project_dir: str, context: Any) -> None:
    """Push the result of every node. Cosmos calls this after every dbt process.

    Args:
        project_dir: the folder that dbt ran in. Cosmos deletes it afterwards.
        context: Airflow's task context.
    """
    # An exception here would hide dbt's own error.
    try:
        results = Path(project_dir) / RUN_RESULTS
        if not results.is_file():
            log.warning("dbt ended before it ran a node; its error message is above")
            push_last_words(project_dir, context)
            return
        content = json.loads(results.read_text())
        entries = [
            {
                "unique_id": result["unique_id"],
                "status": result["status"],
                "message": first_error_line(result["message"]),
                "execution_time": result["execution_time"],
                "rows": _rows(result),
            }
            for result in content["results"]
        ]
        is_complete = _is_complete(entries, Path(project_dir) / LOG)
        push_entries(entries, content["metadata"], context, is_complete=is_complete)
    except Exception:
        log.exception("dbt's results could not be stored; the failure report will name only the task")


def push_last_words(project_dir: str, context: Any) -> None:
    """Push the last error of a dbt process that ended before it wrote results.

    Args:
        project_dir: the folder that dbt ran in.
        context: Airflow's task context.
    """
    # Pushed even if it is empty: it shows that dbt ended before its task did.
    context["ti"].xcom_push(key=LAST_WORDS_KEY, value=_last_words(Path(project_dir) / LOG) or "")


def push_entries(
    entries: list[dict[str, Any]], metadata: dict[str, Any], context: Any, *, is_complete: bool = True
) -> None:
    """Push an entry for each node, for dbt_check.

    Args:
        entries: unique_id, status, message, execution_time (seconds) and, if known, rows of each node.
        metadata: with the invocation_id and generated_at of the process.
        context: Airflow's task context.
        is_complete: whether each selected node has an entry.
    """
    left = _ALL_MESSAGES_CHARACTERS
    for entry in entries:
        entry["message"] = entry["message"][:left]
        left -= len(entry["message"])
    process = {name: metadata[name] for name in ("invocation_id", "generated_at")}
    process |= {"try_number": try_number(context), "is_complete": is_complete, "results": entries}
    context["ti"].xcom_push(key=RESULTS_KEY, value=process)


def _is_complete(entries: list[dict[str, Any]], path: Path) -> bool:
    """Return whether dbt reported each node that it selected. An interrupted process does not.

    dbt's log has their number before the first one is built.
    """
    reported = sum(not entry["unique_id"].startswith("operation.") for entry in entries)
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError), path.open(errors="replace") as lines:
        for line in lines:
            if '"ConcurrencyLine"' in line:
                return bool(reported >= json.loads(line)["data"]["node_count"])
    return False


def _rows(result: dict[str, Any]) -> int | None:
    """Return the number of rows that a node wrote, or None: dbt-redshift knows it for some statements only."""
    rows = (result.get("adapter_response") or {}).get("rows_affected")
    return None if rows is None or rows < 0 else rows


def _last_words(path: Path) -> str | None:
    """Return the last error in dbt's log, which has one JSON event in each line."""
    try:
        lines = path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if '"level": "error"' in line]
        message = json.loads(errors[-1])["info"]["msg"].removeprefix("Encountered an error:")
        if "permission denied for database" in message and (schema := _schema_to_create(lines)):
            message += (
                f". dbt tried to create the schema {schema}. As a superuser: "
                f"create schema {schema} authorization <database user of this pipeline>"
            )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return " ".join(message.split())[:MESSAGE_CHARACTERS]


def _schema_to_create(lines: list[str]) -> str | None:
    """Return the schema of the last statement in dbt's log that creates one."""
    for line in reversed(lines):
        # A hint is not worth an error: the last line can be incomplete.
        with contextlib.suppress(ValueError, LookupError, TypeError):
            if "create schema" in line and (match := _CREATE_SCHEMA.search(json.loads(line)["info"]["msg"])):
                return match[1]
    return None


def push_error(context: Any) -> None:
    """Push the first line of a failed task's error. Airflow calls this after the last try.

    If the worker was lost, Airflow's DAG processor calls it without an exception. It must not push then: the DAG
    processor does not answer a push, so parsing would hang until it times out, and Airflow treats a DAG that was not
    parsed for that long as deleted.
    """
    try:
        if context.get("exception"):
            ti = context["ti"]
            message = first_error_line(str(context["exception"]))
            ti.xcom_push(key=ERROR_KEY, value={"message": message, "try_number": try_number(context)})
    except Exception:
        log.exception("the error could not be stored; the failure report will name only the task")
