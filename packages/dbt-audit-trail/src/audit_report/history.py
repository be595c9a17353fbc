"""Turns rows of the audit views into the compact JSON that the page's scripts read.

A node result is a list of numbers in the order of RESULT. Names, messages and log addresses are stored once; results
refer to them by index.
"""

import datetime
import decimal
import math
from typing import Any

Row = dict[str, Any]

OUTCOMES = ("passed", "warned", "failed", "skipped")
RUN = (
    "key",
    "pipeline",
    "release",
    "date",
    "started",
    "seconds",
    "outcome",
    *OUTCOMES,
    "retried",
    "path",
    "pathSeconds",
    "airflow",
)
COST = ("execution_seconds", "queue_seconds", "scanned_bytes")
RESULT = (
    "run",
    "node",
    "outcome",
    "start",
    "length",
    "seconds",
    "usual",
    "rows",
    "tries",
    "failures",
    "message",
    "log",
)
MESSAGE_CHARACTERS = 2_000
# The size limit of all messages and addresses together. The newest ones are kept.
TEXT_BYTES = 400_000
LEFT_OUT = "(not shown, to keep this page small; see audit_table)"


class _Texts:
    """A list of distinct texts of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.all: list[str] = []
        self._indexes: dict[str, int] = {}
        self._free_bytes = limit

    def index(self, text: str | None, substitute: str | None = None) -> int | None:
        """Add `text` and return its index, or the index of `substitute` if there is no room."""
        if not text:
            return None
        if text not in self._indexes:
            # The size in the file, where control characters and "<" take six bytes.
            size = len(text.encode()) + 5 * sum(character in "<>&" or character < " " for character in text) + 3
            if size > self._free_bytes and text != substitute:
                return self.index(substitute, substitute)
            self._free_bytes -= size
            self._indexes[text] = len(self.all)
            self.all.append(text)
        return self._indexes[text]


def compact(history: dict[str, list[Row]]) -> dict[str, Any]:
    """Return the data of the page for the rows that `source.read` returned.

    Times are milliseconds since 1970 (UTC). A result's start is relative to the start of its run. Durations are in
    seconds, a result's length in milliseconds.
    """
    texts, names, paths = _Texts(TEXT_BYTES), _Texts(TEXT_BYTES), _Texts(TEXT_BYTES // 4)
    node_indexes: dict[str, int] = {}
    nodes: list[list[Any]] = []
    starts = {row["run_key"]: _milliseconds(row["started_at"]) for row in history["runs"]}
    run_indexes = {key: index for index, key in enumerate(starts)}
    results = []
    for row in history["nodes"]:
        if row["run_key"] not in run_indexes:
            continue
        if row["unique_id"] not in node_indexes:
            node_indexes[row["unique_id"]] = len(nodes)
            nodes.append([row["unique_id"], row["name"], row["resource_type"], row["owner"]])
        started, ended = _milliseconds(row["started_at"]), _milliseconds(row["completed_at"])
        run_started = starts[row["run_key"]]
        has_details = row["outcome"] in ("warned", "failed")
        result = [
            run_indexes[row["run_key"]],
            node_indexes[row["unique_id"]],
            OUTCOMES.index(row["outcome"]),
            None if started is None or run_started is None else started - run_started,
            None if started is None or ended is None else ended - started,
            _number(row["execution_time"]),
            _number(row["usual_execution_time"]),
            _number(row["rows_affected"]),
            _number(row["tries"]),
            _number(row["failures"]),
            texts.index(cut(row["message"]), LEFT_OUT) if has_details else None,
            texts.index(row["airflow_log_url"]) if has_details else None,
        ]
        while result[-1] is None:
            result.pop()
        results.append(result)
    logs = {row["run_key"]: row["airflow_log_url"] for row in history["nodes"] if row["airflow_log_url"]}
    runs = [
        [*_run(row, names, paths), names.index(_airflow_address(logs.get(row["run_key"]), row["run_key"]))]
        for row in history["runs"]
    ]
    # Most runs of a long history have no cost any more.
    costs = [
        [run_indexes[row["run_key"]], *(_number(row[name]) for name in COST)]
        for row in history["costs"]
        if row["run_key"] in run_indexes
    ]
    return {
        "runColumns": RUN,
        "runs": runs,
        "costs": costs,
        "resultColumns": RESULT,
        "results": results,
        "nodes": nodes,
        "texts": texts.all,
        "names": names.all,
        "paths": paths.all,
        **{name: [_plain(row) for row in history[name]] for name in ("statistics", "tests", "marts", "sources")},
    }


def cut(message: str | None) -> str | None:
    """Cut a message at MESSAGE_CHARACTERS, and say how many characters are missing."""
    if message and len(message) > MESSAGE_CHARACTERS:
        return f"{message[:MESSAGE_CHARACTERS]} … ({len(message) - MESSAGE_CHARACTERS:,} more characters)"
    return message


def _run(row: Row, names: _Texts, paths: _Texts) -> list[Any]:
    return [
        row["run_key"],
        names.index(row["airflow_dag_id"]),
        names.index(row["release_id"]),
        names.index(row["run_date"].isoformat()),
        _milliseconds(row["started_at"]),
        _number(row["duration_seconds"]),
        OUTCOMES.index(row["outcome"]),
        *(_number(row[f"{outcome}_nodes"]) for outcome in OUTCOMES),
        _number(row["retried_nodes"]),
        paths.index(row["critical_path"]),
        _number(row["critical_path_seconds"]),
    ]


def _airflow_address(log_url: str | None, run_key: str) -> str | None:
    """Return the address of Airflow's UI, which the addresses of its logs start with."""
    dag_id, has_run, _ = run_key.partition("/")
    address, is_airflow, _ = (log_url or "").partition(f"/dags/{dag_id}/runs/")
    return address if has_run and is_airflow else None


def _plain(row: Row) -> Row:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return _milliseconds(value)
    return _number(value) if isinstance(value, float | decimal.Decimal) else value


def _milliseconds(time: datetime.datetime | None) -> int | None:
    # Timestamps of the audit table are UTC, without a zone.
    return None if time is None else round(time.replace(tzinfo=time.tzinfo or datetime.UTC).timestamp() * 1000)


def _number(value: float | decimal.Decimal | None) -> float | int | None:
    # JSON has no infinity.
    if value is None or not math.isfinite(value):
        return None
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded
