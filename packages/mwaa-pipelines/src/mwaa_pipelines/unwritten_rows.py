"""Results that did not reach the audit table: kept in S3 by the task that had them, written by the next audit group.

dbt's own log says which results these are. Its hooks leave two words there: what all rows share, when dbt begins, and
that they are written, when it ends. A dbt process that failed to write them, or was killed, lacks the second.
The macro recover_audit_rows writes what is handed over here.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Airflow's option dbt.kept_results of the environment: s3://<bucket>/<prefix>.
KEPT_RESULTS = "AIRFLOW__DBT__KEPT_RESULTS"
# Results travel in environment variables. Linux takes 131,072 bytes for one, and about 2 MB for all.
PIECE_BYTES = 100_000
PIECES = 12
_FIELDS = ("unique_id", "status", "execution_time", "message", "failures", "thread_id", "max_loaded_at")

log = logging.getLogger(__name__)


def keep_unrecorded(project_dir: str, context: Any) -> None:
    """Keep in S3 what dbt could not write to the audit table; called by Cosmos after dbt ended, failed or not.

    Args:
        project_dir: the folder dbt ran in; it is removed afterwards.
        context: Airflow's task context.
    """
    # An exception here would stand in the log instead of dbt's own error.
    try:
        run, results = unrecorded(Path(project_dir))
        if results:
            keep(run, results, context)
    except FileNotFoundError:
        log.warning("dbt ended before it began a log")
    except Exception:
        log.exception("results that are not in the audit table could not be kept")


def keep(run: dict[str, Any], results: list[dict[str, Any]], context: Any) -> None:
    """Keep results in S3; or say that they are lost, where there is no place for them.

    Args:
        run: what their rows share, as the macro audit_run() gives it.
        results: entries of run_results.json, shortened.
        context: Airflow's task context.

    Raises:
        BotoCoreError, ClientError: S3 did not take them.
    """
    place = os.environ.get(KEPT_RESULTS)
    if not place:
        log.error("%d results are not in the audit table, and dbt.kept_results is not set", len(results))
        return
    s3, bucket, prefix = _place(place, context)
    for number, piece in enumerate(pieces(run, results)):
        key = f"{prefix}{run['invocation_id']}.{number:04}.json"
        s3.put_object(Bucket=bucket, Key=key, Body=piece.encode())
    log.error("%d results are not in the audit table; the next run writes them from %s", len(results), place)


def hand_over_kept(context: Any) -> None:
    """Give the audit task's dbt what earlier runs kept, in its environment; called by Airflow before it starts.

    What goes wrong here is logged, and no reason to stop the run: the next one tries again.
    """
    context["kept_results"] = []
    if not (place := os.environ.get(KEPT_RESULTS)):
        return
    try:
        s3, bucket, prefix = _place(place, context)
        found = {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for key in (entry["Key"] for entry in page.get("Contents", [])):
                text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode(errors="replace")
                if not _is_piece(text):
                    log.error("s3://%s/%s is none of the results that are kept there; delete it", bucket, key)
                elif len(found) < PIECES:
                    found[key] = text
        names = {f"DBT_AUDIT_KEPT_{number}": text for number, text in enumerate(found.values())}
        context["task"].env = {**(context["task"].env or {}), **names}
        context["kept_results"] = list(found)
    except Exception:
        log.exception("results that earlier runs kept in %s could not be read", place)


def forget_kept(context: Any) -> None:
    """Delete what the audit task has written; called by Airflow after a success."""
    try:
        if keys := context.get("kept_results"):
            s3, bucket, _ = _place(os.environ[KEPT_RESULTS], context)
            for key in keys:
                s3.delete_object(Bucket=bucket, Key=key)
    except Exception:
        # They are handed over again, and found to be there.
        log.exception("results that are in the audit table now could not be deleted")


def unrecorded(project_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what all rows share, and the results, of a dbt process that did not write its audit rows; else nothing.

    A process that was killed left no run_results.json; then they are those of its log.
    """
    run: dict[str, Any] = {}
    finished = []
    for event in _events(project_dir / "logs" / "dbt.log"):
        name, data = event["info"]["name"], event["data"]
        if name == "JinjaLogDebug" and data["msg"].startswith("audit_run "):
            run = json.loads(data["msg"].removeprefix("audit_run "))
        elif name == "JinjaLogDebug" and data["msg"] == "audit_recorded":
            return {}, []
        elif name == "NodeFinished":
            finished.append(_from_event(data))
    if not run:
        return {}, []
    try:
        written = json.loads((project_dir / "target" / "run_results.json").read_text())
        # Only of this very process: what was there before is another's.
        if written["metadata"]["invocation_id"] == run["invocation_id"]:
            finished = written["results"]
    except (OSError, ValueError):
        log.warning("dbt did not live to write run_results.json; its log has %d results", len(finished))
    return run, [_short(result) for result in finished if not result["unique_id"].startswith("operation.")]


def pieces(run: dict[str, Any], results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield JSON texts of at most PIECE_BYTES that hold the results, each with `run`."""
    head = len(json.dumps({"run": run, "results": []}))
    size, part = head, []
    for result in results:
        length = len(json.dumps(result)) + 2
        if part and size + length > PIECE_BYTES:
            yield json.dumps({"run": run, "results": part})
            size, part = head, []
        size += length
        part.append(result)
    if part:
        yield json.dumps({"run": run, "results": part})


def _place(url: str, context: Any) -> tuple[Any, str, str]:
    """An S3 client, the bucket, and the folder of this pipeline in it."""
    # Imported here: a DAG file that is parsed has no use for boto3.
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
    return boto3.client("s3"), bucket, "/".join([*filter(None, [prefix]), context["ti"].dag_id, ""])


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            # The last line of a process that was killed may be half a line; and no other event matters.
            if line.endswith("\n") and ('"JinjaLogDebug"' in line or '"NodeFinished"' in line):
                yield json.loads(line)


def _from_event(data: dict[str, Any]) -> dict[str, Any]:
    """An event of dbt's log as an entry of run_results.json; its numbers and texts have no word for nothing."""
    result = data["run_result"]
    is_test = data["node_info"]["resource_type"] in ("test", "unit_test")
    return {
        "unique_id": data["node_info"]["unique_id"],
        "status": result["status"],
        "execution_time": result.get("execution_time", 0),
        "message": result.get("message") or None,
        "failures": result.get("num_failures", 0) if is_test else None,
        "thread_id": result.get("thread"),
        "timing": result.get("timing_info", []),
        "adapter_response": result.get("adapter_response", {}),
    }


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """Of an entry of run_results.json what the audit table has; not the compiled SQL, for one."""
    response = result.get("adapter_response") or {}
    kept = {name: response[name] for name in ("rows_affected", "query_id") if response.get(name) is not None}
    if "rows_affected" in kept:
        # In dbt's log every number is a float.
        kept["rows_affected"] = int(kept["rows_affected"])
    short = {name: result.get(name) for name in _FIELDS}
    return {
        **short,
        # The table has 4,096 bytes for it.
        "message": (result.get("message") or "")[:4096] if result.get("message") is not None else None,
        "timing": [
            {name: step.get(name) for name in ("started_at", "completed_at")} for step in result.get("timing") or []
        ],
        "adapter_response": kept,
    }


def _is_piece(text: str) -> bool:
    try:
        piece = json.loads(text)
        return bool(piece["run"]["invocation_id"]) and all(
            result["unique_id"].count(".") >= 2 for result in piece["results"]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
