"""Turns rows of the audit views into the small JSON that the page's scripts read.

A node result is a list of numbers in the order of RESULT; names, messages and log addresses are kept once,
and pointed at.
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
)
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
# All messages and addresses together, so that a bad month does not make a page nobody can open. Newest first.
TEXT_BYTES = 400_000
LEFT_OUT = "(left out to keep this page small; it is in audit_table)"


class _Texts:
    """Texts kept once, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.all: list[str] = []
        self._places: dict[str, int] = {}
        self._left = limit

    def place(self, text: str | None, instead: str | None = None) -> int | None:
        """Where `text` is kept; if there is no room for it, where `instead` is."""
        if not text:
            return None
        if text not in self._places:
            # As it stands in the file: control characters and "<" take six bytes there.
            size = len(text.encode()) + 5 * sum(character in "<>&" or character < " " for character in text) + 3
            if size > self._left and text != instead:
                return self.place(instead, instead)
            self._left -= size
            self._places[text] = len(self.all)
            self.all.append(text)
        return self._places[text]


def compact(found: dict[str, list[Row]]) -> dict[str, Any]:
    """Make the page's data of what `source.read` gives.

    Times are milliseconds since 1970 (UTC), a result's start is counted from its run's start; durations are in seconds,
    a result's length in milliseconds.
    """
    texts, names, paths = _Texts(TEXT_BYTES), _Texts(TEXT_BYTES), _Texts(TEXT_BYTES // 4)
    nodes: dict[str, int] = {}
    named: list[list[Any]] = []
    starts = {row["run_key"]: _milliseconds(row["started_at"]) for row in found["runs"]}
    places = {key: place for place, key in enumerate(starts)}
    results = []
    for row in found["nodes"]:
        if row["run_key"] not in places:
            continue
        if row["unique_id"] not in nodes:
            nodes[row["unique_id"]] = len(named)
            named.append([row["unique_id"], row["name"], row["resource_type"], row["owner"]])
        started, ended = _milliseconds(row["started_at"]), _milliseconds(row["completed_at"])
        begun = starts[row["run_key"]]
        told = row["outcome"] in ("warned", "failed")
        result = [
            places[row["run_key"]],
            nodes[row["unique_id"]],
            OUTCOMES.index(row["outcome"]),
            None if started is None or begun is None else started - begun,
            None if started is None or ended is None else ended - started,
            _number(row["execution_time"]),
            _number(row["usual_execution_time"]),
            _number(row["rows_affected"]),
            _number(row["tries"]),
            _number(row["failures"]),
            texts.place(cut(row["message"]), LEFT_OUT) if told else None,
            texts.place(row["airflow_log_url"]) if told else None,
        ]
        while result[-1] is None:
            result.pop()
        results.append(result)
    runs = [_run(row, names, paths) for row in found["runs"]]
    return {
        "runColumns": RUN,
        "runs": runs,
        "resultColumns": RESULT,
        "results": results,
        "nodes": named,
        "texts": texts.all,
        "names": names.all,
        "paths": paths.all,
        **{name: [_plain(row) for row in found[name]] for name in ("statistics", "tests", "marts")},
    }


def cut(message: str | None) -> str | None:
    """Shorten a message to what is worth reading in a list, and say so."""
    if message and len(message) > MESSAGE_CHARACTERS:
        return f"{message[:MESSAGE_CHARACTERS]} … ({len(message) - MESSAGE_CHARACTERS:,} more characters)"
    return message


def _run(row: Row, names: _Texts, paths: _Texts) -> list[Any]:
    return [
        row["run_key"],
        names.place(row["airflow_dag_id"]),
        names.place(row["release_id"]),
        names.place(row["run_date"].isoformat()),
        _milliseconds(row["started_at"]),
        _number(row["duration_seconds"]),
        OUTCOMES.index(row["outcome"]),
        *(_number(row[f"{outcome}_nodes"]) for outcome in OUTCOMES),
        _number(row["retried_nodes"]),
        paths.place(row["critical_path"]),
        _number(row["critical_path_seconds"]),
    ]


def _plain(row: Row) -> Row:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return _milliseconds(value)
    return _number(value) if isinstance(value, float | decimal.Decimal) else value


def _milliseconds(time: datetime.datetime | None) -> int | None:
    # The audit table's timestamps have no zone, and are UTC.
    return None if time is None else round(time.replace(tzinfo=time.tzinfo or datetime.UTC).timestamp() * 1000)


def _number(value: float | decimal.Decimal | None) -> float | int | None:
    # JSON has no infinity.
    if value is None or not math.isfinite(value):
        return None
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded
