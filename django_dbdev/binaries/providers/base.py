"""What every provider of programs is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...pins import Requirement
from ..toolchain import Toolchain


class Declined(Exception):
    """A provider has nothing for a requirement: why, in plain words, and what would help.

    ``everywhere`` says that the reason is in the package, so that no other machine does better.
    """

    def __init__(self, reason: str, *, hints: Sequence[str] = (), everywhere: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hints = tuple(hints)
        self.everywhere = everywhere


class Provider(Protocol):
    """Finds programs that are there already."""

    @property
    def name(self) -> str:
        """In plain words, for messages."""

    def find(self, requirement: Requirement) -> Toolchain:
        """
        :raises Declined: when it has none that satisfies the requirement.
        """
