"""Hands dbt's results to the sensors while dbt is still running: status, rows, seconds, error of each node.

dbt prints the errors of nodes when it ends. Its log file has them when they occur.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mwaa_pipelines.results import MESSAGE_CHARACTERS

# In dbt's output, these events are the first to say that a node has ended.
_EVENTS = {f"Log{kind}Result" for kind in ("Function", "Model", "Seed", "Snapshot", "Test")}

# In dbt's log file, with the error as the user sees it: its heading, the database's words, and the file with the SQL.
_ERRORS = ("CatchableExceptionOnRun", "InternalErrorOnRun", "GenericExceptionOnRun")
_FAILED = ("error", "partial success")
SUCCEEDED = ("success", "pass", "warn")
# An XCom is a row of Airflow's database. It is written again for each node until it is full.
_ERROR_CHARACTERS = 4000
OUTCOME_CHARACTERS = 50_000
PER_XCOM = 50

log = logging.getLogger(__name__)


def xcom_key(number: int) -> str:
    """Return the key of an XCom with outcomes. The first number is 0."""
    return f"dbt_outcomes_{number}"


def read_outcomes(pull: Callable[[str], dict[str, dict[str, Any]] | None]) -> dict[str, dict[str, Any]]:
    """Return the outcomes of a run by their key.

    Args:
        pull: returns the XCom with a key of the task that runs dbt.
    """
    outcomes: dict[str, dict[str, Any]] = {}
    number = 0
    while chunk := pull(xcom_key(number)):
        outcomes |= chunk
        number += 1
    return outcomes


def log_event(line: str) -> None:
    """Log the message of a line of dbt's JSON output, or the line if it is not JSON."""
    try:
        info = json.loads(line)["info"]
        level, message = getattr(logging, info["level"].upper(), logging.INFO), info["msg"]
    except (ValueError, KeyError, TypeError, AttributeError):
        level, message = logging.INFO, line
    if message:
        log.log(level, "%s", message)


class NodeOutcomes:
    """Pushes the outcome of each node as the task that runs dbt, and one for nodes that a task watches together.

    An outcome is a dictionary: `status`, which is dbt's, and pass or fail for several nodes; and `lines`, one for each
    node, those that did not succeed first, and for at most `OUTCOME_CHARACTERS`. An XCom holds up to `PER_XCOM` of
    them, so a reader follows a run with one request.

    Args:
        watched_together: ids of nodes by the key of their outcome, which is pushed when dbt has reported all of them.
    """

    def __init__(self, watched_together: Mapping[str, Sequence[str]]) -> None:
        self._missing = {key: set(nodes) for key, nodes in watched_together.items()}
        # Lines of the nodes that did not succeed, and of the others.
        self._lines: dict[str, tuple[list[str], list[str]]] = {key: ([], []) for key in watched_together}
        self._keys: dict[str, list[str]] = {}
        for key, nodes in watched_together.items():
            for node in nodes:
                self._keys.setdefault(node, []).append(key)
        self._number, self._latest = 0, dict[str, dict[str, Any]]()
        # dbt's log file, set when dbt starts; where to read on; and the errors so far, by node.
        self.log_file: Path | None = None
        self._read_bytes = 0
        self._errors: dict[str, str] = {}

    def read(self, line: str, ti: Any) -> None:
        """Push the outcome that a line of dbt's JSON output reports, if it reports one."""
        if not any(event in line for event in _EVENTS):
            return
        # An exception would end the task that runs dbt.
        try:
            event = json.loads(line)
            if event["info"]["name"] in _EVENTS:
                self._add(event["data"], ti)
        except Exception:
            log.exception("The result of a node could not be handed to its task")

    def _add(self, data: dict[str, Any], ti: Any) -> None:
        node, line = data["node_info"], _line(data)
        unique_id, status = node["unique_id"], node["node_status"]
        if status in _FAILED:
            line += self._error(unique_id)
        keys = self._keys.get(unique_id, [])
        if not keys and node["resource_type"] != "test":
            self._push(unique_id, {"status": status, "lines": [line]}, ti)
        for key in keys:
            failed, succeeded = self._lines[key]
            (succeeded if status in SUCCEEDED else failed).append(line)
            self._missing[key].discard(unique_id)
            if not self._missing[key]:
                outcome = {"status": "fail" if failed else "pass", "lines": _cut([*failed, *succeeded])}
                self._push(key, outcome, ti)

    def _push(self, key: str, outcome: dict[str, Any], ti: Any) -> None:
        self._latest[key] = outcome
        ti.xcom_push(key=xcom_key(self._number), value=self._latest)
        if len(self._latest) == PER_XCOM:
            self._number, self._latest = self._number + 1, {}

    def _error(self, unique_id: str) -> str:
        """Return the error of a node, on further lines; nothing if dbt's log has none."""
        if self.log_file and self.log_file.exists():
            with self.log_file.open("rb") as file:
                file.seek(self._read_bytes)
                for line in file:
                    # dbt is still writing the last line.
                    if not line.endswith(b"\n"):
                        break
                    self._read_bytes += len(line)
                    if any(name.encode() in line for name in _ERRORS):
                        data = json.loads(line)["data"]
                        self._errors[data["node_info"]["unique_id"]] = data["exc"]
        error = self._errors.get(unique_id, "").strip()[:_ERROR_CHARACTERS]
        return f"\n  {error}" if error else ""


def _line(data: dict[str, Any]) -> str:
    """Return a line such as `seed.shop.items: success, INSERT 16, 0.45 s`."""
    status = data["node_info"]["node_status"]
    # The adapter's message. That of a seed has the number of rows; for models, Redshift's only says success.
    message = (data.get("result_message") or data["status"])[:MESSAGE_CHARACTERS]
    parts = [status] if message.lower() == status else [status, message]
    if data.get("num_failures"):
        parts.append(f"{data['num_failures']} rows")
    return f"{data['node_info']['unique_id']}: {', '.join([*parts, f'{data["execution_time"]:.2f} s'])}"


def _cut(lines: list[str]) -> list[str]:
    """Return lines of at most OUTCOME_CHARACTERS: without some of the errors, and then without the last nodes."""
    fitting_lines: list[str] = []
    budget = OUTCOME_CHARACTERS
    for line in lines:
        short = line if len(line) <= budget else line.partition("\n")[0]
        budget -= len(short)
        if budget < 0:
            return [*fitting_lines, f"... and {len(lines) - len(fitting_lines)} more nodes"]
        fitting_lines.append(short)
    return fitting_lines
