from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from functools import partial

from ... import conf
from ...backends.base import make_tempdata
from ...binaries.engines import ENGINES
from ...binaries.find import Sources, check_lock, lock_toolchain
from ...binaries.lock import Lock, change_lock, changes, read_lock
from ...exceptions import ConfigurationError, LockError
from ...pins import Pins, Requirement
from ._base import BaseDbdevCommand

#: An engine, and the alias whose own pin it answers; None for the engine's.
Key = tuple[str, str | None]


class Command(BaseDbdevCommand):
    help = (
        "Write dbdev.lock: the very programs, by hash and for every system, that the project's "
        "pins give."
    )
    default_alias = None

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--upgrade",
            nargs="?",
            const="",
            metavar="ENGINE",
            help="Move to the newest versions that the pins allow; of one engine, or of all.",
        )
        how.add_argument(
            "--check",
            action="store_true",
            help="Write nothing; fail when the lock does not satisfy the pins.",
        )

    def dbdev_handle(self) -> None:
        self.pinned = dict(self._pinned())
        self.served = {b.lock_key: b for b in self.dbdev_backends if b.has_lock}
        keys = [*self.served, *(key for key in self.pinned if key not in self.served)]
        if not keys:
            raise ConfigurationError("There is nothing to lock: no alias has an engine to fetch.")
        if self.options["check"]:
            self._check(keys)
            return
        if conf.flag("DBDEV_LOCKED"):
            raise LockError(
                "DBDEV_LOCKED is set, so nothing is resolved.",
                hints=[
                    "dbdev_lock --check compares the lock with the pins",
                    "DBDEV_LOCKED= before a command switches it off for that command",
                ],
            )
        upgraded = self._upgraded(keys)
        make_tempdata(conf.tempdata())
        before = read_lock(conf.project().lock) or Lock()
        for key in keys:
            self._lock(key, upgrade=key in upgraded)
        if self.options["database"] is None:
            self._forget_others(keys)
        for change in changes(before, read_lock(conf.project().lock) or Lock()):
            self.reporter.fact(change)

    def _pinned(self) -> Iterator[tuple[Key, Requirement]]:
        """Pins that packages can answer. An alias that is asked for alone has no others."""
        pins: Pins = conf.project().pins
        if self.options["database"] is not None:
            return
        for engine, pin in pins.engines.items():
            if engine in ENGINES:
                yield (engine, None), pin.requirement
        for alias, of_alias in pins.databases.items():
            for engine, pin in of_alias.items():
                if engine in ENGINES:
                    yield (engine, alias), pin.requirement

    def _upgraded(self, keys: list[Key]) -> list[Key]:
        engine = self.options["upgrade"]
        if engine is None:
            return []
        chosen = [key for key in keys if engine in ("", key[0])]
        if not chosen:
            known = ", ".join(sorted({key[0] for key in keys}))
            raise ConfigurationError(
                f"The project has no {engine!r} to upgrade.", hints=[f"it has {known}"]
            )
        return chosen

    def _lock(self, key: Key, *, upgrade: bool) -> None:
        if key in self.served:
            self.served[key].lock(upgrade=upgrade)
            return
        # Pinned, and used by no alias of these settings.
        entry = lock_toolchain(
            self.pinned[key], self._sources(key[1]), self.reporter, upgrade=upgrade
        )
        self.reporter.fact(f"Locked {key[0]} {entry.version} in {conf.project().lock}")

    def _check(self, keys: list[Key]) -> None:
        problems = []
        for key in keys:
            check = (
                self.served[key].check_lock
                if key in self.served
                else partial(check_lock, self.pinned[key], self._sources(key[1]))
            )
            try:
                check()
            except LockError as error:
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise LockError(
                "The lock does not satisfy the pins:"
                + "".join(f"\n  - {error.message}" for error in problems),
                hints=problems[0].hints,
            )

    def _sources(self, alias: str | None) -> Sources:
        project = conf.project()
        return Sources(
            lock=project.lock,
            prefix=conf.tempdata() / "prefix",
            store=conf.store(),
            offline=conf.flag("DBDEV_OFFLINE"),
            alias=alias,
            suites=project.pins.suites,
            channel=project.pins.channel,
        )

    def _forget_others(self, keys: list[Key]) -> None:
        """Drop entries that answer no pin and no alias any more."""
        change_lock(conf.project().lock, conf.tempdata(), lambda lock: lock.only(keys))
