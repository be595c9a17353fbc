"""The parameters of a run, for backfills. They are checked first, and then passed to each dbt process."""

import re
from collections.abc import Iterable
from typing import Any

from airflow.sdk import Param

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.cosmos_internals import report_outcomes
from mwaa_pipelines.setting_types import SELECTOR
from mwaa_pipelines.task_ids import AUDIT_GROUP
from mwaa_pipelines.unwritten_rows import finish_callbacks
from mwaa_pipelines.worker import check_worker, share_parsed

_REBUILDING = {"build", "run", "seed"}
_BATCHING = {"build", "run"}


def run_parameters() -> dict[str, Param]:
    """Return the parameters that Airflow shows and validates when somebody starts a run.

    All of them can be null, because Airflow's form marks the others as required.
    """
    day = {"type": ["null", "string"], "format": "date"}
    return {
        "start": Param(
            None,
            **day,
            description="First day to build: variable backfill_start, and --event-time-start of microbatch models.",
        ),
        "end": Param(
            None,
            **day,
            description="Day after the last one: variable backfill_end, and --event-time-end.",
        ),
        "full_refresh": Param(
            False,
            type=["null", "boolean"],
            description="Rebuild incremental models from scratch. The audit table is kept.",
        ),
        "select": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": SELECTOR},
            description="dbt selectors, one in each line, such as tag:mart or departures+. Only these nodes are built.",
        ),
        "files": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": "^s3://"},
            description="Files in S3, one in each line. Of the files that the pipeline loads, only these are loaded.",
        ),
    }


def prepare(context: Any) -> None:
    """Check the worker and the parameters before a dbt task runs, and prepare the task: parameters, cache, reports.

    Raises:
        AirflowFailException: dbt is not installed, or the parameters contradict each other.
    """
    check_worker(context)
    check_parameters(context["params"])
    hand_over(context["task"], context["params"])
    share_parsed(context["task"], context["ti"].dag_id)
    finish_callbacks(context["task"])
    if hasattr(context["task"], "watched_together"):
        report_outcomes(context["task"])


def check_parameters(params: Any) -> None:
    """Check the rules that a JSON schema cannot express.

    Raises:
        AirflowFailException: start and end are not a valid range; the message names the parameter.
    """
    start, end = params["start"], params["end"]
    if (start is None) != (end is None):
        raise AirflowFailException(f"the run parameters start={start} and end={end} go together: set both or neither")
    # ISO dates sort like dates.
    if start is not None and start >= end:
        raise AirflowFailException(f"the run parameter start={start} must be before end={end}")


def hand_over(task: Any, params: Any) -> None:
    """Apply the parameters to the dbt command of a task. Call it once in each process.

    Args:
        task: a Cosmos operator. Tasks of the audit group are left unchanged.
        params: the run's parameters.

    Raises:
        AirflowFailException: dbt would ignore a parameter.
    """
    if task.task_id.startswith(f"{AUDIT_GROUP}."):
        return
    command = task.base_cmd[0]
    if command in _REBUILDING:
        task.full_refresh = bool(params["full_refresh"])
    if params["start"] is not None:
        task.vars = {**(task.vars or {}), "backfill_start": params["start"], "backfill_end": params["end"]}
        span = ["--event-time-start", params["start"], "--event-time-end", params["end"]]
        if command in _BATCHING:
            task.dbt_cmd_flags = [*task.dbt_cmd_flags, *span]
    if params["select"]:
        if task.selector:
            raise AirflowFailException(
                f"the run parameter select={params['select']} cannot be combined with the setting selector: "
                f"{task.selector} of this pipeline, because dbt ignores it. Start the run without select"
            )
        chosen = params["select"]
        task.select = _both(task.select, map(_with_sources, chosen) if command == "source" else chosen)


def _with_sources(selector: str) -> str:
    """Return a selector that also matches the sources upstream, such as +orders+ for orders+ and 1+orders+."""
    parts = (re.sub(r"^(?!@)(\d*\+)?", "+", part) for part in selector.split(","))
    return ",".join(parts)


def _both(own: str | None, chosen: Iterable[str]) -> str:
    """Return the intersection of two selections. In dbt, a space is a union and a comma is an intersection."""
    chosen = list(chosen)
    if not own:
        return " ".join(chosen)
    return " ".join(f"{selector},{other}" for selector in own.split() for other in chosen)
