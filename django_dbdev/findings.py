"""What an examination found: facts, and things that are not as they should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Nothing to do; something to know; something to do.
NOTE, WARNING, ERROR = "note", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """One thing that somebody should know.

    :param subject: what it is about: "lock", or the name of a server.
    :param fix: does what is safe to do about it; None where a person has to.
    """

    level: str
    subject: str
    text: str
    hints: tuple[str, ...] = ()
    fix: Callable[[], object] | None = None
