"""Hands dbt's results to the logs of the sensors: status, rows and seconds of each node while dbt is still running."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

# In dbt's output, these events are the first to say that a node has ended.
_EVENTS = {f"Log{kind}Result" for kind in ("Function", "Model", "Seed", "Snapshot", "Test")}

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
        unique_id = data["node_info"]["unique_id"]
        if data["node_info"]["resource_type"] != "test":
            ti.xcom_push(key=outcome_key(unique_id, of_tests=False), value=[_line(data)])
            return
        for model, missing in self._missing.items():
            if unique_id in missing:
                missing.remove(unique_id)
                self._lines[model].append(_line(data))
                if not missing:
                    ti.xcom_push(key=outcome_key(model, of_tests=True), value=self._lines[model])


def _line(data: dict[str, Any]) -> str:
    """Return a line such as `seed.shop.items: success, INSERT 16, 0.45 s`."""
    status = data["node_info"]["node_status"]
    # The adapter's message. That of a seed has the number of rows; for models, Redshift's only says success.
    message = data.get("result_message") or data["status"]
    parts = [status] if message.lower() == status else [status, message]
    if data.get("num_failures"):
        parts.append(f"{data['num_failures']} rows")
    return f"{data['node_info']['unique_id']}: {', '.join([*parts, f'{data["execution_time"]:.2f} s'])}"
