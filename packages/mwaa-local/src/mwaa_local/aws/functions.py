"""Answers Lambda's Invoke call. Each invocation runs the handler of the deployed zip in a new process.

moto needs Docker for that, or gives canned answers. Lambda retries asynchronous invocations after one and two minutes;
the stand-in does not, and writes their errors to standard error.
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from moto.awslambda.exceptions import UnknownAliasException, UnknownFunctionException
from moto.awslambda.models import LambdaFunction, lambda_backends
from werkzeug.wrappers import Request, Response

from mwaa_local.aws.access import DeniedError, Session, take_role
from mwaa_local.settings import ACCOUNT_ID

_PROCESS = Path(__file__).with_name("function_process.py")
_PATH = re.compile(r"/2015-03-31/functions/(.+)/invocations/?")
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_PAYLOAD_BYTES = {"RequestResponse": 6 * 1024**2, "Event": 1024**2}
# Lambda allows 10 seconds for imports, apart from the function's timeout. A busy laptop needs more.
_START_SECONDS = 60


@dataclass(frozen=True)
class _Outcome:
    failed: bool
    result: Any
    log: str


class Functions:
    """Runs functions. `close` ends those that still run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """Unzip under `folder`. `environment` points a handler's boto3 to the stand-in."""
        self._folder = folder
        self._environment = environment
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def answer(self, request: Request, region: str) -> Response | None:
        """Return the answer to an Invoke call, or None for any other call."""
        path = _PATH.fullmatch(request.path)
        if request.method != "POST" or not path:
            return None
        # A partial ARN, <account>:function:<name>, is a name too.
        name = re.sub(r"^(\d{12}:function:)", rf"arn:aws:lambda:{region}:\1", path[1])
        qualifier = request.args.get("Qualifier")
        try:
            function = lambda_backends[ACCOUNT_ID][region].get_function(name, qualifier)
        except (UnknownAliasException, UnknownFunctionException, ValueError):
            # moto would invoke the function even if the qualifier does not exist.
            return _refused(
                "ResourceNotFoundException", f"Function not found: {path[1]}, qualifier {qualifier or '$LATEST'}", 404
            )
        return self._invoke(function, request)

    def close(self) -> None:
        """Kill all running functions, and wait for their end."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            _kill(process)

    def _invoke(self, function: LambdaFunction, request: Request) -> Response:
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        body = request.get_data() or b"{}"
        if kind == "DryRun":
            return Response(status=204)
        if kind not in _PAYLOAD_BYTES:
            return _refused("InvalidParameterValueException", f"InvocationType {kind!r} is not known")
        if len(body) > _PAYLOAD_BYTES[kind]:
            return _refused("RequestTooLargeException", f"a payload of at most {_PAYLOAD_BYTES[kind]} bytes", 413)
        try:
            json.loads(body)
        except ValueError as error:
            return _refused("InvalidRequestContentException", f"Could not parse request body into json: {error}")
        if not (function.run_time or "").startswith("python"):
            return _refused(
                "InvalidRuntimeException", f"the stand-in runs Python functions, not {function.run_time}", 502
            )
        # A reserved concurrency of 0 throttles all calls: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
        if function.reserved_concurrency == 0:
            return _refused("TooManyRequestsException", "Rate Exceeded.", 429)
        try:
            _session(function)
        except DeniedError:
            # https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
            return _refused(
                "AccessDeniedException", "The role defined for the function cannot be assumed by Lambda.", 403
            )
        headers = {"Content-Type": "application/json", "X-Amz-Executed-Version": _version(function)}
        if kind == "Event":
            threading.Thread(target=self._run, args=(function, body), daemon=True).start()
            return Response("", 202, headers)
        outcome = self._run(function, body)
        if outcome.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if request.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log.encode()[-4096:]).decode()
        return Response(json.dumps(outcome.result), 200, headers)

    def _run(self, function: LambdaFunction, event: bytes) -> _Outcome:
        request_id = str(uuid.uuid4())
        started = time.monotonic()
        with TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as archive:
                archive.extractall(folder / "task")
            (folder / "event").write_bytes(event)
            failed, result = self._supervise(function, folder, request_id)
            log = (folder / "log").read_text(errors="replace") if (folder / "log").exists() else ""
        milliseconds = (time.monotonic() - started) * 1000
        log = (
            f"START RequestId: {request_id} Version: {_version(function)}\n{log}"
            f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\n"
        )
        if failed:
            print(f"Lambda function {function.function_name} failed: {json.dumps(result)}\n{log}", file=sys.stderr)
        return _Outcome(failed, result, log)

    def _supervise(self, function: LambdaFunction, folder: Path, request_id: str) -> tuple[bool, Any]:
        """Start the process, wait for its outcome within the function's timeout, and end it."""
        ours, theirs = os.pipe()
        with Connection(ours, writable=False) as outcome:
            try:
                process = self._start(function, folder, request_id, theirs)
            finally:
                os.close(theirs)
            try:
                if not outcome.poll(_START_SECONDS):
                    return True, _error(
                        request_id, "Sandbox.Timedout", f"Init timed out after {_START_SECONDS} seconds"
                    )
                outcome.recv_bytes()
                if not outcome.poll(function.timeout):
                    message = f"Task timed out after {float(function.timeout):.2f} seconds"
                    return True, _error(request_id, "Sandbox.Timedout", message)
                failed, result = json.loads(outcome.recv_bytes())
            except EOFError:
                # The process ended without an outcome: sys.exit, a crash, or close().
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                message = f"Runtime exited with error: exit status {process.returncode}"
                return True, _error(request_id, "Runtime.ExitError", message)
            else:
                return failed, result
            finally:
                _kill(process)
                with self._lock:
                    self._running.discard(process)

    def _start(
        self, function: LambdaFunction, folder: Path, request_id: str, descriptor: int
    ) -> subprocess.Popen[bytes]:
        session = _session(function)
        environment = {
            **function.environment_vars,
            **self._environment,
            **session.environment(),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "TMPDIR": str(folder),
            "_HANDLER": function.handler,
            "LAMBDA_TASK_ROOT": str(folder / "task"),
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": _version(function),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
        }
        arguments = [str(descriptor), str(function.timeout), request_id, function.function_arn]
        with self._lock, open(folder / "event", "rb") as event, open(folder / "log", "ab") as log:
            if self._closed:
                raise RuntimeError("the AWS stand-in is stopping")
            # -P: modules beside function_process.py must not hide the function's modules.
            # -u: without buffering, the log keeps the output of a function that is killed.
            process = subprocess.Popen(
                [sys.executable, "-P", "-u", str(_PROCESS), *arguments],
                stdin=event,
                stdout=log,
                stderr=log,
                cwd=folder / "task",
                env=environment,
                pass_fds=[descriptor],
                start_new_session=True,
            )
            self._running.add(process)
        return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the function's process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _session(function: LambdaFunction) -> Session:
    """Return a session of the function's role."""
    context = {"aws:SourceAccount": ACCOUNT_ID, "aws:SourceArn": function.function_arn}
    return take_role(function.role, "lambda.amazonaws.com", context, function.function_name)


def _version(function: LambdaFunction) -> str:
    return str(function.version)


def _error(request_id: str, kind: str, message: str) -> dict[str, str]:
    return {"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}


def _refused(kind: str, message: str, status: int = 400) -> Response:
    """Return an error of the Invoke call, from which boto3 makes an exception named `kind`."""
    body = json.dumps({"Type": "User", "message": message, "Message": message})
    return Response(body, status, {"Content-Type": "application/json", "x-amzn-ErrorType": kind})
