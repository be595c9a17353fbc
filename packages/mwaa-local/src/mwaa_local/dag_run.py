"""Runs a pipeline once, waits until the run ends, and prints the result."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redshift_connector
from rich.markup import escape
from rich.table import Table

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import FINAL, Airflow, NoAnswerError
from mwaa_local.settings import Passwords, Settings, SetupError
from mwaa_local.stack import connect, rows
from mwaa_pipelines.load_files import RECORDS, UNDEFINED_TABLE
from mwaa_pipelines.settings import Pipeline
from mwaa_pipelines.sql import error_code
from mwaa_release.progress import Steps, console

_COLOURS = {"success": "green", "failed": "red", "upstream_failed": "dark_orange", "skipped": "bright_black"}
_COLOURS |= {"pass": "green", "error": "red", "fail": "red", "warn": "yellow"}
# Statuses of dbt that the summary explains.
_BAD = {"error", "fail", "runtime error", "warn", "partial success"}
_SLOWEST = 5


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    dag_id: str
    run_id: str
    state: str
    # As Airflow shows it. The time between the tasks is part of it.
    wall_seconds: float
    tasks: list[dict[str, Any]]
    audit_columns: list[str]
    audit_rows: list[tuple[Any, ...]]
    alerts: list[dict[str, str]]
    # Files and rows that the run has loaded; None if the pipeline loads no files.
    loaded: tuple[int, int] | None = None
    # From the start of the first node to the end of the last one; None without audit trail.
    dbt_seconds: float | None = None

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "state": self.state,
            "wall_seconds": round(self.wall_seconds, 1),
            "tasks": {task["task_id"]: task["state"] for task in self.tasks},
            "audit_rows": len(self.audit_rows),
            "alerts": self.alerts,
        }
        path.write_text(json.dumps(content, indent=2) + "\n")


def run_pipeline(
    settings: Settings, pipeline: Pipeline, release_id: str, steps: Steps, check: Callable[[], None]
) -> Outcome:
    """Trigger a pipeline once Airflow has parsed the release, and return the result of the run.

    Args:
        settings: paths and ports of running stand-ins.
        pipeline: its entry in pipelines.yml.
        release_id: the release to run.
        steps: where progress is shown.
        check: raises SetupError if a stand-in has ended; called every second.

    Raises:
        SetupError: the DAG cannot be imported, or a stand-in has ended.
    """
    passwords, dag_id = Passwords.load(settings.state), pipeline.dag_name
    try:
        with contextlib.closing(Airflow(settings.airflow_port, passwords.airflow_admin)) as airflow:
            with steps.step(f"DAG {dag_id} from release {release_id}"):
                airflow.wait_for_dag(dag_id, release_id, 120)
                airflow.end_open_runs(dag_id)
                seed.read_alerts(settings)
            with steps.step("Run") as step:
                run_id = airflow.trigger(dag_id)
                state = wait_for_end(airflow, dag_id, run_id, step.say, check)
            # Pause the DAG, or its schedule starts more runs.
            airflow.end_open_runs(dag_id)
            tasks, seconds = airflow.tasks(dag_id, run_id), airflow.run_seconds(dag_id, run_id)
        columns, audit_rows = audit(settings, pipeline, run_id)
        dbt_seconds = audited_seconds(settings, pipeline, run_id) if audit_rows else None
        loaded = loaded_files(settings, pipeline, run_id) if pipeline.load else None
        alerts = seed.read_alerts(settings)
        return Outcome(dag_id, run_id, state, seconds, tasks, columns, audit_rows, alerts, loaded, dbt_seconds)
    except (NoAnswerError, redshift_connector.Error):
        # If a stand-in has ended, that is the better error message. Its owner checks every second.
        for _ in range(5):
            check()
            time.sleep(1)
        raise


def wait_for_end(
    airflow: Airflow, dag_id: str, run_id: str, say: Callable[[str], None], check: Callable[[], None]
) -> str:
    """Wait until a run ends, and return its state.

    Args:
        airflow: the client.
        dag_id: of the run.
        run_id: of the run.
        say: receives the progress, once a second.
        check: raises SetupError if a stand-in has ended; called every second.

    Raises:
        SetupError: the DAG cannot be imported any more. The run is marked failed, because it would never end.
    """
    started = datetime.now(UTC)
    while (state := airflow.run_state(dag_id, run_id)) not in FINAL:
        say(_progress(airflow.tasks(dag_id, run_id)))
        try:
            airflow.check_dag_file(dag_id, started)
        except SetupError as error:
            if not isinstance(error, NoAnswerError):
                airflow.end_open_runs(dag_id)
            raise
        time.sleep(1)
        check()
    return state


def end_runs(settings: Settings, pipeline: Pipeline) -> None:
    """Mark a pipeline's unfinished runs failed, and pause it.

    Raises:
        SetupError, httpx.HTTPError: Airflow does not answer.
    """
    passwords = Passwords.load(settings.state)
    with contextlib.closing(Airflow(settings.airflow_port, passwords.airflow_admin)) as airflow:
        airflow.end_open_runs(pipeline.dag_name)


def audit(settings: Settings, pipeline: Pipeline, run_id: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return columns and rows of a run in the audit table, oldest first; empty lists without a table."""
    schema, user = pipeline.target_schema, seed.database_user(pipeline)
    with contextlib.closing(connect(settings, user, Passwords.load(settings.state).dbt_user)) as connection:
        exists = "select count(*) from information_schema.tables where table_schema = %s and table_name = 'audit_table'"
        if not rows(connection, exists, (schema,))[1][0][0]:
            return [], []
        columns = "invocation_id, unique_id, name, resource_type, status, execution_time, rows_affected, message"
        columns += ", airflow_task_id, airflow_try_number"
        query = f"select {columns} from {schema}.audit_table where airflow_run_id = %s order by started_at"  # noqa: S608
        return rows(connection, query, (run_id,))


def audited_seconds(settings: Settings, pipeline: Pipeline, run_id: str) -> float | None:
    """Return the duration of a run in the audit views, in seconds; None without the view, or if no node started."""
    user = seed.database_user(pipeline)
    query = f"select duration_seconds from {pipeline.target_schema}.audit_runs where airflow_run_id = %s"  # noqa: S608
    with contextlib.closing(connect(settings, user, Passwords.load(settings.state).dbt_user)) as connection:
        try:
            runs = rows(connection, query, (run_id,))[1]
        except redshift_connector.ProgrammingError as error:
            if error_code(error) != UNDEFINED_TABLE:
                raise
            return None
    return float(runs[0][0]) if runs and runs[0][0] is not None else None


def loaded_files(settings: Settings, pipeline: Pipeline, run_id: str) -> tuple[int, int]:
    """Return how many files and rows a run has loaded."""
    user = seed.database_user(pipeline)
    query = f"select count(*), sum(row_count) from {pipeline.target_schema}.{RECORDS} where airflow_run_id = %s"  # noqa: S608
    with contextlib.closing(connect(settings, user, Passwords.load(settings.state).dbt_user)) as connection:
        try:
            ((files, total),) = rows(connection, query, (run_id,))[1]
        except redshift_connector.ProgrammingError as error:
            if error_code(error) != UNDEFINED_TABLE:
                raise
            # The run failed before it loaded anything.
            return 0, 0
    return files, int(total or 0)


def show(outcome: Outcome, logs: Path, verbose: bool = False) -> None:
    """Print a summary of a run: numbers of tasks and dbt results, the slowest nodes, failures, alerts, state.

    Args:
        outcome: the run.
        logs: folder of Airflow's logs, printed if the run failed.
        verbose: first print every task and every audit row as tables.
    """
    results = [dict(zip(outcome.audit_columns, values, strict=True)) for values in outcome.audit_rows]
    if verbose:
        console.print(_task_table(outcome.tasks))
        console.print(_result_table(results))
    console.print(f"Tasks: {_numbers(task['state'] for task in outcome.tasks)}")
    if outcome.loaded:
        files, total = outcome.loaded
        console.print(f"Loaded: {files} new {'file' if files == 1 else 'files'}, {total:,} rows", highlight=False)
    console.print(f"Audit rows of this run: {_numbers(result['status'] for result in results)}")
    slowest = sorted(results, key=lambda result: result["execution_time"] or 0, reverse=True)[:_SLOWEST]
    listed = ", ".join(f"{result['name']} {result['execution_time'] or 0:.2f} s" for result in slowest)
    if slowest:
        console.print(f"Slowest: {listed}", markup=False)
    for result in results:
        if result["status"] in _BAD:
            console.print(f"{_coloured(result['status'])} {escape(result['name'])}: {escape(result['message'] or '')}")
    alerts = Table(title="Alerts", title_justify="left", show_lines=True)
    alerts.add_column("subject", overflow="fold")
    alerts.add_column("message", overflow="fold")
    for alert in outcome.alerts:
        alerts.add_row(escape(alert["subject"]), escape(alert["message"]))
    console.print(alerts if outcome.alerts else "Alerts: none")
    if failed := [task["task_id"] for task in outcome.tasks if task["state"] == "failed"]:
        folder = logs / "tasks" / f"dag_id={outcome.dag_id}" / f"run_id={outcome.run_id}"
        console.print(f"Failed: {', '.join(failed)}\nLogs: {folder}", markup=False, soft_wrap=True)
    dbt = "" if outcome.dbt_seconds is None else f", dbt's nodes in {outcome.dbt_seconds:.0f} s"
    console.print(
        f"Run {outcome.run_id}: {_coloured(outcome.state)} in {outcome.wall_seconds:.0f} s{dbt}", soft_wrap=True
    )


def _task_table(tasks: list[dict[str, Any]]) -> Table:
    table = Table(title="Tasks", title_justify="left")
    for heading, justify in (("task", "left"), ("state", "left"), ("tries", "right"), ("seconds", "right")):
        table.add_column(heading, justify=justify, overflow="fold")
    for task in tasks:
        table.add_row(escape(task["task_id"]), _coloured(task["state"]), str(task["try_number"]), _seconds(task))
    return table


def _result_table(results: list[dict[str, Any]]) -> Table:
    table = Table(title="Audit rows of this run", title_justify="left")
    for heading, justify in (("name", "left"), ("type", "left"), ("status", "left"), ("seconds", "right")):
        table.add_column(heading, justify=justify, overflow="fold")
    table.add_column("rows", justify="right")
    for row in results:
        affected = row["rows_affected"]
        table.add_row(
            escape(row["name"]),
            row["resource_type"],
            _coloured(row["status"]),
            f"{row['execution_time']:.2f}",
            f"{affected:,}" if affected is not None else "",
        )
    return table


def _numbers(states: Iterable[str | None]) -> str:
    """Return how often each state occurs, the most frequent first."""
    return ", ".join(f"{count} {_coloured(state)}" for state, count in Counter(states).most_common()) or "none"


def _progress(tasks: list[dict[str, Any]]) -> str:
    ended = sum(task["state"] in {*FINAL, "upstream_failed", "skipped"} for task in tasks)
    running = [task["task_id"].split(".", 1)[-1] for task in tasks if task["state"] == "running"]
    names = ", ".join(running[:3]) + (f" and {len(running) - 3} more" if len(running) > 3 else "")
    return f"{ended} of {len(tasks)} tasks ended" + (f", running: {names}" if names else "")


def _coloured(state: str | None) -> str:
    colour = _COLOURS.get(state or "")
    return f"[{colour}]{state}[/]" if colour else str(state or "none")


def _seconds(task: dict[str, Any]) -> str:
    if not task["start_date"] or not task["end_date"]:
        return ""
    elapsed = datetime.fromisoformat(task["end_date"]) - datetime.fromisoformat(task["start_date"])
    return f"{elapsed.total_seconds():.1f}"
