"""Commands of a project without Python's start: they are forked off a process, ``mother.py``.

A kill takes half a dozen commands, each of which would spend most of its time on importing what
never changes.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.conftest import Result

_MOTHER = Path(__file__).with_name("mother.py")
#: Seconds that a command may take.
_PATIENCE = 300.0


class Warm:
    """Commands as children of a process of ours."""

    def __init__(self) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, str(_MOTHER)],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str | Path, cwd: Path, env: Mapping[str, str]) -> Result:
        """``python argv`` with that environment alone.

        :raises TimeoutError: when it takes too long; it is killed then.
        """
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("out", "err")]
            order = {
                "argv": [str(word) for word in argv],
                "cwd": str(cwd),
                "env": dict(env),
                "files": [str(file) for file in files],
            }
            print(json.dumps(order), file=self._mother.stdin, flush=True)
            if not select.select([self._mother.stdout], [], [], _PATIENCE)[0]:
                for child in psutil.Process(self._mother.pid).children():
                    child.kill()
                raise TimeoutError(f"{argv} took more than {_PATIENCE} s")
            status = int(self._mother.stdout.readline())
            return Result(status, *(file.read_text("utf-8") for file in files))

    def close(self) -> None:
        self._mother.communicate()
