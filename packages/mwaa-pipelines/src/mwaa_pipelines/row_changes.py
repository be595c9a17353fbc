"""Nodes that wrote many more or fewer rows than the last time. Each dbt_check pushes the counts for the next one.

dbt-redshift reports the rows of incremental models, snapshots and seeds, but not of tables and views.
"""

import logging
from collections.abc import Mapping
from typing import Any

from mwaa_pipelines.run_history import date_of, latest_record

_KEYS = ("row_counts_of_dated_run", "row_counts_of_undated_run")

log = logging.getLogger(__name__)


def row_changes(context: Any, rows: Mapping[str, int | None], percent: int) -> list[dict[str, Any]]:
    """Return the nodes whose number of rows changed by more than `percent`, as entries of the alert.

    Backfills, full refreshes and runs that load chosen files write other numbers of rows, so they are not compared.
    Neither are loads that found no new file.

    Args:
        context: Airflow's task context.
        rows: the rows that each node of this run wrote, or None if dbt does not know.
        percent: the largest change that is not reported.
    """
    # An exception here would prevent the report.
    try:
        ti, dag_run, params = context["ti"], context["dag_run"], context["params"]
        if params["full_refresh"] or params["start"] is not None or params["files"]:
            return []
        last = latest_record(ti, _KEYS)
        before = last["rows"] if last else {}
        now = {
            node: count for node, count in rows.items() if count is not None and (count or not node.startswith("load."))
        }
        record = {"date": date_of(dag_run), "rows": {**before, **now}}
        ti.xcom_push(key=_KEYS[dag_run.logical_date is None], value=record)
    except Exception:
        log.exception("The rows of earlier runs could not be read from Airflow; changes are not reported")
        return []
    return [
        {
            "unique_id": node,
            "status": "warn",
            "message": f"wrote {count:,} rows, {before[node]:,} the last time: more than {percent} % apart",
            "try_number": 1,
        }
        for node, count in now.items()
        if node in before and abs(count - before[node]) * 100 > percent * before[node]
    ]
