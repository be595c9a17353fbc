"""Lets dbt select nodes by their ids. Imports nothing of Airflow, because it also runs in ECS.

dbt has no selector for an id. In a project of 6,000 nodes, each exact selector takes it 70 ms of CPU, and Linux limits
the arguments of a process to 2 MB. So dbt reads the ids as the results of an earlier run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

# dbt's selectors of nodes to build, and of nodes to leave out.
CHOSEN, LEFT_OUT = "result:error", "result:skipped"
_NO_RESULT = {"timing": [], "thread_id": "", "execution_time": 0, "adapter_response": {}}
_OPTIONAL = ("message", "failures", "compiled", "compiled_code", "relation_name")


def state_arguments(folder: Path, ids: Mapping[str, Sequence[str]]) -> list[str]:
    """Write ids of nodes into a folder, and return the arguments with which dbt reads them.

    Args:
        folder: is created.
        ids: by the selector for them, CHOSEN or LEFT_OUT. Without any, nothing is written.
    """
    if not ids:
        return []
    results = [
        {**_NO_RESULT, **dict.fromkeys(_OPTIONAL), "unique_id": node, "status": selector.removeprefix("result:")}
        for selector, nodes in ids.items()
        for node in nodes
    ]
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"}
    content = {"metadata": metadata, "results": results, "elapsed_time": 0, "args": {}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run_results.json").write_text(json.dumps(content))
    return ["--state", str(folder)]
