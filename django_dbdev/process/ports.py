"""TCP ports of this machine's loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

LOOPBACK = "127.0.0.1"
#: Addresses that listening on loopback collides with.
_IN_THE_WAY = {LOOPBACK, "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"}  # nosec B104


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As PostgreSQL does: connections that linger from a stopped server do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def first_free(candidates: Iterable[int]) -> int | None:
    return next((port for port in candidates if is_free(port)), None)


def owner(port: int) -> str:
    """Who listens on ``port``, in words for a message."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        # macOS tells nobody but root.
        return "another process (the system does not tell which)"
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.pid is not None
            and connection.laddr
            and connection.laddr.ip in _IN_THE_WAY
            and connection.laddr.port == port
        ):
            # It may end while it is looked at.
            with suppress(psutil.Error, OSError):
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid}, user {process.username()})"
    return "another process (of another user, or in another namespace)"
