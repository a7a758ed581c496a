"""Packages of Debian that hold what none should, made here by its own program."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from django_dbdev.binaries import apt, archives
from django_dbdev.binaries.debian import Packages
from django_dbdev.binaries.lock import LockedFile
from django_dbdev.binaries.store import Store
from django_dbdev.exceptions import IntegrityError
from django_dbdev.reporting import SILENT

pytestmark = pytest.mark.skipif(not apt.is_there(), reason="this system has no apt")


def package(store: Path, name: str, fill: Callable[[Path], object]) -> LockedFile:
    """A package in the store, of what ``fill`` puts into its folder ``usr``."""
    folder = store / name
    (folder / "usr").mkdir(parents=True)
    fill(folder / "usr")
    control = folder / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n"
        "Description: x\n"
    )
    (store / "debs").mkdir(exist_ok=True)
    deb = store / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", folder, deb], check=True, capture_output=True
    )
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    deb.rename(store / "debs" / f"{sha256}.deb")
    return LockedFile(f"{name}_1_all.deb", sha256)


def unpack(store: Path, *files: LockedFile) -> Path:
    tree = store / "tree"
    tree.mkdir()
    Packages(Store(store), SILENT).unpack(files, tree)
    return tree


def test_a_special_file(tmp_path: Path) -> None:
    file = package(tmp_path, "fifo", lambda usr: os.mkfifo(usr / "pipe"))
    with pytest.raises(IntegrityError, match=r"fifo_1_all.deb has a special file: 'pipe'"):
        unpack(tmp_path, file)


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = package(tmp_path, "bomb", lambda usr: (usr / "x").write_bytes(bytes(3_000_000)))
    assert (tmp_path / "debs" / f"{file.sha256}.deb").stat().st_size < 10_000
    monkeypatch.setattr(archives, "MAX_BYTES", 1_000_000)
    with pytest.raises(IntegrityError, match=r"bomb_1_all.deb unpacks to more than 1000000 bytes"):
        unpack(tmp_path, file)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 9_000_000


@pytest.mark.parametrize("kept", [0, 500, 3000])
def test_a_package_that_was_cut(tmp_path: Path, kept: int) -> None:
    file = package(tmp_path, "cut", lambda usr: (usr / "x").write_bytes(os.urandom(5000)))
    with (tmp_path / "debs" / f"{file.sha256}.deb").open("r+b") as deb:
        deb.truncate(kept)
    with pytest.raises(IntegrityError, match=r"cut_1_all.deb could not be unpacked\. dpkg-deb"):
        unpack(tmp_path, file)


def test_a_program_that_would_run_as_its_owner(tmp_path: Path) -> None:
    def fill(usr: Path) -> None:
        (usr / "su").write_text("x")
        (usr / "su").chmod(0o6755)

    tree = unpack(tmp_path, package(tmp_path, "su", fill))
    assert stat.S_IMODE((tree / "usr" / "su").stat().st_mode) == 0o755


@pytest.mark.parametrize(("name", "other"), [("x", "usr/x"), ("lib", "usr/lib"), ("lib", "lib")])
def test_a_link_of_one_below_which_another_would_write(
    tmp_path: Path, name: str, other: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def fill(usr: Path) -> None:
        folder = usr.parent / other
        folder.mkdir()
        (folder / "planted").touch()

    link = package(tmp_path, "link", lambda usr: (usr / name).symlink_to(outside))
    with pytest.raises(IntegrityError, match="leads out of its tree"):
        unpack(tmp_path, link, package(tmp_path, "file", fill))
    assert list(outside.iterdir()) == []
