"""Imports what commands import, and forks for each that it is told of.

Nothing of django_dbdev is imported before the fork: what a command does by itself, it does as
always. See ``warm.py``, which is the other end of both pipes.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

#: What commands import of others; what is missing here is imported where it is needed.
_IMPORTED = (
    "asyncio",
    "django.core.management",
    "django.db.models",
    "django.forms",
    "django.http",
    "filelock",
    "jinja2",
    "packaging.requirements",
    "platformdirs",
    "psycopg",
    "psycopg.types.string",
    "pymysql",
    "sh",
    "xxhash",
)


def _next_order() -> dict[str, Any] | None:
    """Answer each order with the exit status of a child, where this returns; None at the end."""
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            order: dict[str, Any] = json.loads(line)
            return order
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def main() -> None:
    for name in _IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)
    order = _next_order()
    if order is None:
        return
    for number, path in enumerate([os.devnull, *order["files"]]):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["argv"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
