"""Packages of Debian's real archive; and where an archive must lie, one that is made here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from django_dbdev.binaries import apt, upkeep
from django_dbdev.binaries.apt_sources import rewrite_deb822, rewrite_list
from django_dbdev.binaries.find import Sources, find_toolchain, installed_toolchain, lock_toolchain
from django_dbdev.binaries.lock import LockedFile, LockedFiles, read_lock, write_lock
from django_dbdev.binaries.providers.apt import upstream
from django_dbdev.binaries.store import Store
from django_dbdev.binaries.systems import SYSTEMS, codename, current_system
from django_dbdev.exceptions import IntegrityError, NoToolchainError, ToolchainError
from django_dbdev.pins import Requirement
from django_dbdev.process.command import Command
from django_dbdev.process.run import run

from .conftest import Recorder

pytestmark = pytest.mark.skipif(not apt.is_there(), reason="this system has no apt")

NewSources = Callable[..., Sources]
MARIADB = Requirement("mariadb")
HERE = current_system()
#: A release that is not the host's, and one that has MySQL.
OTHER = "trixie" if codename() != "trixie" else "bookworm"


def says(program: Path) -> str:
    return run(Command(program, ("--no-defaults", "--version"), {})).output


def locked_files(sources: Sources, engine: str = "mariadb") -> LockedFiles:
    lock = read_lock(sources.lock)
    assert lock is not None
    files = lock.engines[engine].packages[0].systems[HERE]
    assert isinstance(files, LockedFiles)
    return files


def with_debs_of(store: Path, folder: Path) -> Path:
    """A store that has what was fetched and nothing that was unpacked."""
    folder.mkdir()
    (folder / "debs").symlink_to(store / "debs")
    return folder


# --- the real archive --------------------------------------------------------------------


def test_mariadb_of_the_systems_own_release(
    new_sources: NewSources, store: Path, recorder: Recorder, tmp_path: Path
) -> None:
    sources = new_sources()
    toolchain = find_toolchain(MARIADB, sources, recorder).toolchain
    assert toolchain.provider == "apt"
    assert f" {toolchain.version}-MariaDB" in says(toolchain.program("mariadbd"))
    assert f" {toolchain.version}-MariaDB" in says(toolchain.program("mariadb-dump"))
    assert toolchain.program("mariadbd").is_relative_to(sources.prefix)
    assert not toolchain.environment
    assert not recorder.warnings

    files = locked_files(sources)
    assert files.source == codename()
    names = {apt.split_name(file.name)[0] for file in files.files}
    assert {"mariadb-server-core", "mariadb-client", "libc6"} <= names
    assert not {"perl", "debconf"} & names
    text = sources.lock.read_text()
    assert "://" not in text
    assert str(tmp_path) not in text

    # A colleague, who has the lock and the packages, and no network.
    other = replace(
        new_sources("colleague"), store=with_debs_of(store, tmp_path / "a store ü"), offline=True
    )
    shutil.copy(sources.lock, other.lock)
    again = find_toolchain(MARIADB, replace(other, locked=True)).toolchain
    assert (again.version, again.digest) == (toolchain.version, toolchain.digest)
    assert says(again.program("mariadbd")) == says(toolchain.program("mariadbd")).replace(
        str(toolchain.program("mariadbd")), str(again.program("mariadbd"))
    )
    assert installed_toolchain(MARIADB, other) == again
    # And without the lock: what the store has.
    other.lock.unlink()
    assert find_toolchain(MARIADB, other).toolchain == again


def test_another_release_brings_its_own_c_library_and_survives_a_move(
    new_sources: NewSources, store: Path, tmp_path: Path
) -> None:
    sources = new_sources(suites=(OTHER,))
    toolchain = find_toolchain(MARIADB, sources).toolchain
    assert locked_files(sources).source == OTHER
    assert "MariaDB" in says(toolchain.program("mariadbd"))
    server = toolchain.program("mariadbd").resolve()
    loaded = subprocess.run(
        [server], env={"LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True
    ).stdout
    libraries = [
        line.split(" => ")[1].split(" (")[0] for line in loaded.splitlines() if "=>" in line
    ]
    assert len(libraries) > 10
    assert [path for path in libraries if not Path(path).resolve().is_relative_to(store)] == []

    # The store is moved, with all that is in it; the programs name a loader where it was.
    before, after = tmp_path / "before", tmp_path / "after"
    moved = replace(sources, store=with_debs_of(store, before), offline=True)
    find_toolchain(MARIADB, moved)
    before.rename(after)
    moved = replace(moved, store=after)
    assert "MariaDB" in says(find_toolchain(MARIADB, moved).toolchain.program("mariadbd"))


def test_packages_go_with_the_last_tree_that_is_made_of_them(
    new_sources: NewSources, store: Path, tmp_path: Path
) -> None:
    sources = new_sources()
    find_toolchain(MARIADB, sources)
    debs = tmp_path / "own" / "debs"
    debs.mkdir(parents=True)
    for file in locked_files(sources).files:
        if (kept := store / "debs" / f"{file.sha256}.deb").exists():
            shutil.copyfile(kept, debs / kept.name)
    needed = set(debs.iterdir())
    own = replace(new_sources("own"), store=debs.parent, offline=True)
    shutil.copy(sources.lock, own.lock)
    find_toolchain(MARIADB, own)
    (debs / f"{'0' * 64}.deb").write_bytes(b"of a tree that is gone")

    def pruned() -> int:
        for path in (*debs.iterdir(), *(debs.parent / "trees").iterdir()):
            os.utime(path, (0, 0))
        (debs / f"{'1' * 64}.deb").write_bytes(b"fetched just now, for a tree that is being built")
        return len(upkeep.prune(Store(debs.parent)).packages)

    assert pruned() == 1
    assert needed < set(debs.iterdir())
    shutil.rmtree(own.prefix)
    assert pruned() == len(needed)
    assert [path.stem for path in debs.iterdir()] == ["1" * 64]


@pytest.fixture
def apt_alone(monkeypatch: pytest.MonkeyPatch, no_machine: None) -> None:
    """A machine with apt, and without a server of its own."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def test_what_no_suite_has(new_sources: NewSources, apt_alone: None) -> None:
    wanted = Requirement("mariadb", "5.5")
    with pytest.raises(NoToolchainError) as caught:
        find_toolchain(wanted, new_sources())
    assert "5.5 is not among them" in str(caught.value)
    assert "(apt)" in str(caught.value)
    with pytest.raises(NoToolchainError, match="nosuchsuite"):
        find_toolchain(MARIADB, new_sources("other", suites=("nosuchsuite",)))
    if codename() in ("bookworm", "trixie"):
        with pytest.raises(NoToolchainError, match='Debian has MySQL in "sid" alone'):
            find_toolchain(Requirement("mysql", "8.4"), new_sources("mysql"))


# --- an archive of our own ---------------------------------------------------------------

PROGRAM = """#!/bin/sh
echo "$0  Ver {version}-MariaDB for debian-linux-gnu"
"""
PROGRAMS = {
    "mariadb-server-core": ("sbin/mariadbd", "bin/mariadb-install-db"),
    "mariadb-client-core": ("bin/mariadb",),
    "mariadb-client": ("bin/mariadb-dump", "bin/mariadb-tzinfo-to-sql"),
}


@dataclass
class Archive:
    """Packages with scripts for programs, in a folder that apt takes for an archive."""

    folder: Path
    entries: dict[str, str] = field(default_factory=dict)

    def add(self, version: str, *, more: str = "") -> None:
        for package, programs in PROGRAMS.items():
            tree = self.folder / "build" / f"{package}-{version}"
            control = (
                f"Package: {package}\nVersion: 1:{version}-1\nArchitecture: all\n"
                "Maintainer: nobody <nobody@example.org>\nDescription: for tests\n"
            )
            (tree / "DEBIAN").mkdir(parents=True)
            (tree / "DEBIAN/control").write_text(control)
            for program in filter(None, (*programs, more)):
                path = tree / "usr" / program
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(PROGRAM.format(version=version))
                path.chmod(0o755)
            deb = self.folder / f"{package}_{version}-1_all.deb"
            subprocess.run(
                ["dpkg-deb", "--build", "--root-owner-group", tree, deb],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            self.announce(deb, control)

    def announce(self, deb: Path, control: str, content: bytes | None = None) -> None:
        content = deb.read_bytes() if content is None else content
        self.entries[deb.name] = (
            f"{control}Filename: ./{deb.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
        self.write()

    def remove(self, version: str) -> None:
        for name in [name for name in self.entries if f"_{version}-" in name]:
            del self.entries[name]
            (self.folder / name).unlink()
        self.write()

    def write(self) -> None:
        (self.folder / "Packages").write_text("\n".join(self.entries.values()))

    def sign(self, valid_until: str) -> Path:
        """Sign the archive; the key."""
        home = self.folder / "gnupg"
        home.mkdir(mode=0o700)
        gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-gen-key", "nobody@example.org", "ed25519"], check=True)
        packages = (self.folder / "Packages").read_bytes()
        (self.folder / "Release").write_text(
            f"Date: Mon, 01 Jan 2024 00:00:00 UTC\nValid-Until: {valid_until}\n"
            f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
        )
        signed, key = self.folder / "InRelease", self.folder / "key.gpg"
        subprocess.run([*gpg, "-o", signed, "--clearsign", self.folder / "Release"], check=True)
        subprocess.run([*gpg, "-o", key, "--export"], check=True)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
        return key

    def debs(self) -> list[Path]:
        return sorted(self.folder.glob("*.deb"))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt_alone: None) -> Archive:
    folder = tmp_path / "archive"
    folder.mkdir()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path / "sources.list"}";\n'
        f'Dir::Etc::sourceparts "{tmp_path / "none"}";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr("django_dbdev.binaries.apt._FRESH", 0.0)
    made = Archive(folder)
    made.add("11.4.2")
    return made


@pytest.fixture
def own_store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def left_in(store: Path) -> list[str]:
    """What is in the store of trees and unfinished work."""
    return sorted(
        entry.name
        for kind in ("trees", "tmp")
        if (store / kind).exists()
        for entry in (store / kind).iterdir()
    )


def test_a_version_that_the_archive_forgot(
    archive: Archive, new_sources: NewSources, own_store: Path, tmp_path: Path
) -> None:
    sources = new_sources(store=own_store)
    assert find_toolchain(MARIADB, sources).toolchain.version == "11.4.2"
    archive.add("11.4.5")
    archive.remove("11.4.2")
    # The store keeps what it has ...
    assert find_toolchain(MARIADB, sources).toolchain.version == "11.4.2"
    # ... and who has it not is told so, and what to do.
    other = replace(sources, store=tmp_path / "other", locked=True)
    with pytest.raises(NoToolchainError) as caught:
        find_toolchain(MARIADB, other)
    assert "no longer has" in str(caught.value)
    assert "mariadb-client 1:11.4.2-1 (it has 1:11.4.5-1)" in str(caught.value)
    assert "dbdev_lock --upgrade" in str(caught.value)
    assert left_in(other.store) == []
    entry = lock_toolchain(MARIADB, replace(other, locked=False), upgrade=True)
    assert entry.version == "11.4.5"


def test_what_was_locked_on_another_system_stays(
    archive: Archive, new_sources: NewSources, own_store: Path, recorder: Recorder
) -> None:
    """apt knows the packages of this system alone, and a team has several."""
    sources = new_sources(store=own_store)
    find_toolchain(MARIADB, sources)
    lock = read_lock(sources.lock)
    assert lock is not None
    entry = lock.engines["mariadb"]
    (package,) = entry.packages
    there = next(system for system in SYSTEMS if system != HERE)
    file = LockedFile("mariadb-server-core_11.4.2-1_arm64.deb", "0" * 64, 1)
    package = package.with_file(there, LockedFiles("trixie", (file,)))
    write_lock(sources.lock, lock.replaced("mariadb", None, replace(entry, packages=(package,))))
    (locked,) = lock_toolchain(MARIADB, sources, recorder).packages
    assert locked == package
    assert not recorder.warnings
    # Of a newer version nothing is known of the other system, and that is said.
    archive.add("11.4.5")
    (locked,) = lock_toolchain(MARIADB, sources, recorder, upgrade=True).packages
    assert (locked.version, list(locked.systems)) == ("11.4.5", [HERE])
    assert there in "".join(recorder.warnings)


def test_an_archive_whose_bytes_are_not_those_of_its_list(
    archive: Archive, new_sources: NewSources, own_store: Path
) -> None:
    deb = archive.debs()[0]
    deb.write_bytes(deb.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match="not those that"):
        find_toolchain(MARIADB, new_sources(store=own_store))
    assert left_in(own_store) == []


def test_a_package_that_was_replaced_under_its_name(
    archive: Archive, new_sources: NewSources, own_store: Path, tmp_path: Path
) -> None:
    sources = new_sources(store=own_store)
    find_toolchain(MARIADB, sources)
    shutil.rmtree(archive.folder / "build")
    archive.remove("11.4.2")
    archive.add("11.4.2", more="bin/another")
    other = replace(sources, store=tmp_path / "other")
    with pytest.raises(IntegrityError, match=r"mariadb-.*not those that dbdev\.lock names"):
        find_toolchain(MARIADB, other)
    assert left_in(other.store) == []


def test_a_kept_package_that_was_cut_short_is_fetched_again(
    archive: Archive, new_sources: NewSources, own_store: Path
) -> None:
    sources = new_sources(store=own_store)
    toolchain = find_toolchain(MARIADB, sources).toolchain
    shutil.rmtree(own_store / "trees")
    shutil.rmtree(own_store / "proofs")
    for deb in (own_store / "debs").iterdir():
        os.truncate(deb, deb.stat().st_size // 2)
    assert find_toolchain(MARIADB, sources).toolchain == toolchain
    assert "11.4.2-MariaDB" in says(toolchain.program("mariadbd"))
    for file in locked_files(sources).files:
        deb = own_store / "debs" / f"{file.sha256}.deb"
        assert hashlib.sha256(deb.read_bytes()).hexdigest() == file.sha256


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("deb [trusted=yes] http://user:secret@127.0.0.1:1 ./", "127.0.0.1"),
        ("deb file:{} ./", "not signed|does not have a Release file"),
        ("nonsense", "[Mm]alformed|not known"),
    ],
    ids=["unreachable", "unsigned", "malformed"],
)
def test_sources_that_cannot_be_used(
    archive: Archive,
    new_sources: NewSources,
    own_store: Path,
    tmp_path: Path,
    source: str,
    says: str,
) -> None:
    (tmp_path / "sources.list").write_text(source.format(archive.folder) + "\n")
    with pytest.raises(NoToolchainError, match=says) as caught:
        find_toolchain(MARIADB, new_sources(store=own_store))
    assert "secret" not in str(caught.value)
    assert "apt-get update" in str(caught.value) or "signed and current" in str(caught.value)
    assert left_in(own_store) == []


@pytest.mark.skipif(shutil.which("gpg") is None, reason="there is no gpg to sign with")
def test_a_source_that_has_expired(
    archive: Archive, new_sources: NewSources, own_store: Path, tmp_path: Path
) -> None:
    key = archive.sign("Tue, 02 Jan 2024 00:00:00 UTC")
    source = (
        f"deb [signed-by={key} check-date=yes check-valid-until={{}}] file:{archive.folder} ./\n"
    )
    (tmp_path / "sources.list").write_text(source.format("yes"))
    with pytest.raises(NoToolchainError, match="expired"):
        find_toolchain(MARIADB, new_sources(store=own_store))
    (tmp_path / "sources.list").write_text(source.format("no"))
    assert find_toolchain(MARIADB, new_sources(store=own_store)).toolchain.version == "11.4.2"


def test_offline_nothing_is_asked(
    archive: Archive, new_sources: NewSources, own_store: Path
) -> None:
    with pytest.raises(ToolchainError, match="switched off"):
        find_toolchain(MARIADB, new_sources(store=own_store, offline=True))
    assert not (own_store / "apt").exists()


# --- pure --------------------------------------------------------------------------------


def test_lists_of_sources_are_rewritten_for_another_suite() -> None:
    text = (
        "# the mirror\n"
        "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian bookworm main contrib\n"
        "deb https://mirror.example/debian bookworm-updates main # more\n"
        "deb https://other.example/apt bookworm stable\n"
        "deb-src https://mirror.example/debian bookworm main\n"
    )
    assert rewrite_list(text, "bookworm", "sid") == (
        "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian sid main contrib\n"
    )


def test_sources_in_stanzas_are_rewritten_for_another_suite() -> None:
    text = (
        "Types: deb deb-src\n# a comment\nURIs: https://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ\n\n"
        "Types: deb\nURIs: https://mirror.example/security\nSuites: bookworm-security\n"
        "Components: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: https://off.example\nSuites: bookworm\nComponents: main\n"
    )
    assert rewrite_deb822(text, "bookworm", "trixie") == (
        "Types: deb\nURIs: https://mirror.example/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ\n"
    )


@pytest.mark.parametrize(
    ("debian", "version"),
    [
        ("1:11.8.6-0+deb13u1", "11.8.6"),
        ("1:11.8.9+ds-4", "11.8.9"),
        ("15.20-0+deb12u1", "15.20"),
        ("8.0.43-0ubuntu0.24.04.1", "8.0.43"),
        ("19~beta1-1", None),
    ],
)
def test_the_engines_version_in_a_packages(debian: str, version: str | None) -> None:
    assert upstream(debian) == version
