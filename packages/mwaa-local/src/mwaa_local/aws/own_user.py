"""An HTTP server that answers only the user who runs it. Other users of this machine can connect to its port, too."""

import os
import socket
import struct
import sys
from typing import Any

from werkzeug.serving import ThreadedWSGIServer

# From sock_diag(7), https://man7.org/linux/man-pages/man7/sock_diag.7.html, and the kernel's headers.
_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_ESTABLISHED = 1
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")
_FAMILY_PROTOCOL_STATES = struct.Struct("=BBBxI")
_PORTS = struct.Struct("!HH")
# In an answer: the state, and after the socket's addresses and three numbers the user ID.
_STATE, _USER = _HEADER.size + 1, _HEADER.size + 4 + 48 + 12


class OwnUserServer(ThreadedWSGIServer):
    """Closes connections of other users without an answer, if the kernel tells who opened a connection. Linux does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes the arguments of `ThreadedWSGIServer`, and listens."""
        super().__init__(*arguments, **options)
        with socket.create_connection(self.server_address[:2]) as own:
            self._knows_users = user_of(own.getsockname(), own.getpeername()) is not None
            self.socket.accept()[0].close()
        if not self._knows_users:
            print("this system does not tell who opens a connection: all of its users are answered", file=sys.stderr)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return True for a connection of the own user."""
        if not self._knows_users:
            return True
        user = user_of(client_address, request.getsockname())
        if user not in (None, os.geteuid()):
            print(f"refused a connection of the user with ID {user}", file=sys.stderr, flush=True)
        return user == os.geteuid()


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the ID of the user who opened a TCP connection on this machine.

    Args:
        client: IPv4 address and port of the side that opened it.
        server: IPv4 address and port of the other side.

    Returns:
        The ID, or None if the client has closed the connection, or the system cannot tell.
    """
    if not hasattr(socket, "AF_NETLINK"):
        return None
    addresses = (socket.inet_aton(address).ljust(16, b"\0") for address, _ in (client, server))
    connection = _PORTS.pack(client[1], server[1]) + b"".join(addresses) + bytes(4) + _NO_COOKIE
    body = _FAMILY_PROTOCOL_STATES.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED) + connection
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.send(header + body)
            answer = kernel.recv(4096)
    except OSError:
        return None
    kind = _HEADER.unpack_from(answer)[1]
    # The kernel takes the user ID of a closed socket for 0.
    if kind != _SOCK_DIAG_BY_FAMILY or answer[_STATE] != _ESTABLISHED:
        return None
    return int(struct.unpack_from("=I", answer, _USER)[0])
