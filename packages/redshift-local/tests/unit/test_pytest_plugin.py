"""Tests of the ports that the fixtures use."""

import socket
import subprocess
import sys

import pytest

from redshift_local import pytest_plugin
from redshift_local.pytest_plugin import free_port
from redshift_local.settings import HOST


@pytest.fixture
def three_ports(monkeypatch):
    """Limits `free_port` to three ports that are free now."""
    monkeypatch.setattr(pytest_plugin, "_claims", [])
    first = next(
        port for port in range(15000, 20000, 3) if all(_is_free(number) for number in (port, port + 1, port + 2))
    )
    monkeypatch.setattr(pytest_plugin, "TEST_PORTS", range(first, first + 3))
    yield range(first, first + 3)
    for claim in pytest_plugin._claims:
        claim.close()


def _is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def test_free_port_returns_each_port_once(three_ports):
    assert {free_port() for _ in three_ports} == set(three_ports)
    with pytest.raises(RuntimeError, match=f"no port from {three_ports[0]} to {three_ports[-1]} is free"):
        free_port()


def test_free_port_leaves_out_ports_of_servers_and_of_other_processes(three_ports):
    claim = (
        "import sys\nfrom redshift_local import pytest_plugin\n"
        f"pytest_plugin.TEST_PORTS = range({three_ports[0]}, {three_ports[0] + 1})\n"
        "print(pytest_plugin.free_port(), flush=True)\nsys.stdin.read()"
    )
    with (
        subprocess.Popen([sys.executable, "-c", claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        socket.create_server((HOST, three_ports[1])),
    ):
        assert int(other.stdout.readline()) == three_ports[0]
        assert free_port() == three_ports[2]
        other.stdin.close()
