"""Runs one Lambda handler in this process, as Lambda's Python runtime does. Standard library only.

Arguments: the descriptor that takes the outcome, the function's timeout in seconds, the request's id, and the
function's ARN. The event comes on standard input as JSON; `_HANDLER`, `LAMBDA_TASK_ROOT` and `AWS_LAMBDA_FUNCTION_*`
from the environment, as on Lambda. Two messages go to the descriptor: an empty one when the handler starts, then
`[failed, result or error]` as JSON.
"""

import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any


def _failure(kind: str, message: str, trace: traceback.StackSummary | None = None) -> dict[str, Any]:
    lines = traceback.format_list(trace or [])
    print(f"[ERROR] {kind}: {message}\n{''.join(lines)}", end="", file=sys.stderr)
    return {"errorMessage": message, "errorType": kind, "stackTrace": lines}


def _raised(error: Exception) -> dict[str, Any]:
    # The frames of this file and of the import system are not the function's.
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if f.filename not in (__file__, importlib.__file__) and not f.filename.startswith("<frozen")
    ]
    return _failure(type(error).__name__, str(error), traceback.StackSummary.from_list(own))


def _load() -> Any:
    """Return the handler, or the error that Lambda reports when the handler is missing."""
    module_name, _, name = os.environ["_HANDLER"].rpartition(".")
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        return _failure("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}")
    except Exception as error:  # noqa: BLE001 - an error of the module is the function's outcome
        return _raised(error)
    return getattr(module, name, None) or _failure(
        "Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module_name}'"
    )


def _run(handler: Any, event: Any, timeout: float, request_id: str, arn: str) -> tuple[bool, Any]:
    deadline = time.monotonic() + timeout
    name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    context = SimpleNamespace(
        function_name=name,
        function_version=os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
        invoked_function_arn=arn,
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        aws_request_id=request_id,
        log_group_name=f"/aws/lambda/{name}",
        get_remaining_time_in_millis=lambda: max(0, int((deadline - time.monotonic()) * 1000)),
    )
    try:
        result = handler(event, context)
    except Exception as error:  # noqa: BLE001 - an error of the handler is the function's outcome
        return True, _raised(error)
    try:
        json.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        return True, _failure("Runtime.MarshalError", f"Unable to marshal response: {error}")
    return False, result


def main(descriptor: str, timeout: str, request_id: str, arn: str) -> None:
    """Run the handler once."""
    # If the stand-in is killed, nothing else ends this process.
    faulthandler.dump_traceback_later(float(timeout) + 120, exit=True)
    outcome = Connection(int(descriptor), readable=False)
    event = json.load(sys.stdin)
    handler = _load()
    outcome.send_bytes(b"")
    if isinstance(handler, dict):
        failed, result = True, handler
    else:
        failed, result = _run(handler, event, float(timeout), request_id, arn)
    sys.stdout.flush()
    sys.stderr.flush()
    outcome.send_bytes(json.dumps([failed, result]).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
