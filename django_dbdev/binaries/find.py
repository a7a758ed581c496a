"""From a requirement to a toolchain: who is asked, in which order.

1. the executable settings, and the folder that a Nix shell exports: explicit, so that one
   that does not satisfy the pin is an error;
2. the project's prefix, when it leads to what the lock names: nothing is run for that;
3. what the lock names, then its fallbacks, fetched into the store;
4. without a lock that satisfies the pin: the newest that the packages have, which is locked;
   who fetches them, and in which order, is told in :mod:`.packagers`;
5. a matching installation on the machine, which is not locked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .. import conf
from ..exceptions import LockError, NoToolchainError, ToolchainError
from ..pins import CHANNEL, Requirement
from ..records import parse_json, write_atomically
from ..reporting import SILENT, Reporter
from .engines import Engine, get_engine
from .lock import LockedEngine, LockedPackage, change_lock, read_lock
from .nix import keep_from_collection
from .packagers import Tiers, packagers
from .programs import host_key, require_extensions
from .providers.base import Declined, Packager, Provider
from .providers.bindir import Bindir
from .providers.executables import Executables
from .providers.machine import Machine
from .store import Store, link_prefix
from .systems import current_system
from .toolchain import Toolchain

if TYPE_CHECKING:
    from .resolve import Resolution


@dataclass(frozen=True)
class Sources:
    """Where to look, and what is allowed.

    :param lock: the lock file; its folder is the project's root.
    :param prefix: the project's folder of links to programs.
    :param executables: programs that settings name, by the program's name.
    :param bindir: the folder that a Nix shell exports; see :func:`exported`.
    :param suffix: of the variable by which it does, where that speaks for the alias alone.
    :param locked: fail rather than use what the lock does not name.
    :param offline: fetch nothing, and do not ask the index.
    :param alias: set where the database alias has a pin, and so a lock entry, of its own.
    :param suites: of Debian or Ubuntu, in which to look; the system's own where none is named.
    :param channel: conda's, in which to look.
    """

    lock: Path
    prefix: Path
    store: Path
    executables: Mapping[str, Path] = field(default_factory=dict)
    bindir: Path | None = None
    suffix: str = ""
    locked: bool = False
    offline: bool = False
    alias: str | None = None
    suites: tuple[str, ...] = ()
    channel: str = CHANNEL


@dataclass(frozen=True)
class Found:
    """A toolchain, and who declined before. ``locked``: its bytes are those of the lock."""

    toolchain: Toolchain
    declined: tuple[tuple[str, str], ...]
    locked: bool


def exported(engine: Engine, alias: str | None) -> tuple[Path | None, str]:
    """The folder of programs that a Nix shell exports, and how the variable's name ends.

    For an alias with a pin of its own there may be another one than the engine's.
    """
    suffix = "" if alias is None else engine.suffix_of(alias)
    if suffix and (own := conf.path_variable(engine.bindir_variable + suffix)) is not None:
        return own, suffix
    return conf.path_variable(engine.bindir_variable), ""


def find_toolchain(
    requirement: Requirement, sources: Sources, reporter: Reporter = SILENT
) -> Found:
    """Programs that satisfy the requirement, fetched where need be.

    :raises NoToolchainError: when everyone declined, with their reasons and the remedies.
    :raises LockError: when the lock is damaged, or ``locked`` and it does not satisfy the pin.
    :raises IntegrityError: when bytes are not those of the lock.
    :raises ConfigurationError: when a setting names a program that cannot be run.
    """
    return _Search(requirement, sources, reporter).find()


def installed_toolchain(requirement: Requirement, sources: Sources) -> Toolchain | None:
    """What :func:`find_toolchain` would give without fetching, linking or writing anything."""
    return _Search(requirement, sources, SILENT).installed()


def declined_providers(requirement: Requirement, sources: Sources) -> tuple[tuple[str, str], ...]:
    """Who is asked before the one whom :func:`installed_toolchain` finds, and why each declines."""
    search = _Search(requirement, sources, SILENT)
    if not sources.executables and sources.bindir is None:
        search.why_not_locked()
    search.installed()
    return search._reasons()


def lock_toolchain(
    requirement: Requirement,
    sources: Sources,
    reporter: Reporter = SILENT,
    *,
    upgrade: bool = False,
) -> LockedEngine:
    """Write the lock's entry anew and install what it names.

    A version that is locked and satisfies the pin stays, unless ``upgrade``.

    :raises NoToolchainError: when no package satisfies the requirement.
    """
    return _Search(requirement, sources, reporter).lock_anew(upgrade)


def check_lock(requirement: Requirement, sources: Sources) -> LockedEngine:
    """The lock's entry for the requirement, without a look at anything else.

    :raises LockError: when there is none, or it does not satisfy the requirement.
    """
    return _Search(requirement, sources, SILENT).locked_entry()


def check_obtainable(requirement: Requirement, sources: Sources) -> None:
    """Look whether :func:`find_toolchain` could succeed; asks the index, fetches nothing.

    :raises ToolchainError: what it would raise, as far as that can be known before fetching.
    """
    _Search(requirement, sources, SILENT).check_obtainable()


class _Search:
    def __init__(self, requirement: Requirement, sources: Sources, reporter: Reporter) -> None:
        self.requirement = requirement
        self.sources = sources
        self.reporter = reporter
        self.engine: Engine = get_engine(requirement.engine)
        conf.refuse_planted(sources.prefix.parent)
        self.store = Store(sources.store, reporter)
        self.declined: list[tuple[str, Declined]] = []
        self.hints: list[str] = []
        self.index_has_none = False

    def find(self) -> Found:
        if explicit := self._explicit():
            return self._found(explicit, locked=self._check_explicit(explicit))
        entry = self._entry()
        satisfied = entry is not None and entry.satisfies(self.requirement)
        toolchain: Toolchain | None = None
        if entry is not None and satisfied:
            toolchain = self._linked(entry) or self._install(entry)
            if toolchain is not None and not entry.answers(self.requirement):
                self._restate(entry)
        elif self.sources.locked:
            raise self._lock_error(entry)
        elif (toolchain := self._remembered_machine()) is not None:
            return self._unlocked(toolchain)
        elif self.sources.offline:
            if (toolchain := self._from_store()) is not None:
                return self._unlocked(toolchain)
        else:
            toolchain = self._resolve(entry)
        if toolchain is not None:
            return self._found(toolchain, locked=True)
        if not self.sources.locked:
            try:
                return self._unlocked(Machine(self.engine).find(self.requirement))
            except Declined as declined:
                self._decline(Machine(self.engine).name, declined)
        raise self._nothing()

    def installed(self) -> Toolchain | None:
        for provider in self._explicit_providers():
            try:
                return self._overlaid(provider.find(self.requirement))
            except Declined as declined:
                self._decline(provider.name, declined)
                if not self._may_decline(provider):
                    return None
        try:
            entry = self._entry()
        except LockError:
            entry = None
        toolchain = None
        if entry is not None and entry.satisfies(self.requirement):
            toolchain = self._linked(entry)
        if toolchain is None:
            toolchain = next(self._in_prefix(), None)
        if toolchain is None:
            try:
                toolchain = Machine(self.engine).find(self.requirement)
            except Declined as declined:
                self._decline(Machine(self.engine).name, declined)
                return None
        return self._overlaid(toolchain)

    def why_not_locked(self) -> None:
        """Note of every package of the lock, up to the one that is used, why it is not."""
        entry = self._entry()
        if entry is None or not entry.satisfies(self.requirement):
            self._decline("dbdev.lock", Declined(self._lock_error(entry).message))
            return
        linked = self._linked(entry)
        for package in entry.packages:
            packager = self._packagers.get(package.provider)
            file = package.systems.get(current_system())
            if packager is None or file is None:
                reason = f"dbdev.lock names no file of {package} for {current_system()}"
                self._decline(package.provider, Declined(reason))
                continue
            key = packager.key(file)
            if linked is not None and linked.digest == key:
                return
            tree = self.store.folder("trees", key)
            try:
                if not tree.is_dir():
                    raise Declined("it is not in the store yet")
                packager.check(tree, package.version, key, self.requirement)
                raise Declined("it is in the store, and the project's prefix does not lead to it")
            except Declined as declined:
                self._decline(package.provider, declined)

    def lock_anew(self, upgrade: bool) -> LockedEngine:
        if self.sources.offline:
            raise LockError(
                f"{self.sources.lock} cannot be written while fetching is switched off.",
                hints=["run this again where there is a network"],
            )
        self._resolve(self._entry(), upgrade=upgrade)
        entry = self._entry()
        if entry is None or not entry.satisfies(self.requirement):
            raise self._nothing()
        return entry

    def check_obtainable(self) -> None:
        if self._explicit() is not None:
            return
        entry = self._entry()
        if entry is not None and entry.satisfies(self.requirement):
            return
        if self.sources.locked:
            raise self._lock_error(entry)
        if self.sources.offline or self.installed() is not None:
            return
        from .resolve import ask

        answered = False
        for tier in self._tiers:
            answer = ask(self.requirement, tier, self._special)
            if answer.offered:
                return
            answered = answered or answer.answered
            self._take_note(answer)
        # Without a network nothing is known.
        if answered:
            raise self._nothing()

    def locked_entry(self) -> LockedEngine:
        entry = self._entry()
        if entry is None or not entry.satisfies(self.requirement):
            raise self._lock_error(entry)
        return entry

    # --- explicit -----------------------------------------------------------------------

    def _explicit_providers(self) -> Iterator[Provider]:
        sources = self.sources
        if self.engine.server in sources.executables:
            yield Executables(self.engine, sources.executables, sources.lock.parent)
        if sources.bindir is not None:
            origin = conf.text_variable(self.engine.provider_variable + sources.suffix)
            yield Bindir(self.engine, sources.bindir, origin, sources.suffix)

    def _may_decline(self, provider: Provider) -> bool:
        """Whether it speaks for the engine, and the alias has a pin of its own."""
        of_alias = provider.name != Executables.name and self.sources.suffix
        return self.sources.alias is not None and not of_alias

    def _explicit(self) -> Toolchain | None:
        for provider in self._explicit_providers():
            try:
                return provider.find(self.requirement)
            except Declined as declined:
                if not self._may_decline(provider):
                    raise ToolchainError(
                        f"{self.requirement} is pinned, and {provider.name} cannot provide it: "
                        f"{declined.reason}.",
                        hints=[
                            *declined.hints,
                            "change the pin in pyproject.toml, or what "
                            f"{provider.name} leads to, or unset it",
                        ],
                    ) from None
                self._decline(provider.name, declined)
        return None

    def _check_explicit(self, toolchain: Toolchain) -> bool:
        """Whether what a shell exports is what the lock has: the lock may be newer than the shell.

        What a setting names is compared with the lock only when ``locked``.

        :raises LockError: when ``locked``, and it is not.
        """
        bindir = self.sources.bindir
        if bindir is not None and toolchain.provider != Executables.name:
            exported = True
            origin = self.engine.bindir_variable + self.sources.suffix
            remedy = "leave the shell and enter it again: it reads the lock when it starts"
            link = self.sources.prefix / self._link_name("nix")
            keep_from_collection(bindir, link, self.reporter)
        elif self.sources.locked:
            exported = False
            origin = self.engine.settings[self.engine.server]
            remedy = f"remove the setting {origin}: the pin alone provides the programs"
        else:
            return False
        entry = self._entry()
        if entry is None or not entry.satisfies(self.requirement):
            if self.sources.locked:
                raise self._lock_error(entry)
            return False
        if any(package.version == toolchain.version for package in entry.packages):
            return exported
        problem = (
            f"{origin} leads to {self.engine.title} {toolchain.version}, "
            f"and {self.sources.lock} has {entry.version}"
        )
        if self.sources.locked:
            raise LockError(
                f"{problem}.",
                hints=[
                    remedy,
                    "or lock what it has: pin that version and run `python manage.py dbdev_lock`",
                ],
            )
        self.reporter.warning(f"{problem}: enter the shell again to have what is locked.")
        return False

    def _overlaid(self, toolchain: Toolchain) -> Toolchain:
        """With the client programs that settings name, where they do not name the server."""
        chosen = self.sources.executables
        if not chosen or self.engine.server in chosen:
            return toolchain
        explicit = Executables(self.engine, chosen, self.sources.lock.parent).resolved()
        return replace(toolchain, programs={**toolchain.programs, **explicit})

    # --- the lock -----------------------------------------------------------------------

    @cached_property
    def _tiers(self) -> Tiers:
        return packagers(
            self.engine,
            self.store,
            self.reporter,
            offline=self.sources.offline,
            suites=self.sources.suites,
            channel=self.sources.channel,
        )

    @cached_property
    def _packagers(self) -> dict[str, Packager]:
        return {packager.name: packager for tier in self._tiers for packager in tier}

    @cached_property
    def _special(self) -> frozenset[str]:
        return frozenset().union(*(packager.brings for packager in self._packagers.values()))

    def _entry(self) -> LockedEngine | None:
        lock = read_lock(self.sources.lock)
        return None if lock is None else lock.get(self.engine.name, self.sources.alias)

    def _write(self, entry: LockedEngine) -> None:
        name, alias = self.engine.name, self.sources.alias
        try:
            change_lock(
                self.sources.lock,
                self.sources.prefix.parent,
                lambda lock: lock.replaced(name, alias, entry),
            )
        except OSError as error:
            self.reporter.warning(
                f"{self.sources.lock} could not be written: {error.strerror}. "
                "Nothing is locked for your colleagues."
            )

    def _restate(self, entry: LockedEngine) -> None:
        """Note the pin's new wording, which allows what is locked."""
        if not self.sources.locked:
            requirement = self.requirement
            self._write(
                replace(entry, requirement=requirement.version, extensions=requirement.extensions)
            )

    def _linked(self, entry: LockedEngine) -> Toolchain | None:
        """The hot path: the prefix already leads to what the lock names, seen to run here."""
        system, host = current_system(), host_key()
        for package in entry.packages:
            packager, file = self._packagers.get(package.provider), package.systems.get(system)
            if packager is None or file is None:
                continue
            key = packager.key(file)
            if not self.store.is_proven(key, host):
                continue
            link = self.sources.prefix / self._link_name(package.version)
            home = packager.home(self.store.folder("trees", key), package.version)
            try:
                if os.readlink(link) != str(home):
                    continue
            except OSError:
                continue
            toolchain = self._usable(packager, package.version, key, home, link)
            if toolchain is not None:
                return toolchain
        return None

    def _usable(
        self, packager: Packager, version: str, sha256: str, home: Path, link: Path
    ) -> Toolchain | None:
        toolchain = packager.toolchain(version, sha256, home, link)
        # All of them: a tree may link to another for some, which is not there any more.
        if not toolchain.programs.keys() >= set(self.engine.required):
            return None
        try:
            require_extensions(
                self.engine,
                toolchain.programs,
                toolchain.server_environment,
                self.requirement.extensions,
                home / "share",
            )
        except Declined:
            return None
        return toolchain

    def _install(self, entry: LockedEngine) -> Toolchain | None:
        for package in entry.packages:
            packager = self._packagers.get(package.provider)
            if packager is None:
                self._decline(
                    package.provider,
                    Declined(
                        "dbdev.lock names it, and this django_dbdev does not know it",
                        hints=["update django_dbdev"],
                    ),
                )
                continue
            try:
                packager.install(package, self.requirement)
            except Declined as declined:
                self._decline(package.provider, declined)
                continue
            return self._link(packager, package)
        return None

    def _link(self, packager: Packager, package: LockedPackage) -> Toolchain:
        for provider, declined in self.declined:
            if provider in self._packagers and not declined.everywhere:
                remedy = f" ({'; '.join(declined.hints)})" if declined.hints else ""
                self.reporter.warning(
                    f"{provider} cannot be used: {declined.reason}{remedy}. "
                    f"{package.provider} {package.version} is used instead."
                )
        key = packager.key(package.systems[current_system()])
        home = packager.home(self.store.folder("trees", key), package.version)
        link = link_prefix(self.sources.prefix, self._link_name(package.version), home)
        return packager.toolchain(package.version, key, home, link)

    def _link_name(self, version: str) -> str:
        """Of an alias with a pin of its own, another: its programs may come from elsewhere."""
        alias = self.sources.alias
        suffix = "" if alias is None else f"-{re.sub(r'[^A-Za-z0-9_]', '_', alias)}"
        return f"{self.engine.name}-{version}{suffix}"

    def _resolve(self, entry: LockedEngine | None, *, upgrade: bool = False) -> Toolchain | None:
        from .resolve import resolve

        preferred = ""
        if entry is not None and not upgrade:
            preferred = entry.version
            if not entry.satisfies(self.requirement):
                self.reporter.fact(
                    f"Locking anew: {self.requirement} is pinned, and dbdev.lock has {entry}"
                )
        self.index_has_none = True
        for tier in self._tiers:
            result = resolve(
                self.requirement,
                tier,
                self.reporter,
                preferred=preferred,
                special=self._special,
                previous=entry,
            )
            self._take_note(result)
            if result.offered or not result.answered:
                self.index_has_none = False
            if result.entry is not None and result.installed is not None:
                self._write(result.entry)
                return self._link(self._packagers[result.installed.provider], result.installed)
        return None

    def _take_note(self, result: Resolution) -> None:
        for name, declined in result.declined:
            self._decline(name, declined)
        if result.nearest:
            self.hints.append(f"the nearest versions that can be had: {', '.join(result.nearest)}")

    # --- without a lock -----------------------------------------------------------------

    def _from_store(self) -> Toolchain | None:
        """The newest tree in the store that satisfies the requirement, for work offline."""
        for version, packager, sha256 in self._trees():
            tree = self.store.folder("trees", sha256)
            try:
                packager.check(tree, version, sha256, self.requirement)
            except Declined as declined:
                self._decline(packager.name, declined)
                continue
            home = packager.home(tree, version)
            link = link_prefix(self.sources.prefix, self._link_name(version), home)
            return packager.toolchain(version, sha256, home, link)
        self._decline(
            "the store",
            Declined(
                f"it has no {self.requirement}, and fetching is switched off",
                hints=["run this once where there is a network"],
            ),
        )
        return None

    def _trees(self) -> list[tuple[str, Packager, str]]:
        """Version, provider and key of what the store has and satisfies the requirement.

        The newest first, and among equals the preferred package.
        """
        rank = list(self._packagers)
        trees = [
            (str(record.get("version")), self._packagers[record["provider"]], sha256)
            for sha256, record in self.store.records().items()
            if record.get("provider") in self._packagers
            and record.get("engine") == self.engine.name
            and self.requirement.matches(str(record.get("version")))
        ]
        trees.sort(key=lambda t: rank.index(t[1].name))
        return sorted(trees, key=lambda t: _numbers(t[0]), reverse=True)

    def _in_prefix(self) -> Iterator[Toolchain]:
        """What the project's prefix leads to and satisfies the requirement, the newest first."""
        for version, packager, sha256 in self._trees():
            link = self.sources.prefix / self._link_name(version)
            home = packager.home(self.store.folder("trees", sha256), version)
            if link.is_symlink() and os.readlink(link) == str(home):
                toolchain = self._usable(packager, version, sha256, home, link)
                if toolchain is not None:
                    yield toolchain

    def _unlocked(self, toolchain: Toolchain) -> Found:
        self.reporter.warning(
            f"{self.engine.title} {toolchain.version} from {toolchain.provider} is used, and it "
            "is not locked: other machines may get another."
        )
        if toolchain.provider not in self._packagers and self.index_has_none:
            self._remember_machine(toolchain)
        return self._found(toolchain, locked=False)

    def _remember_machine(self, toolchain: Toolchain) -> None:
        """Spare the next command to ask the index for what it does not have."""
        folder = toolchain.programs[self.engine.server].parent
        content = {"requirement": str(self.requirement), "folder": str(folder)}
        try:
            self.sources.prefix.mkdir(parents=True, exist_ok=True)
            write_atomically(self._machine_file(), json.dumps(content, indent=2) + "\n")
        except OSError:
            return

    def _remembered_machine(self) -> Toolchain | None:
        try:
            content = parse_json(self._machine_file().read_text("utf-8"))
            if content["requirement"] != str(self.requirement):
                return None
            return Machine(self.engine, (content["folder"],)).find(self.requirement)
        except (OSError, ValueError, LookupError, TypeError, Declined):
            return None

    def _machine_file(self) -> Path:
        return self.sources.prefix / f"{self._link_name('machine')}.json"

    # --- the end ------------------------------------------------------------------------

    def _decline(self, provider: str, declined: Declined) -> None:
        self.declined.append((provider, declined))
        self.hints += [hint for hint in declined.hints if hint not in self.hints]

    def _found(self, toolchain: Toolchain, *, locked: bool) -> Found:
        if toolchain.provider in self._packagers:
            self.store.note_user(self.sources.lock.parent, self.sources.prefix)
        return Found(self._overlaid(toolchain), self._reasons(), locked)

    def _reasons(self) -> tuple[tuple[str, str], ...]:
        return tuple((provider, declined.reason) for provider, declined in self.declined)

    def _lock_error(self, entry: LockedEngine | None) -> LockError:
        lock = self.sources.lock
        if entry is not None:
            problem = f"{lock} has {entry}, and {self.requirement} is pinned."
        elif lock.exists():
            of_alias = "" if self.sources.alias is None else f" of {self.sources.alias!r}"
            problem = f"{lock} has no entry for {self.engine.name}{of_alias}."
        else:
            problem = f"{lock} does not exist."
        # Under which dbdev_lock resolves nothing either.
        unset = "DBDEV_LOCKED= " if conf.flag("DBDEV_LOCKED") else ""
        return LockError(
            problem,
            hints=[f"run `{unset}python manage.py dbdev_lock`, and commit the file"],
        )

    def _nothing(self) -> NoToolchainError:
        return NoToolchainError(
            f"Nothing here provides {self.requirement}. Asked were:",
            self._reasons(),
            hints=[
                *self.hints,
                *self._extension_hints(),
                f"or install it yourself and set {self.engine.settings[self.engine.server]}, "
                "or change the pin in pyproject.toml",
            ],
        )

    def _extension_hints(self) -> Iterator[str]:
        """Who has the extensions that are wanted, as far as that is known."""
        for extension in self.requirement.extensions:
            who = [name for name, each in self._packagers.items() if extension in each.brings]
            if who:
                yield f"{extension} is what {' and '.join(who)} can have"
            else:
                rest = sorted(self._special)
                yield (
                    f"of {extension} nothing is known; beside PostgreSQL's own extensions there "
                    f"can be {', '.join(rest)}"
                )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
