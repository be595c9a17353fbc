"""A fake Airflow REST API, whose responses a test defines."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, str, Any], tuple[int, Any]]


def create_environment(mwaa: Any, name: str, **more: Any) -> None:
    """Create an MWAA environment in the AWS stand-in. `more` contains further parameters of the call."""
    mwaa.create_environment(
        Name=name,
        DagS3Path="dags",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/execution",
        SourceBucketArn="arn:aws:s3:::any",
        NetworkConfiguration={"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
        **more,
    )


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """Yield the port of a server that calls `answer` with the method, path and body of each request.

    `answer` returns the status and the content. Every login succeeds.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            login = self.path == "/auth/token"
            status, content = (201, {"access_token": "x"}) if login else answer(self.command, self.path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_any  # noqa: N815 - http.server looks for these names

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
