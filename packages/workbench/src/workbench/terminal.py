"""The terminal output of the commands on models."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import redshift_connector
from dbt.artifacts.schemas.results import NodeResult, NodeStatus
from rich.markup import escape

from mwaa_local.query import show_rows
from mwaa_release.progress import DONE, FAILED, STOPPED, Steps, console
from workbench.problems import Problem
from workbench.relations import Difference

_ROWS_THAT_FAIL = 5
_SIGNS = {
    NodeStatus.Success: DONE,
    NodeStatus.Pass: DONE,
    NodeStatus.NoOp: DONE,
    NodeStatus.Warn: "[yellow]![/]",
    NodeStatus.Skipped: STOPPED,
}


class Progress:
    """Shows how many nodes are done while dbt runs. Use as a context manager."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0
        self._running: list[str] = []
        self._lock = threading.Lock()
        self._steps = Steps(transient=True)

    def __enter__(self) -> "Progress":
        self._steps.__enter__()
        self._step = self._steps.begin("dbt")
        return self

    def __exit__(self, *_: object) -> None:
        self._step.end(DONE)
        self._steps.__exit__()

    def on_event(self, event: Any) -> None:
        """Show the start or the end of a node; dbt calls this from its threads."""
        if event.info.name not in {"NodeStart", "NodeFinished"}:
            return
        name = event.data.node_info.node_name
        with self._lock:
            if event.info.name == "NodeStart":
                self._running.append(name)
            else:
                self._ended += 1
                self._running = [running for running in self._running if running != name]
            self._step.say(f"{self._ended} of {self._total}: {', '.join(self._running)}")


def show_result(result: NodeResult, needed: bool) -> None:
    """Print one line for a node. Passed tests are only counted."""
    node: Any = result.node
    if node.resource_type in ("test", "unit_test") and result.status in {NodeStatus.Pass, NodeStatus.Skipped}:
        return
    sign = _SIGNS.get(result.status, FAILED)
    rows = result.adapter_response.get("rows_affected", -1) if node.resource_type not in ("test", "unit_test") else -1
    details = [
        node.config.materialized if node.resource_type == "model" else node.resource_type.replace("_", " "),
        *([f"{rows:,} rows"] if rows >= 0 else []),
        *(["skipped"] if result.status == NodeStatus.Skipped else [f"{result.execution_time:.2f} s"]),
        *(["was missing"] if needed else []),
    ]
    console.print(f"{sign} {escape(node.name)} [bright_black]{', '.join(details)}[/]")


def show_problem(problem: Problem) -> None:
    """Print a mistake, its place, and the fix."""
    place = f"[bold]{escape(problem.place)}[/]: " if problem.place else ""
    console.print(f"  {place}[red]{escape(problem.message)}[/]", soft_wrap=True)
    if problem.excerpt:
        console.print("\n".join(f"    {line}" for line in problem.excerpt.splitlines()), markup=False, soft_wrap=True)
    if problem.hint:
        console.print(f"  → {escape(problem.hint)}", soft_wrap=True)


def show_misspelt_keys(problems: Sequence[Problem]) -> None:
    """Print a warning for each key that dbt does not know, and that is similar to a known one."""
    for problem in problems:
        console.print(f"[yellow]![/] [bold]{escape(problem.place)}[/]: {escape(problem.message)}", soft_wrap=True)
        console.print(f"  → {escape(problem.hint or '')}", soft_wrap=True)


def show_rows_that_fail(connection: redshift_connector.Connection, query: str) -> None:
    """Print the first rows that a failed test found."""
    with connection.cursor() as cursor:
        cursor.paramstyle = "qmark"
        cursor.execute(f"select * from (\n{query}\n) as failing limit {_ROWS_THAT_FAIL}")  # noqa: S608 - dbt's own SQL
        show_rows([column[0] for column in cursor.description], cursor.fetchall())


def show_difference(difference: Difference, unchanged: str = "same rows as before") -> None:
    """Print the changes of a relation, or `unchanged` if there are none."""
    if difference.is_empty:
        too_large = "too large to compare row by row; same number of rows"
        console.print(f"    [bright_black]{unchanged if difference.compared else too_large}[/]")
        return
    changes = [
        *([f"+{difference.added:,} rows"] if difference.added else []),
        *([f"-{difference.removed:,} rows"] if difference.removed else []),
        *([f"{difference.changed:,} rows changed"] if difference.changed else []),
        *(f"column added: {name}" for name in difference.columns_added),
        *(f"column removed: {name}" for name in difference.columns_removed),
        *(f"type changed: {name}" for name in difference.columns_retyped),
    ]
    if not difference.compared and difference.rows_before != difference.rows_after:
        changes.append(f"{difference.rows_before:,} → {difference.rows_after:,} rows")
    console.print(f"    [cyan]{escape(', '.join(changes))}[/]", soft_wrap=True)
    for key, what in difference.sample:
        console.print(f"      {escape(key)}  {escape(what)}", no_wrap=True, overflow="ellipsis", style="bright_black")


def show_summary(results: Sequence[NodeResult], seconds: float) -> None:
    """Print how many nodes were built, tested, failed or skipped."""
    counted: Counter[str] = Counter()
    for result in results:
        test = result.node.resource_type in ("test", "unit_test")
        if result.status in {NodeStatus.Success, NodeStatus.Pass, NodeStatus.NoOp}:
            counted["tests passed" if test else "built"] += 1
        elif result.status == NodeStatus.Warn:
            counted["warned"] += 1
        elif result.status == NodeStatus.Skipped:
            counted["skipped"] += 1
        else:
            counted["failed"] += 1
    style = "red" if counted["failed"] else "green"
    order = ("built", "tests passed", "warned", "failed", "skipped")
    totals = ", ".join(f"{counted[what]} {what}" for what in order if counted[what]) or "nothing to do"
    console.print(f"[{style}]{totals}[/] in {seconds:.1f} s")
