"""Killing a command, or the program that it runs, in the middle of what that does."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest

from tests.conftest import Project, Result, wait_until

PROGRAM, COMMAND = "program", "command"
VICTIMS = pytest.mark.parametrize("victim", [PROGRAM, COMMAND])


def killed(
    project: Project, *args: str, program: str, victim: str, reached: Callable[[], object]
) -> Result:
    """Run a command, and kill one of both when its program has got somewhere."""
    command = project.start(*args)
    found: list[psutil.Process] = []

    def is_there() -> bool:
        assert command.poll() is None, command.communicate()[0]
        found[:] = [each for each in _below(command.pid) if program in _line(each)]
        return bool(found and reached())

    wait_until(is_there, 60)
    (command if victim == COMMAND else found[0]).kill()
    said, _ = command.communicate(timeout=60)
    return Result(command.returncode, "", said)


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:4])
    except psutil.Error:
        return ""


def was_told(result: Result, victim: str, program: str) -> None:
    """Of a program, the command tells that it was killed; a killed command tells nothing."""
    if victim == COMMAND:
        assert result.status == -signal.SIGKILL
    else:
        assert f"{program} was ended by signal 9" in result.failed().err
