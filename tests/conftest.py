from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def store(pytestconfig: pytest.Config) -> Path:
    """One store for all tests, workers and runs: what was fetched once is not fetched again."""
    if chosen := os.environ.get("DBDEV_TEST_STORE"):
        return Path(chosen).resolve()
    cache = pytestconfig.cache
    assert cache is not None
    return cache.mkdir("dbdev-store")
