"""Running programs: the only module that imports sh, and only when something is run.

``sh`` is called with a list of arguments and never with a shell. Its habits that matter here
(version 2): ``_env`` replaces the whole environment; ``_tty_out`` is on unless switched off;
``_timeout`` kills with SIGKILL, so it is not used on anything that writes.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ..exceptions import ProgramError
from .command import Command
from .privileges import DIRECT, Identity

#: INFO: each program that is run; DEBUG: what it says. The commands show them at verbosity 2, 3.
logger = logging.getLogger("django_dbdev.programs")

#: Every status, so that sh raises for none: errors are ours, with our words.
_ANY_STATUS = tuple(range(-64, 256))
#: What is kept of a program's output for an error message, in lines.
_KEPT_LINES = 15
#: Seconds that a program gets to clean up after itself when we are interrupted.
_PATIENCE = 5.0
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
#: One fork at a time: filelock refuses a second one meanwhile (on Python 3.12 and later).
_forking = threading.Lock()
#: What a program on our terminal is sent when we are; and what a terminal sends both.
_PASSED_ON = (*_INTERRUPTIONS, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


@dataclass(frozen=True)
class Completed:
    """A program that ended. ``output`` is standard output, ``errors`` standard error."""

    status: int
    output: str
    errors: str
    duration: float

    @property
    def ending(self) -> str:
        """How it ended, to follow the program's name."""
        if self.status < 0:
            return f"was ended by signal {-self.status}"
        return f"exited with status {self.status}"


def run(
    command: Command,
    *,
    identity: Identity = DIRECT,
    check: bool = True,
    failure: str = "",
    stdin: IO[Any] | str | None = None,
    stdout: IO[Any] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end. When we are interrupted, or killed, it ends as well.

    :param check: raise when the status is not 0.
    :param failure: the error's first sentence; names the program where it is empty.
    :param stdin: text or an open file; nothing by default.
    :param stdout: an open file that takes standard output as it is; none of it is kept then.
    :param on_line: called with each line of standard output as it comes, in another thread.
        What it raises is raised here when the program has ended.
    :raises ProgramError: with the end of what the program wrote.
    """
    logger.info("%s", command)
    output: list[str] = []
    errors: list[str] = []
    raised: list[Exception] = []

    def take(line: str) -> None:
        output.append(line)
        logger.debug("%s", line.rstrip("\n"))
        if on_line is not None and not raised:
            try:
                on_line(line)
            except Exception as error:
                # sh would stop reading, and the program wait for ever.
                raised.append(error)

    def take_error(line: str) -> None:
        errors.append(line)
        logger.debug("%s", line.rstrip("\n"))

    started = time.perf_counter()
    running: Any = None
    with open(os.devnull, "rb") as nothing:
        try:
            with _uninterrupted():
                running = _start(
                    command,
                    identity,
                    ends_with_us=True,
                    # Without a file here sh feeds an empty queue, whose thread takes 0.1 s to end.
                    _in=nothing if stdin is None else stdin,
                    **({"_out": take, "_out_bufsize": 1} if stdout is None else {"_out": stdout}),
                    _err=take_error,
                    _err_bufsize=1,
                )
            status: int = running.exit_code
        except BaseException:
            if running is not None:
                _end(running)
            raise
    if raised:
        raise raised[0]
    completed = Completed(status, "".join(output), "".join(errors), time.perf_counter() - started)
    if check and status != 0:
        raise program_error(command, completed, failure)
    return completed


def _end(running: Any) -> None:
    """End a program and what it has started. Ctrl-C has reached them, kill -INT has not."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(running.pid)
        family = [process, *process.children(recursive=True)]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for each in family:
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    each.send_signal(number)
            deadline = time.monotonic() + _PATIENCE
            while running.is_alive() and time.monotonic() < deadline:
                time.sleep(0.005)


def program_error(command: Command, completed: Completed, failure: str = "") -> ProgramError:
    """The error for a program that failed, with the end of what it said."""
    said = (completed.errors.strip() or completed.output.strip()).splitlines()
    sentence = f"{command.program.name} {completed.ending}."
    return ProgramError(
        f"{failure} {sentence}".strip(),
        status=completed.status,
        output="\n".join(said[-_KEPT_LINES:]),
        hints=[f"it was run as: {command}"],
    )


def run_attached(command: Command) -> int:
    """Run a program on our own terminal and streams; its status, as a shell gives it.

    What we are sent to end with, the program is sent. When we are killed, it is told to end.

    :raises ProgramError: when it cannot be run, with the status that a shell gives.
    """
    logger.info("%s", command)
    environment = command.full_environment()
    prepare = _preparation(DIRECT, ends_with_us=True)
    pid = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        # The terminal's Ctrl-C has reached the program as well.
        if pid and (number not in _FROM_TERMINAL or not _owns_terminal()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    # What nohup has switched off stays so, for the program as well.
    handlers = {number: signal.signal(number, pass_on) for number in heeded(_PASSED_ON)}
    reading, writing = os.pipe()
    with _uninterrupted():
        with warnings.catch_warnings():
            # As in _start: the child runs only what is prepared here.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                prepare()
                os.execvpe(command.program, [str(command.program), *command.args], environment)
            except BaseException as error:
                os.write(writing, str(getattr(error, "errno", None) or errno.EACCES).encode())
            os._exit(126)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as problem:
            number = problem.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    if number:
        code = int(number)
        raise ProgramError(
            f"{command.program} cannot be run: {os.strerror(code)}.",
            status=127 if code == errno.ENOENT else 126,
        )
    return 128 - status if status < 0 else status


def heeded(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """All of them, but for a hang-up where we were started to outlive the terminal, as by nohup."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [each for each in signals if each != signal.SIGHUP or not outlives]


def _owns_terminal() -> bool:
    """Whether a terminal sends its signals to us, and so to what we have started."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Spawned:
    """A program in the background, in a session of its own: Ctrl-C does not reach it."""

    pid: int
    _process: Any

    def is_alive(self) -> bool:
        return bool(self._process.is_alive()[0])

    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs, or when it is not known."""
        if self.is_alive() or self._process.exit_code is None:
            return None
        return int(self._process.exit_code)


def spawn(
    command: Command,
    log: Path,
    *,
    identity: Identity = DIRECT,
    ends_with_us: bool = False,
    keeps: int | None = None,
) -> Spawned:
    """Start a program in the background; both its streams are appended to ``log``.

    :param ends_with_us: Linux sends it SIGTERM when this process is killed; else it lives on.
    :param keeps: a descriptor of ours that it inherits.
    """
    logger.info("%s >>%s 2>&1 &", command, log)
    with ExitStack() as files:
        # Real files go to the program as they are; anything else would be a pipe through us.
        output = files.enter_context(
            os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        )
        empty = files.enter_context(open(os.devnull, "rb"))
        with _uninterrupted():
            running = _start(
                command,
                identity,
                ends_with_us=ends_with_us,
                keeps=keeps,
                _in=empty,
                _out=output,
                _err=output,
                _new_session=True,
            )
    return Spawned(running.pid, running.process)


def _start(
    command: Command,
    identity: Identity,
    *,
    ends_with_us: bool,
    keeps: int | None = None,
    **how: Any,
) -> Any:
    """Start a program under sh, which reads its streams in threads and lets us wait ourselves."""
    import sh

    # Python 3.12 and later warn of a fork where there are threads: between fork and exec the
    # child might want a lock that one of them holds. Ours runs only what is prepared here.
    # A filter of our own, not catch_warnings: that one is not safe in threads.
    warnings.filterwarnings(
        "ignore", r"This process .* is multi-threaded, use of fork", DeprecationWarning, "sh"
    )
    try:
        with _forking:
            return sh.Command(str(command.program))(
                *command.args,
                _env=command.full_environment(),
                _cwd=None if command.cwd is None else str(command.cwd),
                _preexec_fn=_preparation(identity, ends_with_us, keeps),
                _pass_fds=set() if keeps is None else {keeps},
                _ok_code=_ANY_STATUS,
                _bg=True,
                _bg_exc=False,
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
        _clear_away(error)
        raise ProgramError(
            f"{command.program} could not be started.", status=126, output=_cause(str(error))
        ) from None


def _preparation(
    identity: Identity, ends_with_us: bool, keeps: int | None = None
) -> Callable[[], None]:
    """What the child does between fork and exec; all that it needs is looked up before."""
    enter, us, hangs_up = identity.preexec(), os.getpid(), heeded([signal.SIGHUP])
    prctl = ctypes.CDLL(None).prctl if ends_with_us and sys.platform == "linux" else None

    def prepare() -> None:
        if keeps is not None:
            os.set_inheritable(keeps, True)
        if enter is not None:
            enter()
        if prctl is not None:
            # After the change of identity, which resets it. Source: prctl(2).
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != us:
                os._exit(128 + signal.SIGTERM)  # We were killed before that.
        if ends_with_us and hangs_up:
            # sh switches it off for what runs in the background.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        for number in _INTERRUPTIONS:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTIONS)

    return prepare


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and its like back until the block ends.

    Between fork and exec the child is a copy of us: an exception there would run the caller's
    code a second time. And an exception in sh's code here would lose sight of the child.
    """
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # Another thread may take the signal, and its handler still runs in this one.
        handlers = {n: h for n in _INTERRUPTIONS if callable(h := signal.getsignal(n))}
        for number in handlers:
            signal.signal(number, hold)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def _clear_away(error: BaseException) -> None:
    """Reap the child that could not be started and close its pipes: sh leaves both behind."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        known = frame.f_locals
        process: Any = known.get("self")
        if "session_pipe_read" not in known or not getattr(process, "pid", 0):
            continue
        with suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
        for name in ("_stdin_parent_fd", "_stdout_parent_fd", "_stderr_parent_fd"):
            _close(getattr(process, name, None))
        for name in ("session_pipe_read", "session_pipe_write"):
            _close(known[name])


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):
            os.close(descriptor)


def _cause(told: str) -> str:
    """What happened between fork and exec, from the last line of what sh tells."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return re.sub(r"^\w+: (\[Errno \d+\] )?", "", lines[-1]) if lines else ""
