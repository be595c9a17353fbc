"""The task that measures the freshness of a pipeline's sources before its models are built."""

import json
import logging
from pathlib import Path
from typing import Any

from cosmos.operators.local import DbtSourceLocalOperator

from mwaa_pipelines.compatibility import AirflowException
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.reporting import RUN_RESULTS
from mwaa_pipelines.results import first_error_line, push_entries, push_last_words
from mwaa_pipelines.unwritten_rows import store_unwritten_results

SOURCES = RUN_RESULTS.with_name("sources.json")

log = logging.getLogger(__name__)


class FreshnessOperator(DbtSourceLocalOperator):
    """Runs `dbt source freshness`, whose results are audit rows. By default, a stale source is only a warning."""

    def __init__(self, *, is_required: bool, **arguments: Any) -> None:
        """Create the task.

        Args:
            is_required: whether a source that is older than its error_after, or cannot be measured, ends the run.
            **arguments: of Cosmos's operator.
        """
        super().__init__(**arguments, callback=[store_unwritten_results, push_freshness])
        self.is_required = is_required
        self.has_measured = False

    def execute(self, context: Any, **kwargs: Any) -> None:
        """Run dbt.

        Raises:
            AirflowException: dbt failed before it measured the sources; or one of them is too old or cannot be
                measured, and it is required.
            AirflowFailException: the run's parameters contradict each other, or the pipeline's selector.
        """
        prepare(context)
        try:
            super().execute(context, **kwargs)
        except AirflowException:
            if self.is_required or not self.has_measured:
                raise
            log.warning("A source is stale or cannot be measured (see above). The models are built all the same.")


def push_freshness(project_dir: str, context: Any) -> None:
    """Push the freshness of each source for dbt_check. Cosmos calls this after dbt.

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
