"""Generates a fake history with the columns of the audit views."""

import datetime
from decimal import Decimal

NASTY = """</script><script>window.hacked = 1</script><!-- <img src=x onerror="window.hacked = 1"> 'quoted' "twice"
& \\ {{ 7 * 7 }} $$ % \x07 \u2028 é 🙂"""
REPORT_TIME = datetime.datetime(2026, 3, 31, 12, 0, tzinfo=datetime.UTC)


def history(runs: int, nodes: int, message: str = NASTY, fails: int = 7) -> dict[str, list[dict]]:
    """Return hourly runs, newest first. In every `fails`-th run the last node fails."""
    views = {"runs": [], "costs": [], "nodes": [], "statistics": [], "tests": [], "marts": [], "sources": []}
    for place in range(runs):
        started = datetime.datetime(2026, 3, 31, 11, 0) - datetime.timedelta(hours=place)
        key = f"flights_pipeline/scheduled__{started.isoformat()}"
        failed = place % fails == 0
        views["runs"].append(
            {
                "run_key": key,
                "airflow_dag_id": "flights_pipeline" if place % 5 else None,
                "release_id": "20260301T000000Z-0123abc",
                "run_date": started.date(),
                "started_at": started,
                "duration_seconds": Decimal("90.5"),
                "outcome": "failed" if failed else "passed",
                "nodes": nodes,
                "passed_nodes": nodes - failed,
                "warned_nodes": 0,
                "failed_nodes": int(failed),
                "skipped_nodes": 0,
                "retried_nodes": 0,
                "critical_path": "model_0 > model_1",
                "critical_path_seconds": 3.25,
            }
        )
        # Redshift forgets queries after about a week.
        if place < 100:
            cost = {"execution_seconds": 61.25, "queue_seconds": place / 10, "scanned_bytes": Decimal(3_141_592_653)}
            views["costs"].append({"run_key": key, **cost})
        for number in range(nodes):
            broken = failed and number == nodes - 1
            begun = started + datetime.timedelta(seconds=number * 0.7)
            views["nodes"].append(
                {
                    "run_key": key,
                    "unique_id": f"model.flights.model_{number}",
                    "name": f"model_{number}",
                    "resource_type": "model",
                    "owner": "analytics-engineering",
                    "outcome": "failed" if broken else "passed",
                    "message": f"{place}: {message}" if broken else "SUCCESS",
                    "failures": None,
                    "tries": 1,
                    "started_at": begun,
                    "completed_at": begun + datetime.timedelta(seconds=1.234 + place % 10 / 10),
                    "execution_time": 1.234 + place % 10 / 10,
                    "usual_execution_time": 1.5,
                    "rows_affected": 336_776 + place * number,
                    "airflow_log_url": f"http://127.0.0.1:8080/dags/flights_pipeline/runs/{place}/tasks/{number}",
                }
            )
    for number in range(nodes if runs else 0):
        unique_id, name = f"model.flights.model_{number}", f"model_{number}"
        views["statistics"].append(
            {
                "unique_id": unique_id,
                "name": name,
                "resource_type": "model",
                "owner": "analytics-engineering",
                "runs": runs,
                "failed_runs": 1,
                "failed_share": Decimal("0.1"),
                "retried_runs": 0,
                "median_execution_time": 1.5,
                "p95_execution_time": 2.0,
                "longest_execution_time": 2.134,
                "total_execution_time": 100.0 - number,
                "last_execution_time": 1.234,
                "last_times_usual": 0.8,
                "last_rows_affected": 336_776,
                "last_rows_change": 0,
            }
        )
    if runs:
        views["tests"].append(
            {
                "unique_id": "test.flights.t",
                "name": f"test {NASTY}",
                "health": "flaky",
                "last_outcome": "passed",
                "last_failures": 0,
                "runs": 5,
                "passed_runs": 3,
                "warned_runs": 0,
                "failed_runs": 2,
                "changes": 4,
                "last_passed_at": views["runs"][0]["started_at"],
            }
        )
        views["marts"].append(
            {
                "unique_id": "model.flights.model_0",
                "name": "model_0",
                "owner": None,
                "last_outcome": "passed",
                "built_at": views["runs"][0]["started_at"],
                "hours_since_built": Decimal("1.0"),
                "oldest_source_loaded_at": None,
                "hours_since_source_loaded": None,
            }
        )
        views["sources"].append(
            {
                "unique_id": "source.flights.landing.flights",
                "owner": None,
                "outcome": "warned",
                "status": "error",
                "message": None,
                "completed_at": views["runs"][0]["started_at"],
                "source_max_loaded_at": views["runs"][0]["started_at"] - datetime.timedelta(days=9),
            }
        )
    return views
