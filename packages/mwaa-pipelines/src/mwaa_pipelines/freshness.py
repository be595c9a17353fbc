"""Pushes the freshness of sources. Imports nothing of Airflow, because it also runs in ECS."""

import json
import logging
from pathlib import Path
from typing import Any

from mwaa_pipelines.reporting import RUN_RESULTS
from mwaa_pipelines.results import first_error_line, push_entries, push_last_words

SOURCES = RUN_RESULTS.with_name("sources.json")

log = logging.getLogger(__name__)


def push_freshness(project_dir: str, context: Any) -> None:
    """Push the freshness of each source for dbt_check. Cosmos calls this after dbt, and the runner in ECS.

    Args:
        project_dir: the folder that dbt ran in. Cosmos deletes it afterwards.
        context: Airflow's task context.
    """
    # An exception here would hide dbt's own error.
    try:
        if not (Path(project_dir) / SOURCES).is_file():
            push_last_words(project_dir, context)
            return
        context["task"].has_measured = True
        content = json.loads((Path(project_dir) / SOURCES).read_text())
        entries = [_result(source, context["task"].is_required) for source in content["results"]]
        push_entries(entries, content["metadata"], context)
    except Exception:
        log.exception("The freshness of the sources could not be stored; the failure report will name only the task")


def _result(source: dict[str, Any], is_required: bool) -> dict[str, Any]:
    age = source.get("max_loaded_at_time_ago_in_s")
    is_fresh = source["status"] == "pass"
    return {
        "unique_id": source["unique_id"],
        "status": source["status"] if is_fresh or is_required else "warn",
        "message": first_error_line(source.get("error")) if age is None else f"newest row {age / 3600:,.1f} hours old",
        "execution_time": source.get("execution_time"),
    }
