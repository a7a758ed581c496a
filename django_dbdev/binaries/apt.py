"""apt, as a program: packages of the user's own sources, without root and beside the system's.

Everything that apt writes is in a private folder, with an empty list of installed packages, so
that what depends on what is told in full. Where apt looks, its mirrors, proxies and credentials
are the user's own configuration; no host is named here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import which
from urllib.parse import unquote

from ..exceptions import ProgramError
from ..process.command import Command
from ..process.run import Completed, run
from ..records import write_atomically
from .apt_sources import rewrite_deb822, rewrite_list
from .lock import LockedFile
from .systems import codename

#: How long the lists of packages are taken for current, in seconds.
_FRESH = 600.0
#: What the system's configuration would run besides, such as the removal of its own downloads.
_CLEARED = "".join(
    f"#clear APT::Update::{name};\n"
    for name in ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Post-Invoke-Stats")
)
_URI = re.compile(r"^'[^']*' (?P<name>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})\s*$")


class AptError(Exception):
    """``reason`` is apt's own word, without credentials."""

    def __init__(self, reason: str, *, hints: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hints = tuple(hints)


class NotThere(AptError):
    """The sources have no such package or version."""


class WrongHash(AptError):
    """The mirror sends other bytes than its own lists name."""


def is_there() -> bool:
    return which("apt-get") is not None and which("dpkg-deb") is not None


def split_name(file: str) -> tuple[str, str]:
    """Package and version in the name of a file that apt has fetched."""
    name, version, *_ = unquote(file).removesuffix(".deb").split("_")
    return name, version


@dataclass(frozen=True)
class Apt:
    """One suite, in a private folder.

    :param folder: apt's state and cache; made when it is needed.
    :param suite: the system's own, or another.
    """

    folder: Path
    suite: str
    host: str = field(default_factory=codename)

    @property
    def is_own(self) -> bool:
        """Whether the suite is the system's own; its sources are taken as they are then."""
        return self.suite == self.host

    def update(self) -> None:
        """Read the sources' lists of packages, unless that was done a moment ago.

        :raises AptError: when a source cannot be reached, has expired or is not signed.
        """
        stamp = self.folder / "updated"
        try:
            key = self._prepare()
        except OSError as error:
            raise AptError(f"its private folder cannot be made: {error}") from None
        try:
            age = time.time() - stamp.stat().st_mtime
            if 0 <= age < _FRESH and stamp.read_text() == key:
                return
        except OSError:
            pass
        stamp.unlink(missing_ok=True)
        _check(self._run("apt-get", "--quiet", "update", "--error-on=any"))
        stamp.write_text(key)

    def names(self, prefix: str) -> list[str]:
        """The names of packages that begin like this."""
        return self._query("pkgnames", prefix).split()

    def versions(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The versions of packages that the sources have, the newest first."""
        found: dict[str, list[str]] = {}
        if names:
            for line in self._query("madison", *names).splitlines():
                name, version, *_ = (part.strip() for part in line.split("|"))
                if version not in found.setdefault(name, []):
                    found[name].append(version)
        return found

    def closure(self, packages: Sequence[str]) -> tuple[LockedFile, ...]:
        """The files of packages and of all that they depend on. Nothing is fetched.

        :param packages: names, or ``name=version``.
        """
        return self._files("install", packages)

    def files(self, packages: Sequence[str]) -> tuple[LockedFile, ...]:
        """The files of these packages alone. Nothing is fetched."""
        return self._files("download", packages)

    def download(self, packages: Sequence[str], folder: Path) -> None:
        """Fetch packages, each ``name=version``, into a folder."""
        _check(self._run("apt-get", "--quiet", "download", *packages, cwd=folder))

    def _files(self, how: str, packages: Sequence[str]) -> tuple[LockedFile, ...]:
        asked = ("--quiet=2", "--print-uris", "--no-install-recommends", how, *packages)
        # Without that option it tells whichever hash it finds first.
        completed = self._run("apt-get", "-o", "Acquire::ForceHash=SHA256", *asked)
        _check(completed)
        lines = [line for line in completed.output.splitlines() if line.startswith("'")]
        found = [_URI.match(line) for line in lines]
        for line, match in zip(lines, found, strict=True):
            if match is None:
                raise AptError(f"its sources name no SHA256 for {line.split()[1]}")
        return tuple(LockedFile(m["name"], m["sha256"], int(m["size"])) for m in found if m)

    def _query(self, *args: str) -> str:
        completed = self._run("apt-cache", *args)
        _check(completed)
        return completed.output

    def _run(self, program: str, *args: str, cwd: Path | None = None) -> Completed:
        options = {
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.folder / "state" / "status",
            "Dir::Cache": self.folder / "cache",
            # Some systems switch these off, to keep images small; each question would be slow.
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Log": self.folder / "log",
            # We are no other user, and have a lock of our own.
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            **self._sources(),
            **dict.fromkeys(self._superfluous(), "false"),
        }
        given = (word for name, value in options.items() for word in ("-o", f"{name}={value}"))
        path = which(program)
        if path is None:
            raise AptError(f"this system has no {program}")
        command = Command(
            Path(path),
            ("-c", str(self.folder / "apt.conf"), *given, *args),
            {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            cwd=cwd,
        )
        try:
            return run(command, check=False)
        except ProgramError as error:
            raise AptError(error.message) from None

    def _sources(self) -> Mapping[str, Path | str]:
        if self.is_own:
            return {}
        return {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": self.folder / "sources.list.d",
            # The user's preferences are about the system's own suite.
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Default-Release": "",
        }

    def _superfluous(self) -> Iterator[str]:
        """Options that switch off what some tools have ``update`` fetch: tens of megabytes."""
        for name in self._targets:
            yield f"Acquire::IndexTargets::deb::{name}::DefaultEnabled"

    @cached_property
    def _targets(self) -> tuple[str, ...]:
        said = _ask("apt-config", "dump", "--format", "%f%n", "Acquire::IndexTargets::deb")
        names = re.findall(r"^Acquire::IndexTargets::deb::([\w-]+)::", said, re.MULTILINE)
        return tuple(dict.fromkeys(name for name in names if name != "Packages"))

    def _prepare(self) -> str:
        """Make the private folder. Gives what changes when the sources do."""
        for name in ("state/lists/partial", "cache/archives/partial", "log", "sources.list.d"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "state" / "status").touch()
        write_atomically(self.folder / "apt.conf", _CLEARED)
        if self.is_own:
            return "\n".join(f"{path} {path.stat().st_mtime_ns}" for path in _source_files())
        return self._write_sources()

    def _write_sources(self) -> str:
        if not self.host:
            raise AptError("this system does not tell which release it is (VERSION_CODENAME)")
        written = {
            f"{number}{path.suffix}": rewritten
            for number, path in enumerate(_source_files())
            if (rewritten := self._rewritten(path))
        }
        if not written:
            raise AptError(
                f"the system's sources have none of {self.host}, whose mirrors could be asked "
                f"for {self.suite}",
                hints=["look into /etc/apt/sources.list and /etc/apt/sources.list.d"],
            )
        write_atomically(self.folder / "sources.list", "")
        parts = self.folder / "sources.list.d"
        for path in parts.iterdir():
            if path.name not in written:
                path.unlink()
        for name, content in written.items():
            write_atomically(parts / name, content)
        return "\n".join(written.values())

    def _rewritten(self, path: Path) -> str:
        text = path.read_text("utf-8", "replace")
        rewrite = rewrite_deb822 if path.suffix == ".sources" else rewrite_list
        return rewrite(text, self.host, self.suite)


def _source_files() -> list[Path]:
    """Where the user's apt has its sources: the main file, and those in the folder beside."""
    said = _ask(
        *("apt-config", "shell", "MAIN", "Dir::Etc::sourcelist/f"),
        *("PARTS", "Dir::Etc::sourceparts/d"),
    )
    found = dict(re.findall(r"^(\w+)='([^']*)'$", said, re.MULTILINE))
    files = [Path(found["MAIN"])] if "MAIN" in found else []
    if "PARTS" in found:
        parts = Path(found["PARTS"])
        files += sorted(p for p in parts.glob("*") if p.suffix in {".list", ".sources"})
    return [file for file in files if file.is_file()]


def _ask(program: str, *args: str) -> str:
    path = which(program)
    if path is None:
        raise AptError(f"this system has no {program}")
    completed = run(Command(Path(path), args, {"LC_ALL": "C"}), check=False)
    _check(completed)
    return completed.output


def _check(completed: Completed) -> None:
    if completed.status < 0:
        raise AptError(f"apt {completed.ending}")
    if completed.status != 0:
        raise failure(f"{completed.output}\n{completed.errors}")


def failure(said: str) -> AptError:
    """What went wrong, from what apt has written."""
    text = re.sub(r"(?<=://)[^/\s@'\"]+@", "", said)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line[3:] for line in lines if line.startswith("E: ")]
    reason = (errors or lines or ["it failed and said nothing"])[0]
    if re.search(r"Hash Sum mismatch|unexpected size|Hashes of received file", text):
        return WrongHash(reason)
    if re.search(r"Unable to locate package|Version '.*' for '.*' was not found", text):
        return NotThere(reason)
    if re.search(r"no installation candidate|unmet dependencies|unable to correct", text, re.I):
        told = [line for line in lines if re.search(r"Depends:|PreDepends:", line)]
        return NotThere("; ".join([reason, *told[:2]]))
    if re.search(r"not signed|NO_PUBKEY|GPG error|not valid yet|is expired", text):
        return AptError(reason, hints=["the source must be signed and current for apt to trust it"])
    return AptError(
        reason, hints=["is there a network? `apt-get update` shows what is wrong with a source"]
    )
