"""The commands that write, each with where it begins and what may be found after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .worlds import BACKED_UP, DUMPED, EMPTY, OLD, Content, World

Prepare = Callable[[World], None]


def _once(world: World) -> None:
    """What only the first command of all does is not to be a step of the others."""
    world.manage("dbdev_init").ok()


@dataclass(frozen=True)
class Scenario:
    """One command.

    :param begin: once, before all kills.
    :param prepare: before each kill: from whatever there is to where the command begins.
    :param before: the content that the command finds.
    :param after: the content that it leaves.
    :param next: the next command after a kill; it must work.
    :param engines: for which it is.
    :param within: only steps of this part of django_dbdev.
    :param backups: how many backups one run adds.
    :param waits: whether what it makes is on disk when it ends; else a power cut may cost that.
    """

    name: str
    args: tuple[str, ...]
    prepare: Prepare
    before: Content
    after: Content
    begin: Prepare = _once
    next: tuple[str, ...] = ("dbdev_init",)
    engines: tuple[str, ...] = ("PostgreSQL", "MariaDB", "SQLite")
    within: str = ""
    backups: int = 0
    waits: bool = True


def _old(world: World) -> None:
    world.ensure(OLD)


def _gone(world: World) -> None:
    world.manage("dbdev_destroy", "--noinput").ok()


def _stopped(world: World) -> None:
    world.ensure(OLD)
    world.manage("dbdev_stopserver").ok()


def _no_pristine(world: World) -> None:
    _gone(world)
    shutil.rmtree(world.store / "clusters", ignore_errors=True)


def _one_backup(world: World, *options: str) -> None:
    world.ensure(BACKED_UP)
    world.manage("dbdev_backup", "-n", "one", *options).ok()


def _one_portable(world: World) -> None:
    _one_backup(world, "--portable")


def _only_that_backup(world: World) -> None:
    for directory in world.backups():
        if not directory.name.endswith(".one"):
            shutil.rmtree(directory)
    for name in world.unfinished():
        shutil.rmtree(world.backup_root / name)
    world.ensure(OLD)


DUMP = "one.dump"


def _a_dump(world: World) -> None:
    world.ensure(DUMPED)
    world.manage("dbdev_createdump", DUMP).ok()


def _a_plain_dump(world: World) -> None:
    world.ensure(DUMPED)
    world.manage("dbdev_createdump", "one.sql").ok()


PINS = {v: f'[tool.django_dbdev.postgresql]\nversion = "{v}"\n' for v in ("17", "18")}


def _pin(world: World, version: str) -> None:
    """With its lock, so that the index is asked once for each."""
    lock, kept = world.root / "dbdev.lock", world.root / f"{version}.lock"
    world.project.pin(PINS[version])
    if kept.exists():
        shutil.copyfile(kept, lock)
    else:
        world.manage("dbdev_lock").ok()
        shutil.copyfile(lock, kept)


def _a_cluster_of_17(world: World) -> None:
    for version in ("18", "17"):
        _pin(world, version)
    world.manage("dbdev_init").ok()
    world.ensure(OLD)
    world.manage("dbdev_stopserver").ok()
    shutil.copytree(world.datadir, world.root / "of17", symlinks=True)


def _of_17(world: World) -> None:
    if world.is_running():
        world.manage("dbdev_stopserver").ok()
    shutil.rmtree(world.datadir, ignore_errors=True)
    shutil.rmtree(world.backup_root, ignore_errors=True)
    shutil.copytree(world.root / "of17", world.datadir, symlinks=True)
    _pin(world, "18")


def _empty_store(world: World) -> None:
    _gone(world)
    assert world.store.is_relative_to(world.root), "never that of others"
    shutil.rmtree(world.store, ignore_errors=True)


def _provision(name: str, engine: str) -> Scenario:
    return Scenario(
        f"provision ({name})",
        ("dbdev_init",),
        _empty_store,
        EMPTY,
        EMPTY,
        engines=(engine,),
        within="binaries.",
        waits=False,
    )


SCENARIOS = (
    Scenario("init", ("dbdev_init",), _gone, EMPTY, EMPTY, waits=False),
    Scenario(
        "init (first of all)",
        ("dbdev_init",),
        _no_pristine,
        EMPTY,
        EMPTY,
        engines=("PostgreSQL", "MariaDB"),
        waits=False,
    ),
    Scenario("reinit", ("dbdev_reinit", "--noinput"), _old, OLD, EMPTY, waits=False),
    Scenario("destroy", ("dbdev_destroy", "--noinput"), _old, OLD, EMPTY),
    Scenario(
        "startserver",
        ("dbdev_startserver",),
        _stopped,
        OLD,
        OLD,
        engines=("PostgreSQL", "MariaDB"),
    ),
    Scenario(
        "stopserver",
        ("dbdev_stopserver",),
        _old,
        OLD,
        OLD,
        next=("dbdev_startserver",),
        engines=("PostgreSQL", "MariaDB"),
    ),
    Scenario(
        "backup",
        ("dbdev_backup",),
        _only_that_backup,
        OLD,
        OLD,
        begin=_one_backup,
        backups=1,
        waits=False,
    ),
    Scenario(
        "backup --portable",
        ("dbdev_backup", "--portable"),
        _only_that_backup,
        OLD,
        OLD,
        begin=_one_backup,
        engines=("PostgreSQL", "MariaDB"),
        backups=1,
        waits=False,
    ),
    Scenario(
        "restore",
        ("dbdev_restore", "--noinput", "-n", "one"),
        _only_that_backup,
        OLD,
        BACKED_UP,
        begin=_one_backup,
        backups=1,
    ),
    Scenario(
        "restore (portable)",
        ("dbdev_restore", "--noinput", "-n", "one"),
        _only_that_backup,
        OLD,
        BACKED_UP,
        begin=_one_portable,
        engines=("PostgreSQL", "MariaDB"),
        backups=1,
    ),
    Scenario(
        "loaddump",
        ("dbdev_loaddump", DUMP),
        _old,
        OLD,
        DUMPED,
        begin=_a_dump,
        engines=("PostgreSQL",),
    ),
    Scenario(
        "loaddump (SQL)", ("dbdev_loaddump", "one.sql"), _old, OLD, DUMPED, begin=_a_plain_dump
    ),
    Scenario(
        "upgrade",
        ("dbdev_upgrade",),
        _of_17,
        OLD,
        OLD,
        begin=_a_cluster_of_17,
        next=("dbdev_upgrade",),
        engines=("PostgreSQL",),
        backups=1,
    ),
    _provision("wheels", "PostgreSQL"),
    _provision("npm", "npm"),
    _provision("apt", "apt"),
    _provision("conda", "conda"),
    _provision("bindir", "bindir"),
)


def needs_own_store(scenario: Scenario) -> bool:
    return scenario.prepare in (_no_pristine, _empty_store)


def named(name: str) -> Scenario:
    return next(each for each in SCENARIOS if each.name == name)


def share_trees(store: Path, own: Path) -> None:
    """A store of its own that has the programs."""
    own.mkdir(mode=0o700)
    for kind in ("trees", "proofs"):
        (store / kind).mkdir(parents=True, exist_ok=True)
        (own / kind).symlink_to(store / kind)
