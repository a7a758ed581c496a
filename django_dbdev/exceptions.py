"""The errors of django_dbdev.

::

    DbdevError
    ├── ConfigurationError      settings, environment, pyproject.toml or arguments   exit 2
    │   ├── PinError            a key of ``[tool.django_dbdev]``
    │   └── SharedServerError   aliases share one server, and do not agree about it
    ├── ToolchainError          the programs that the pin asks for                   exit 3
    │   ├── NoToolchainError    every provider declined
    │   ├── LockError           ``dbdev.lock`` is damaged, or does not fit the pins
    │   └── IntegrityError      bytes that are not those of the lock
    ├── ServerError             a server, or a program that drives it                exit 4
    │   ├── ProgramError        a program ended with a status that is not 0
    │   ├── ForeignServerError  what answers there is not this project's server
    │   └── BusyError           another command holds the lock for too long
    └── BackupError             copies of data                                       exit 5
        └── DumpError           a dump that cannot be read, or that the database refuses

The commands turn each into Django's ``CommandError`` with the exit status given here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DbdevError(Exception):
    """What happened and why, in ``message``; what to do next, in ``hints``.

    ``log`` is the file in which the server said more, and its last lines are in
    ``log_tail``.
    """

    exit_status = 1

    def __init__(
        self,
        message: str,
        *,
        hints: Sequence[str] = (),
        log: Path | None = None,
        log_tail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hints = tuple(hints)
        self.log = log
        self.log_tail = log_tail

    def __str__(self) -> str:
        lines = [self.message]
        if self.log_tail:
            lines += [f"  {line}" for line in self.log_tail.splitlines()]
        # That of a server which was only for the work that failed is gone with it.
        if self.log is not None and self.log.exists():
            lines.append(f"log: {self.log}")
        lines += [f"hint: {hint}" for hint in self.hints]
        return "\n".join(lines)


class ConfigurationError(DbdevError):
    exit_status = 2


class PinError(ConfigurationError):
    """``key`` is the key path in ``source``, such as ``tool.django_dbdev.postgresql.port``."""

    def __init__(self, source: Path, key: str, problem: str, *, hints: Sequence[str] = ()) -> None:
        super().__init__(f"{source}: {key}: {problem}", hints=hints)
        self.source = source
        self.key = key


class SharedServerError(ConfigurationError):
    pass


class ToolchainError(DbdevError):
    exit_status = 3


class NoToolchainError(ToolchainError):
    """``declined`` holds a pair for every place that was asked: its name, and why not."""

    def __init__(
        self,
        message: str,
        declined: Sequence[tuple[str, str]],
        *,
        hints: Sequence[str] = (),
    ) -> None:
        listing = "\n".join(f"  - {provider}: {reason}" for provider, reason in declined)
        super().__init__(f"{message}\n{listing}" if listing else message, hints=hints)
        self.declined = tuple(declined)


class LockError(ToolchainError):
    pass


class IntegrityError(ToolchainError):
    pass


class ServerError(DbdevError):
    exit_status = 4


class ProgramError(ServerError):
    """``output`` is what the program wrote, both streams, as far as it was kept."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        output: str = "",
        hints: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        super().__init__(message, hints=hints, log=log, log_tail=output)
        self.status = status
        self.output = output


class ForeignServerError(ServerError):
    pass


class BusyError(ServerError):
    pass


class BackupError(DbdevError):
    exit_status = 5


class DumpError(BackupError):
    pass
