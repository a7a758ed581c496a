"""Waiting for a server: ask often, and notice when it dies instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

#: Seconds between two looks. A server is up some 20 ms after its start.
INTERVAL = 0.001


class Outcome(Enum):
    READY = "ready"
    DIED = "died"
    TIMEOUT = "timeout"


def wait_ready(
    is_ready: Callable[[], bool], is_alive: Callable[[], bool], timeout: float
) -> Outcome:
    """Ask ``is_ready`` every millisecond, for ``timeout`` seconds at the most."""
    deadline = time.monotonic() + timeout
    interval = INTERVAL
    while True:
        if is_ready():
            return Outcome.READY
        if not is_alive():
            # It may have become ready and been adopted in between; then it would be alive.
            return Outcome.DIED
        if time.monotonic() > deadline:
            return Outcome.TIMEOUT
        time.sleep(interval)
        # A long recovery is not asked about a thousand times a second.
        interval = min(interval * 1.05, 0.1)
