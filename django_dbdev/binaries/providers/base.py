"""What every provider of programs is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...pins import Requirement
from ..lock import LockedFile, LockedFiles, LockedPackage
from ..toolchain import Toolchain


class Declined(Exception):
    """A provider has nothing for a requirement: why, in plain words, and what would help.

    ``everywhere`` says that asking again gives the same: the reason is in the package, so that
    no other machine does better, or the provider is not for this kind of machine.
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


@dataclass(frozen=True)
class Release:
    """A version of the engine, and the package that carries it.

    :param source: which of several sources has it; empty where there is one.
    """

    version: str
    package_version: str
    package: str = ""
    source: str = ""


class Packager(Protocol):
    """Fetches programs into the store, where each tree has a key that names its bytes."""

    @property
    def name(self) -> str:
        """As locks write it."""

    @property
    def brings(self) -> frozenset[str]:
        """Extensions that not everybody has: where one is wanted, others are not asked."""

    def releases(self, requirement: Requirement) -> tuple[Release, ...]:
        """What there is for this system, the most wanted first.

        :raises Declined: when that cannot be told, or nothing has the extensions.
        """

    def file(
        self, release: Release, system: str, requirement: Requirement
    ) -> LockedFile | LockedFiles:
        """
        :raises Declined: ``everywhere`` when there is none for that system.
        """

    def package(self, release: Release) -> LockedPackage:
        """For the lock, without its files."""

    def install(self, package: LockedPackage, requirement: Requirement) -> LockedPackage:
        """Have a locked package's programs in the store, and see that they run here.

        :return: the package, with what is known of its files now.
        :raises Declined: when they cannot be had, or do not run on this machine.
        :raises IntegrityError: when the bytes are not those of the lock.
        """

    def check(self, tree: Path, version: str, sha256: str, requirement: Requirement) -> None:
        """See that a tree's programs run on this machine.

        :param sha256: the tree's key.
        :raises Declined: naming what is missing, here or in the package.
        """

    def key(self, file: LockedFile | LockedFiles) -> str:
        """The tree's name in the store, on this system. Hexadecimal."""

    def home(self, tree: Path, version: str) -> Path:
        """The folder with bin, lib and share."""

    def toolchain(self, version: str, digest: str, home: Path, prefix: Path) -> Toolchain:
        """
        :param home: the folder in the store; ``prefix`` is the project's link to it.
        """
