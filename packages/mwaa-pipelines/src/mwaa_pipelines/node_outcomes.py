"""Hands dbt's results to the logs of the sensors while dbt is still running: status, rows, seconds, error of each node.

dbt prints the errors of nodes when it ends. Its log file has them when they occur.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# In dbt's output, these events are the first to say that a node has ended.
_EVENTS = {f"Log{kind}Result" for kind in ("Function", "Model", "Seed", "Snapshot", "Test")}

# In dbt's log file, with the error as the user sees it: its heading, the database's words, and the file with the SQL.
_ERRORS = ("CatchableExceptionOnRun", "InternalErrorOnRun", "GenericExceptionOnRun")
_FAILED = ("error", "partial success")
# An XCom is a row of Airflow's database.
_ERROR_CHARACTERS = 4000

log = logging.getLogger(__name__)


def outcome_key(unique_id: str, of_tests: bool) -> str:
    """Return the key of the XCom with a line for a node, or for each of its tests."""
    return f"{unique_id.replace('.', '__')}_{'tests_' if of_tests else ''}outcome"


class NodeOutcomes:
    """Pushes the outcome of each node as an XCom of the task that runs dbt, and those of a node's tests together.

    Args:
        tests_per_model: ids of the tests of each node.
    """

    def __init__(self, tests_per_model: Mapping[str, Sequence[str]]) -> None:
        self._missing = {model: set(tests) for model, tests in tests_per_model.items()}
        self._lines: dict[str, list[str]] = defaultdict(list)
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
                self._push(event["data"], ti)
        except Exception:
            log.exception("The result of a node could not be handed to its task")

    def _push(self, data: dict[str, Any], ti: Any) -> None:
        unique_id, line = data["node_info"]["unique_id"], _line(data)
        if data["node_info"]["node_status"] in _FAILED:
            line += self._error(unique_id)
        if data["node_info"]["resource_type"] != "test":
            ti.xcom_push(key=outcome_key(unique_id, of_tests=False), value=[line])
            return
        for model, missing in self._missing.items():
            if unique_id in missing:
                missing.remove(unique_id)
                self._lines[model].append(line)
                if not missing:
                    ti.xcom_push(key=outcome_key(model, of_tests=True), value=self._lines[model])

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
    message = data.get("result_message") or data["status"]
    parts = [status] if message.lower() == status else [status, message]
    if data.get("num_failures"):
        parts.append(f"{data['num_failures']} rows")
    return f"{data['node_info']['unique_id']}: {', '.join([*parts, f'{data["execution_time"]:.2f} s'])}"
