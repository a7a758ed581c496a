"""Running programs: the only module that imports sh, and only when something is run.

``sh`` is called with a list of arguments and never with a shell. Its habits that matter here
(version 2): ``_env`` replaces the whole environment; ``_tty_out`` is on unless switched off;
``_timeout`` kills with SIGKILL, so it is not used on anything that writes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..exceptions import ProgramError
from .command import Command
from .privileges import DIRECT, Identity

#: INFO: each program that is run; DEBUG: what it says. The commands show them at verbosity 2, 3.
logger = logging.getLogger("django_dbdev.programs")

#: Every status, so that sh raises for none: errors are ours, with our words.
_ANY_STATUS = range(-64, 256)
#: What is kept of a program's output for an error message, in lines.
_KEPT_LINES = 15


@dataclass(frozen=True)
class Completed:
    """A program that ended. ``output`` is standard output, ``errors`` standard error."""

    status: int
    output: str
    errors: str
    duration: float


def run(
    command: Command,
    *,
    identity: Identity = DIRECT,
    check: bool = True,
    failure: str = "",
    stdin: IO[Any] | str | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end.

    :param check: raise when the status is not 0.
    :param failure: the error's first sentence; names the program where it is empty.
    :param stdin: text or an open file; nothing by default.
    :param on_line: called with each line of standard output as it comes, in another thread.
    :raises ProgramError: with the end of what the program wrote.
    """
    logger.info("%s", command)
    kept: list[str] = []

    def take(line: str) -> None:
        kept.append(line)
        logger.debug("%s", line.rstrip("\n"))
        if on_line is not None:
            on_line(line)

    errors: list[str] = []

    def take_error(line: str) -> None:
        errors.append(line)
        logger.debug("%s", line.rstrip("\n"))

    started = time.perf_counter()
    with open(os.devnull, "rb") as nothing:
        status = _start(
            command,
            identity,
            # Without a file here sh feeds an empty queue, whose thread takes 0.1 s to end.
            _in=nothing if stdin is None else stdin,
            _out=take,
            _err=take_error,
            _out_bufsize=1,
            _err_bufsize=1,
        ).exit_code
    completed = Completed(status, "".join(kept), "".join(errors), time.perf_counter() - started)
    if check and status != 0:
        raise program_error(command, completed, failure)
    return completed


def program_error(command: Command, completed: Completed, failure: str = "") -> ProgramError:
    """The error for a program that failed, with the end of what it said."""
    said = (completed.errors.strip() or completed.output.strip()).splitlines()
    how = (
        f"was ended by signal {-completed.status}"
        if completed.status < 0
        else f"exited with status {completed.status}"
    )
    sentence = f"{command.program.name} {how}."
    return ProgramError(
        f"{failure} {sentence}".strip(),
        status=completed.status,
        output="\n".join(said[-_KEPT_LINES:]),
        hints=[f"it was run as: {command}"],
    )


@dataclass(frozen=True)
class Spawned:
    """A program in the background, in a session of its own: Ctrl-C does not reach it."""

    pid: int
    _process: Any

    def is_alive(self) -> bool:
        return bool(self._process.is_alive()[0])

    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return None if self.is_alive() else int(self._process.exit_code)


def spawn(command: Command, log: Path, *, identity: Identity = DIRECT) -> Spawned:
    """Start a program that outlives this process; both its streams are appended to ``log``."""
    logger.info("%s >>%s 2>&1 &", command, log)
    with ExitStack() as files:
        # Real files go to the program as they are; anything else would be a pipe through us.
        output = files.enter_context(
            os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        )
        empty = files.enter_context(open(os.devnull, "rb"))
        running = _start(
            command,
            identity,
            _in=empty,
            _out=output,
            _err=output,
            _bg=True,
            _bg_exc=False,
            _new_session=True,
        )
    return Spawned(running.pid, running.process)


def _start(command: Command, identity: Identity, **how: Any) -> Any:
    import sh

    try:
        # Any: its stub has an overload for each mix of options, and ours are passed on.
        program: Any = sh.Command(str(command.program))
        return program(
            *command.args,
            _env=command.full_environment(),
            _cwd=None if command.cwd is None else str(command.cwd),
            _preexec_fn=identity.preexec(),
            _ok_code=_ANY_STATUS,
            _tty_out=False,
            _encoding="utf-8",
            _decode_errors="replace",
            _return_cmd=True,
            **how,
        )
    except sh.CommandNotFound:
        raise ProgramError(
            f"{command.program} does not exist or is not executable.", status=127
        ) from None
    except sh.ForkException as error:
        raise ProgramError(
            f"{command.program} could not be started.", status=126, output=_cause(str(error))
        ) from None


def _cause(traceback: str) -> str:
    """The last line of what sh tells of an exception between fork and exec."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    return lines[-1] if lines else ""
