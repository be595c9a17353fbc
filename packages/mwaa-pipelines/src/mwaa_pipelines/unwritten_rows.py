"""Results that are missing in the audit table. Tasks store them in S3, and the next run's audit task writes them.

dbt's log shows which results these are. The audit trail's hooks log two lines: `audit_run <JSON>` at the start, with
the values that all rows share, and `audit_recorded` after the rows were written. The second line is missing if a dbt
process could not write its rows or was killed. The macro recover_audit_rows writes the results that are injected here.

Every result that dbt has reported is in the audit table, once, after the next run, whatever ends and when:

| what ends                             | where the results are           | who writes them, and why once           |
|---------------------------------------|---------------------------------|-----------------------------------------|
| dbt, before the insert of its hook    | log and run_results.json        | callback to S3; next run to the table   |
| dbt, by an interrupt                  | the same: dbt writes the file,  | the same; results of both are stored    |
|                                       | then waits for running nodes    |                                         |
| dbt or its session, during the insert | log; some or all in the table   | the same; the next run skips known ids  |
| dbt, between the commit and its log   | log, and all in the table       | the same                                |
| the task, by SIGTERM in the callback  | log                             | the callback goes on: finish_callbacks  |
| the worker or container, dbt included | XComs: what sensors saw pass    | dbt_check to S3 (lost_worker.py)        |
| the task, but not its dbt             | dbt goes on and writes its rows | the next run deletes those of dbt_check |
| S3, during the callback               | XComs, as above                 | dbt_check to S3                         |
| the audit task, at any moment         | S3, until the task succeeds     | the next run skips known ids            |
| the audit task, but not its dbt       | S3                              | one of both: they lock the table        |
| Airflow's scheduler, triggerer, API   | dbt goes on and writes its rows | as above, if Airflow loses the task     |
| server, DAG processor or database     |                                 |                                         |

Not covered: results that nobody saw before a worker was lost. Their nodes run again, so the table lacks one try. Nor
what a sensor saw, if dbt_check is killed too, or if the run has a selection and Airflow retried the lost task.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mwaa_pipelines.reporting import LOG, RUN_RESULTS

# Airflow's configuration option dbt.kept_results: s3://<bucket>/<prefix>.
KEPT_RESULTS = "AIRFLOW__DBT__KEPT_RESULTS"
# Results are passed in environment variables. Linux limits one to 131,072 bytes, and all of them to about 2 MB.
CHUNK_BYTES = 100_000
CHUNKS = 12
# The XCom of a task that runs dbt for many nodes: the results that are in the audit table or in S3. None: all.
SAFE_KEY = "dbt_results_safe"
_FIELDS = ("unique_id", "status", "execution_time", "message", "failures", "thread_id", "max_loaded_at")

log = logging.getLogger(__name__)


def store_unwritten_results(project_dir: str, context: Any) -> None:
    """Store the results that dbt did not write to the audit table in S3. Cosmos calls this after every dbt process.

    Args:
        project_dir: the folder that dbt ran in. Cosmos deletes it afterwards.
        context: Airflow's task context.
    """
    # An exception here would hide dbt's own error.
    try:
        run, results = unwritten_results(Path(project_dir))
        if results:
            store_results(run, results, context)
        if hasattr(context.get("task"), "watched_together"):
            safe = [result["unique_id"] for result in results]
            context["ti"].xcom_push(key=SAFE_KEY, value={"unique_ids": safe if run else None})
    except FileNotFoundError:
        log.warning("dbt ended before it created its log")
    except Exception:
        log.exception("The results that are not in the audit table could not be stored")


def finish_callbacks(task: Any) -> None:
    """Let SIGTERM end a running dbt, but not the callbacks that store its results.

    Airflow calls on_kill within its signal handler. After dbt has ended, Cosmos raises ProcessLookupError there.

    Args:
        task: a Cosmos operator that is about to run dbt.
    """
    on_kill = task.on_kill

    def end_dbt() -> None:
        with contextlib.suppress(ProcessLookupError):
            on_kill()

    task.on_kill = end_dbt


def store_results(run: dict[str, Any], results: list[dict[str, Any]], context: Any) -> None:
    """Store results in S3, or log that they are lost if dbt.kept_results is not set.

    Args:
        run: the values that all rows share, from the macro audit_run().
        results: entries of run_results.json, shortened.
        context: Airflow's task context.

    Raises:
        BotoCoreError, ClientError: the results could not be stored.
    """
    url = os.environ.get(KEPT_RESULTS)
    if not url:
        log.error("%d results are lost: they are not in the audit table, and dbt.kept_results is not set", len(results))
        return
    s3, bucket, prefix = _location(url, context)
    for number, chunk in enumerate(chunks(run, results)):
        key = f"{prefix}{run['invocation_id']}.{number:04}.json"
        s3.put_object(Bucket=bucket, Key=key, Body=chunk.encode())
    log.error("%d results are not in the audit table; the next run writes them from %s", len(results), url)


def inject_stored_results(context: Any) -> None:
    """Add the results that earlier runs stored to the environment of the audit task. Airflow calls this before it.

    Errors are logged and do not stop the run, because the next run tries again.
    """
    context["kept_results"] = []
    if not (url := os.environ.get(KEPT_RESULTS)):
        return
    try:
        s3, bucket, prefix = _location(url, context)
        chunks_by_key = {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for key in (entry["Key"] for entry in page.get("Contents", [])):
                text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode(errors="replace")
                if not _is_chunk(text):
                    log.error("s3://%s/%s is not a stored result file. Delete it", bucket, key)
                elif len(chunks_by_key) < CHUNKS:
                    chunks_by_key[key] = text
        names = {f"DBT_AUDIT_KEPT_{number}": text for number, text in enumerate(chunks_by_key.values())}
        context["task"].env = {**(context["task"].env or {}), **names}
        context["kept_results"] = list(chunks_by_key)
    except Exception:
        log.exception("The results that earlier runs stored in %s could not be read", url)


def delete_stored_results(context: Any) -> None:
    """Delete the stored results that the audit task has written. Airflow calls this after the task succeeded."""
    try:
        if keys := context.get("kept_results"):
            s3, bucket, _ = _location(os.environ[KEPT_RESULTS], context)
            for key in keys:
                s3.delete_object(Bucket=bucket, Key=key)
    except Exception:
        # The next run injects them again; the macro skips rows that are in the table.
        log.exception("The stored results, which are now in the audit table, could not be deleted")


def unwritten_results(project_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the common values and the results of a dbt process that did not write its audit rows; otherwise nothing.

    The results are those of run_results.json, and those that only the log has: a killed process has not written the
    file, and an interrupted one writes it before its running nodes end.
    """
    run: dict[str, Any] = {}
    results: dict[str, dict[str, Any]] = {}
    for event in _events(project_dir / LOG):
        name, data = event["info"]["name"], event["data"]
        if name == "JinjaLogDebug" and data["msg"].startswith("audit_run "):
            run = json.loads(data["msg"].removeprefix("audit_run "))
        elif name == "JinjaLogDebug" and data["msg"] == "audit_recorded":
            return {}, []
        elif name == "NodeFinished":
            results[data["node_info"]["unique_id"]] = _from_event(data)
    if not run:
        return {}, []
    try:
        written = json.loads((project_dir / RUN_RESULTS).read_text())
        # The file may be from an earlier process.
        if written["metadata"]["invocation_id"] == run["invocation_id"]:
            results |= {result["unique_id"]: result for result in written["results"]}
    except (OSError, ValueError):
        log.warning("dbt was killed before it wrote run_results.json; its log has %d results", len(results))
    return run, [_short(result) for name, result in results.items() if not name.startswith("operation.")]


def chunks(run: dict[str, Any], results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield JSON texts of at most CHUNK_BYTES; each contains `run` and some of the results."""
    head = len(json.dumps({"run": run, "results": []}))
    size, part = head, []
    for result in results:
        length = len(json.dumps(result)) + 2
        if part and size + length > CHUNK_BYTES:
            yield json.dumps({"run": run, "results": part})
            size, part = head, []
        size += length
        part.append(result)
    if part:
        yield json.dumps({"run": run, "results": part})


def _location(url: str, context: Any) -> tuple[Any, str, str]:
    """Return an S3 client, the bucket, and the prefix of this pipeline."""
    # Imported here because parsing a DAG file does not need boto3.
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
    return boto3.client("s3"), bucket, "/".join([*filter(None, [prefix]), context["ti"].dag_id, ""])


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            # The last line of a killed process may be incomplete.
            if line.endswith("\n") and ('"JinjaLogDebug"' in line or '"NodeFinished"' in line):
                yield json.loads(line)


def _from_event(data: dict[str, Any]) -> dict[str, Any]:
    """Return an event of dbt's log as an entry of run_results.json. The log has 0 and "" where the file has null."""
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
    """Return the fields of an entry of run_results.json that the audit table has, without the compiled SQL."""
    response = result.get("adapter_response") or {}
    response_fields = {name: response[name] for name in ("rows_affected", "query_id") if response.get(name) is not None}
    if "rows_affected" in response_fields:
        # dbt's log has only floats.
        response_fields["rows_affected"] = int(response_fields["rows_affected"])
    short = {name: result.get(name) for name in _FIELDS}
    return {
        **short,
        # The column has 4,096 bytes.
        "message": (result.get("message") or "")[:4096] if result.get("message") is not None else None,
        "timing": [
            {name: step.get(name) for name in ("started_at", "completed_at")} for step in result.get("timing") or []
        ],
        "adapter_response": response_fields,
    }


def _is_chunk(text: str) -> bool:
    try:
        chunk = json.loads(text)
        return bool(chunk["run"]["invocation_id"]) and all(
            result["unique_id"].count(".") >= 2 for result in chunk["results"]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
