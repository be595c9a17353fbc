"""The HTTP server of the AWS stand-in. It answers Lambda's Invoke, MWAA and some other calls itself; moto the rest."""

import io
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.wrappers import Request, Response

from mwaa_local.aws import access, account_api
from mwaa_local.aws.ecs import Tasks
from mwaa_local.aws.functions import Functions
from mwaa_local.aws.mwaa_api import MwaaApi
from mwaa_local.aws.own_user import OwnUserServer
from mwaa_local.aws.redshift_data import RedshiftData
from mwaa_local.aws.serverless import Serverless
from mwaa_local.settings import CREDENTIALS_PATH, HOST, REGION, Settings
from mwaa_local.signals import interrupt, uninterrupted

# Signature version 4 names region and service: Credential=<key>/<date>/<region>/<service>/aws4_request
_SCOPE = re.compile(r"Credential=[^/,]+/\d+/([^/]+)/([^/]+)/")


class _RequestHandler(MotoRequestHandler):
    """Logs only failures of the stand-in, because a run makes thousands of calls."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if int(code) >= 500:
            super().log_request(code, size)


class Application:
    """WSGI application in front of moto."""

    def __init__(
        self, functions: Functions, tasks: Tasks, mwaa: MwaaApi, redshift_data: RedshiftData, serverless: Serverless
    ) -> None:
        """`functions` answers Lambda's Invoke, `tasks` ECS's calls about tasks, the others all of their services."""
        self._serverless = serverless
        self._functions = functions
        self._tasks = tasks
        self._mwaa = mwaa
        self._redshift_data = redshift_data
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        region, service = scope.groups() if scope else (REGION, "")
        try:
            answer: Response | None
            if not scope and request.path.startswith(CREDENTIALS_PATH):
                answer = self._mwaa.credentials(request.path.removeprefix(CREDENTIALS_PATH))
            elif denied := self._denied_response(request, service, region):
                answer = denied
            elif service == "airflow":
                answer = self._mwaa.answer(request, region)
            elif service == "redshift-data":
                answer = self._redshift_data.answer(request, region)
            elif service == "airflow-serverless":
                answer = self._serverless.answer(request, region)
            elif service == "ecs":
                answer = self._tasks.answer(request, region)
            else:
                answer = account_api.answer(request, service, region) or self._functions.answer(request, region)
        except Exception:  # noqa: BLE001 - the caller gets an error of AWS, the log the traceback
            traceback.print_exc()
            answer = Response('{"message": "the AWS stand-in failed; its log says why"}', 500)
        return (answer or self._moto)(environ, start_response)

    def _denied_response(self, request: Request, service: str, region: str) -> Response | None:
        # An object can be large, and no permission depends on its content.
        if service != "s3" or "delete" in request.args:
            request.environ["wsgi.input"] = io.BytesIO(request.get_data())
        extra = self._mwaa.extra_parameters(request) if service == "airflow" else {}
        denied = access.denied_response(request, service, region, extra)
        if denied:
            # A client reads the answer only after it has sent the whole body.
            request.get_data()
        return denied


def serve(settings: Settings, parent: int | None) -> None:
    """Serve on `settings.aws_port` until a signal stops the process. Leaves no process and no file behind.

    Args:
        settings: port of the stand-in.
        parent: process ID of the parent; if given, the stand-in also stops when the parent ends.
    """
    if parent:
        threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="local-aws-") as folder:
        functions = Functions(Path(folder), settings.aws_environment())
        tasks = Tasks(Path(folder), settings)
        serverless = Serverless(Path(folder), settings)
        application = Application(functions, tasks, MwaaApi(settings), RedshiftData(settings), serverless)
        server = OwnUserServer(HOST, settings.aws_port, application, _RequestHandler)
        try:
            print(f"AWS stand-in ready: {settings.aws_url}", flush=True)
            server.serve_forever()
        finally:
            # werkzeug handles KeyboardInterrupt, and nothing may interrupt the clean-up.
            interrupt.end()
            with uninterrupted():
                functions.close()
                tasks.close()
                serverless.close()
                sys.stdout.flush()


def _stop_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
