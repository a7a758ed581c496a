"""What is cloned is not read, and so has no checksum at first.

Few machines have a file system that shares blocks where these tests run: a clone is a plain copy
here. ``test_disks.py`` has the real ones.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from django_dbdev.backups import copying, snapshot
from django_dbdev.backups.manifest import (
    DamagedBackupError,
    Manifest,
    read_manifest,
    write_manifest,
)
from django_dbdev.backups.names import DATA


@pytest.fixture(autouse=True)
def clones(monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(read: int, write: int) -> bool:
        os.copy_file_range(read, write, os.fstat(read).st_size)
        return True

    monkeypatch.setattr(copying, "clone", clone)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    folder = tmp_path / "live"
    (folder / "base").mkdir(parents=True)
    for name in ("base/old", "base/changed", "base/young"):
        (folder / name).write_bytes(name.encode() * 1000)
        os.utime(folder / name, (1_000_000, 1_000_000))
    (folder / "base/young").touch()
    return folder


def back_up(live: Path, name: str, asked: list[snapshot.Base], started_ns: int) -> Path:
    directory = live.parent / name
    directory.mkdir()
    tree = snapshot.scan(live)
    files = snapshot.take(live, directory / DATA, tree, asked)
    manifest = Manifest(
        engine="postgresql",
        version="18.1",
        system="x86_64-linux",
        kind="snapshot",
        alias="default",
        started_ns=started_ns,
        files=files,
        folders=tree.folders,
    )
    write_manifest(directory, manifest)
    return directory


def base(directory: Path) -> snapshot.Base:
    manifest = read_manifest(directory)
    return snapshot.Base(directory / DATA, manifest.files, manifest.started_ns)


def checksums(directory: Path) -> dict[str, str]:
    return {path: entry.checksum for path, entry in read_manifest(directory).files.items()}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def now(live: Path) -> int:
    return (live / "base/young").stat().st_mtime_ns


def test_clones_have_no_checksum_and_are_linked_by_the_next(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(paths: list[str]) -> list[str]:
        assert not paths
        return []

    monkeypatch.setattr(snapshot, "hash_all", read)
    first = back_up(live, "first", [], now(live))
    (live / "base/changed").write_bytes(b"new")
    second = back_up(live, "second", [base(first)], now(live) + 1)
    assert set(checksums(first).values()) == set(checksums(second).values()) == {""}
    assert content(second / DATA) == content(live)
    assert (second / DATA / "base/old").samefile(first / DATA / "base/old")
    # Written too shortly before the first to be known.
    assert not (second / DATA / "base/young").samefile(first / DATA / "base/young")


def test_reading_everything_records_checksums(live: Path) -> None:
    directory = back_up(live, "one", [], now(live))
    manifest = read_manifest(directory)
    assert snapshot.verify(directory, manifest, thoroughly=False) == 0
    assert snapshot.verify(directory, manifest) == 3
    assert all(checksums(directory).values())
    recorded = read_manifest(directory)
    assert snapshot.verify(directory, recorded) == 0
    assert recorded.files == snapshot.add_checksums(directory / DATA, manifest.files)

    victim = directory / DATA / "base/old"
    status = victim.stat()
    victim.write_bytes(victim.read_bytes()[::-1])
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedBackupError, match="base/old: its content has changed"):
        snapshot.verify(directory, recorded)


@pytest.mark.parametrize("thoroughly", [True, False])
def test_a_clone_that_was_written_to_is_damaged(live: Path, thoroughly: bool) -> None:
    directory = back_up(live, "one", [], now(live))
    (directory / DATA / "base/old").write_bytes(b"x" * len("base/old") * 1000)
    with pytest.raises(DamagedBackupError, match="base/old"):
        snapshot.verify(directory, read_manifest(directory), thoroughly=thoroughly)
    assert set(checksums(directory).values()) == {""}


@pytest.mark.parametrize("shares", [True, False])
def test_it_is_rebuilt(live: Path, monkeypatch: pytest.MonkeyPatch, shares: bool) -> None:
    """Also where the backup was moved to a file system that shares nothing."""
    directory = back_up(live, "one", [], now(live))
    before = content(live)
    (live / "base/changed").write_bytes(b"new")
    (live / "base/another").write_bytes(b"another")
    after = content(live)
    if not shares:
        monkeypatch.setattr(copying, "clone", lambda read, write: False)
    new, safety = live.parent / "new", live.parent / "safety"
    rebuilt = snapshot.rebuild(
        directory / DATA,
        read_manifest(directory),
        new,
        live=live,
        tree=snapshot.scan(live),
        safety=safety,
        asked=[base(directory)],
    )
    assert content(new) == before
    assert content(safety) == after
    assert rebuilt.safety["base/another"].checksum != ""
    shutil.rmtree(live)
    for path in new.rglob("*"):
        assert path.is_dir() or path.stat().st_nlink == 1
    assert rebuilt.safety["base/changed"].size == 3
