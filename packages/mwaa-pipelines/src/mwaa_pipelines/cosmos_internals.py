"""Everything that uses private parts of Cosmos's watcher mode. Before you upgrade Cosmos, check this file.

Importing it with another version of Cosmos raises an error, because private parts change without notice.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cosmos

from mwaa_pipelines.node_outcomes import NodeOutcomes
from mwaa_pipelines.reporting import LOG
from mwaa_pipelines.settings import PipelineError
from mwaa_pipelines.task_ids import ENDED_STATES

# Pinned in requirements.txt.
CHECKED_VERSION = "1.15.1"
if cosmos.__version__ != CHECKED_VERSION:
    raise PipelineError(
        f"Cosmos {cosmos.__version__} is installed, but mwaa_pipelines works only with Cosmos {CHECKED_VERSION}. "
        f"Set astronomer-cosmos=={CHECKED_VERSION} in requirements.txt, and update the MWAA environment"
    )

# After the check, because other versions can lack these modules.
from cosmos.operators._watcher.state import (  # noqa: E402
    DbtNodeStatus,
    DbtTestStatus,
    is_dbt_node_status_failed,
    is_dbt_node_status_success,
)
from cosmos.operators._watcher.triggerer import WatcherEventReason  # noqa: E402

__all__ = ["is_dbt_node_status_failed", "is_dbt_node_status_success"]


class SensorInternals:
    """Public names for the private methods of Cosmos's sensors. Comes before Cosmos's class in a sensor's bases."""

    def node_status(self, context: Any) -> Any:
        """Return the status of the node, or of its tests, that the dbt process reported; None if it has not yet."""
        return self._get_node_status(context["ti"], context)

    def node_succeeded(self, context: Any) -> bool:
        """Whether the dbt process reported that the node, or its tests, succeeded."""
        return is_dbt_node_status_success(self.node_status(context))

    def node_failed_or_was_skipped(self, context: Any) -> bool:
        """Whether the dbt process reported that the node failed. Cosmos also reports a skipped node as failed."""
        return self.node_status(context) == DbtNodeStatus.FAILED

    def a_test_failed(self, context: Any) -> bool:
        """Whether the dbt process reported that one of the node's tests failed."""
        return self.node_status(context) == DbtTestStatus.FAIL

    def producer_state(self, context: Any) -> str | None:
        """Return the state of the task that runs dbt."""
        return self._get_producer_task_status(context)

    def producer_ended(self, context: Any) -> bool:
        """Whether the task that runs dbt has ended."""
        return self.producer_state(context) in ENDED_STATES

    def producer_failed(self, event: dict[str, Any]) -> bool:
        """Whether a trigger's event says that the task that runs dbt failed."""
        return event.get("reason") == WatcherEventReason.PRODUCER_FAILED

    def run_node(self, context: Any) -> None:
        """Run the node in its own dbt process."""
        raise NotImplementedError

    def _fallback_to_non_watcher_run(self, try_number: int, context: Any) -> bool:
        # Cosmos calls this when the sensor must run the node.
        self.run_node(context)
        return True


def report_outcomes(producer: Any) -> None:
    """Let the task that runs dbt push the outcome of each node. Call it before the task runs.

    Args:
        producer: Cosmos's operator.
    """
    make_reader, run_dbt = producer._make_parse_callable, producer.run_subprocess
    outcomes = NodeOutcomes(producer.tests_per_model)

    def run_in(command: list[str], env: dict[str, str], cwd: str, **more: Any) -> Any:
        outcomes.log_file = Path(cwd) / LOG
        return run_dbt(command, env, cwd, **more)

    def make_both() -> Callable[[str, Any], None]:
        report_status = make_reader()

        def read_line(line: str, arguments: dict[str, Any]) -> None:
            if "context" in arguments:
                outcomes.read(line, arguments["context"]["ti"])
            report_status(line, arguments)

        return read_line

    producer._make_parse_callable = make_both
    producer.run_subprocess = run_in
