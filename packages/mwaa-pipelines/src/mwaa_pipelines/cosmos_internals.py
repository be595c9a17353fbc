"""Everything that uses private parts of Cosmos's watcher mode. Before you upgrade Cosmos, check this file.

Importing it with another version of Cosmos raises an error, because private parts change without notice.
"""

from pathlib import Path
from typing import Any

import cosmos

from mwaa_pipelines.node_outcomes import NodeOutcomes, log_event
from mwaa_pipelines.reporting import LOG
from mwaa_pipelines.settings import PipelineError

# Pinned in requirements.txt.
CHECKED_VERSION = "1.15.1"
if cosmos.__version__ != CHECKED_VERSION:
    raise PipelineError(
        f"Cosmos {cosmos.__version__} is installed, but mwaa_pipelines works only with Cosmos {CHECKED_VERSION}. "
        f"Set astronomer-cosmos=={CHECKED_VERSION} in requirements.txt, and update the MWAA environment"
    )


def report_outcomes(producer: Any) -> None:
    """Let the task that runs dbt push the outcome of each node, and log dbt's messages. Call it before the task runs.

    Cosmos's own reader would push three XComs for each node.

    Args:
        producer: Cosmos's operator.
    """
    run_dbt, outcomes = producer.run_subprocess, NodeOutcomes(producer.watched_together)

    def run_in(command: list[str], env: dict[str, str], cwd: str, **more: Any) -> Any:
        outcomes.log_file = Path(cwd) / LOG
        return run_dbt(command, env, cwd, **more)

    def read_line(line: str, arguments: dict[str, Any]) -> None:
        outcomes.read(line, arguments["context"]["ti"])
        log_event(line)

    producer._make_parse_callable = lambda: read_line
    producer.run_subprocess = run_in
