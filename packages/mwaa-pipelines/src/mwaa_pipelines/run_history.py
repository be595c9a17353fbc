"""Whether a run failed since the last check, and when a run last succeeded.

Airflow's `get_previous_dagrun` ignores runs without a logical date, which assets, files and the API start. So each
dbt_check pushes a record as an XCom, and that of the next run reads it.
"""

import logging
from typing import Any

# Airflow returns the XCom of the run with the latest logical date, and runs without one in the order of their time.
_KEYS = ("history_of_dated_run", "history_of_undated_run")

log = logging.getLogger(__name__)


def update_history(ti: Any, dag_run: Any) -> dict[str, Any]:
    """Push the record of this run, and return the alert's fields `again` and `last_success`.

    A run that was cleared after it failed has a try number of 2 or more.

    Args:
        ti: the task instance of dbt_check.
        dag_run: its run.

    Returns:
        Nothing if Airflow does not answer.
    """
    try:
        last = latest_record(ti, _KEYS)
        # The count also includes runs that failed before their dbt_check, such as one that took too long.
        failed_runs = ti.get_dr_count(dag_id=ti.dag_id, states=["failed"])
        again, last_success = ti.try_number > 1, None
        if last:
            state = ti.get_dagrun_state(dag_id=ti.dag_id, run_id=last["run_id"])
            last_success = last["date"] if state == "success" else last["last_success"]
            again = again or state == "failed" or failed_runs > last["failed_runs"]
        record = {
            "run_id": dag_run.run_id,
            "date": date_of(dag_run),
            "failed_runs": failed_runs,
            "last_success": last_success,
        }
        ti.xcom_push(key=_KEYS[dag_run.logical_date is None], value=record)
    except Exception:
        log.exception("Earlier runs could not be read from Airflow; the alert has no history")
        return {}
    return {"again": again, "last_success": last_success}


def latest_record(ti: Any, keys: tuple[str, str]) -> dict[str, Any] | None:
    """Return what the latest run pushed with one of two keys, for runs with and without a logical date."""
    pulled = [ti.xcom_pull(key=key, map_indexes=-1, include_prior_dates=True) for key in keys]
    return max(filter(None, pulled), key=lambda record: record["date"], default=None)


def date_of(dag_run: Any) -> str:
    """Return the date that orders the records of runs."""
    return (dag_run.logical_date or dag_run.run_after).isoformat()
