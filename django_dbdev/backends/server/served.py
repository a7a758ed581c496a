"""A server that runs, as the work on its databases needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...binaries.toolchain import Toolchain
from ...reporting import Reporter
from .accounts import Account


@dataclass(frozen=True)
class Served:
    """One alias's account on its running server, proved to be ours.

    :param scratch: the beginning of paths for files that are swept when a command was killed.
    :param log: the server's.
    :param revive: starts the server again if it has gone down meanwhile.
    """

    toolchain: Toolchain
    port: int
    socket_directory: Path
    passfile: Path
    account: Account
    scratch: Path
    log: Path
    reporter: Reporter
    revive: Callable[[], None]
