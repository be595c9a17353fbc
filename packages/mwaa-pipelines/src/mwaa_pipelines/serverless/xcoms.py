"""XComs of at most 100 KB, as the service wants them: compressed, and without passed nodes if they are still larger."""

import base64
import json
import zlib
from typing import Any

from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.serverless.limits import limit

_PASSED = {"success", "pass"}


def pack(value: Any) -> str:
    """Return a value as text that the service can store, if it compresses to less than the limit."""
    return base64.b64encode(zlib.compress(json.dumps(value).encode(), 9)).decode()


def pack_results(process: dict[str, Any]) -> str:
    """Return what push_results pushes as text that the service can store. Nodes that passed are left out if need be.

    Args:
        process: with the list `results`.
    """
    packed = pack(process)
    if len(packed) > limit("xcom_bytes"):
        others = [result for result in process["results"] if result["status"] not in _PASSED]
        while len(packed := pack({**process, "results": others})) > limit("xcom_bytes"):
            others = others[: len(others) // 2]
    return packed


class PackedXComs:
    """A task instance whose results are packed. It has the methods that the report of a run needs."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        """Return an XCom, or None."""
        value = self._ti.xcom_pull(task_ids=task_ids, key=key)
        return json.loads(zlib.decompress(base64.b64decode(value))) if value and key == RESULTS_KEY else value
