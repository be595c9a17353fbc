"""The AWS stand-in answers only the user who runs it."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from mwaa_local.aws import own_user
from mwaa_local.aws.own_user import OwnUserServer, user_of
from mwaa_local.settings import REPOSITORY
from redshift_local.pytest_plugin import free_port


def test_kernel_tells_the_user_of_a_connection_until_its_client_closes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
            with socket.socket(family) as client:
                client.connect((address, server.getsockname()[1]))
                accepted, whose = server.accept()
                assert user_of(whose, accepted.getsockname()) == os.geteuid()
            with accepted:
                # For a closed socket, the kernel's answer can be 0, which is the ID of root.
                assert user_of(whose, accepted.getsockname()) is None


# The stand-in of another user: for it, the user of this test is not its own.
OTHER_USER = """
import os
os.geteuid = lambda user=os.geteuid(): user + 1
from mwaa_local.__main__ import app
app()
"""


def test_connection_of_another_user_is_closed_without_an_answer(tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, "LOCAL_AWS_PORT": str(port), "LOCAL_DIR": str(tmp_path)}
    command = [sys.executable, "-c", OTHER_USER, "aws", "--with-parent"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert "ready" in process.stdout.readline()
        for path in ("/local/credentials/local", "/moto-api/data.json", "/"):
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(f"http://127.0.0.1:{port}{path}")
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert f"refused a connection of the user with ID {os.geteuid()}\n" in log


def test_system_that_cannot_tell_users_apart_answers_all_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(own_user.socket, "AF_NETLINK")
    server = OwnUserServer("127.0.0.1", 0, lambda _environ, start: [start("200 OK", []), b"answer"][1:])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert httpx.get(f"http://127.0.0.1:{server.port}").text == "answer"
    finally:
        server.shutdown()
        server.server_close()
    assert "all of its users are answered" in capfd.readouterr().err
