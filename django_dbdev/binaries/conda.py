"""conda's channels, through py-rattler: what they have, what goes together, and installing it.

Where a channel of some name is, its mirrors and credentials are the user's own configuration;
no host is named here. py-rattler compares what it downloads with the hash in the channel's list,
but not what it reads from a folder: that is done here.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import rattler
from rattler.exceptions import SolverError

from .lock import LockedFile
from .systems import current_system

#: What conda calls systems.
SUBDIRS = {
    "aarch64-darwin": "osx-arm64",
    "aarch64-linux": "linux-aarch64",
    "x86_64-darwin": "osx-64",
    "x86_64-linux": "linux-64",
}
#: What other systems than this are taken to have at least: name and version.
_LINUX = (("__unix", "0"), ("__linux", "4.18"), ("__glibc", "2.28"))
_MACOS = (("__unix", "0"), ("__osx", "13.0"))

T = TypeVar("T")


class CondaError(Exception):
    """``reason`` is py-rattler's own word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unsolvable(CondaError):
    """The channel answered, and has no packages that go together."""


class WrongHash(CondaError):
    """The channel has other bytes under that name."""


@dataclass(frozen=True)
class Conda:
    """One channel.

    :param channel: its name, or where it is.
    :param cache: where downloads are kept.
    """

    channel: str
    cache: Path

    def versions(self, package: str) -> tuple[str, ...]:
        """The versions of a package that the channel has for this system."""
        found = self._records(current_system(), [package])
        return tuple(dict.fromkeys(str(record.version) for record in found))

    def solve(self, specs: Sequence[str], system: str) -> tuple[LockedFile, ...]:
        """The packages that answer specifications, with all that they depend on."""

        async def solve() -> list[Any]:
            return await rattler.solve(
                [self._channel()],
                list(specs),
                gateway=self._gateway(),
                platforms=_platforms(system),
                virtual_packages=_virtual_packages(system),
            )

        return tuple(_file(record) for record in _run(solve()))

    def install(self, files: Sequence[LockedFile], tree: Path, final: Path) -> list[LockedFile]:
        """Install the very files into ``tree``, for use at ``final``.

        :return: those that the channel does not have; nothing is installed then.
        :raises WrongHash: when a file has other bytes than it should.
        """
        names = {file.name.rsplit("-", 2)[0] for file in files}
        records = {
            (record.file_name, _hex(record)): record
            for record in self._records(current_system(), sorted(names))
        }
        gone = [file for file in files if (file.name, file.sha256) not in records]
        if gone:
            return gone
        wanted = [records[file.name, file.sha256] for file in files]
        for record in wanted:
            _check_local(record)

        async def install() -> None:
            await rattler.install(
                wanted,
                tree,
                cache_dir=self.cache / "packages",
                alternative_target_prefix=final,
                execute_link_scripts=False,
                show_progress=False,
                config=_config(),
            )

        _run(install())
        return []

    def _records(self, system: str, names: Sequence[str]) -> list[Any]:
        async def query() -> list[Any]:
            result = await self._gateway().query(
                [self._channel()], _platforms(system), list(names), recursive=False
            )
            return [record for source in result for record in source]

        return _run(query())

    def _channel(self) -> Any:
        return rattler.Channel(self.channel, _config().channel_config)

    def _gateway(self) -> Any:
        return rattler.Gateway(cache_dir=self.cache / "lists")


def channel_name(channel: str) -> str:
    """What a lock may hold of a channel: no host, and no path."""
    name = unquote(urlsplit(channel).path or channel).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_+.-]", "-", name).lstrip("-_+.") or "channel"


def _config() -> Any:
    return rattler.Config.load_from_default_locations("rattler")


def _platforms(system: str) -> Any:
    return [SUBDIRS[system], "noarch"]


def _virtual_packages(system: str) -> list[Any]:
    if system == current_system():
        return [package.into_generic() for package in rattler.VirtualPackage.detect()]
    pairs = _MACOS if system.endswith("darwin") else _LINUX
    return [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name), rattler.Version(version), rattler.BuildString("0")
        )
        for name, version in pairs
    ]


def _file(record: Any) -> LockedFile:
    return LockedFile(record.file_name, _hex(record), record.size)


def _hex(record: Any) -> str:
    if not record.sha256:
        raise CondaError(f"the channel names no SHA-256 for {record.file_name}")
    return bytes(record.sha256).hex()


def _check_local(record: Any) -> None:
    url = urlsplit(str(record.url))
    if url.scheme != "file":
        return
    try:
        with open(unquote(url.path), "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise CondaError(f"{record.file_name} cannot be read: {error.strerror}") from None
    if sha256 != _hex(record):
        raise WrongHash(f"{record.file_name}: expected sha256 {_hex(record)}, got {sha256}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except CondaError:
        raise
    except SolverError as error:
        raise Unsolvable(_words(error)) from None
    except Exception as error:
        # py-rattler's errors have no ancestor of their own.
        raise CondaError(_words(error)) from None


def _words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3]) or type(error).__name__
