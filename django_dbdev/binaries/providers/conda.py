"""Packages of conda's channels, installed by py-rattler: an optional dependency."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...exceptions import IntegrityError
from ...pins import Requirement
from ...reporting import Reporter, seconds
from ..digest import tree_digest
from ..engines import Engine
from ..lock import LockedFile, LockedFiles, LockedPackage
from ..programs import (
    geo_data,
    host_key,
    programs_by_prefix,
    prove,
    prove_extensions,
    require_extensions,
    require_programs,
)
from ..store import Store
from ..systems import current_system
from ..toolchain import Toolchain
from .base import Declined, Release

#: Raised when trees are built differently, so that older ones are not used.
_FORMAT = 1
#: The server's package first; all have the engine's version.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "postgresql": ("postgresql",),
    "mysql": ("mysql-server", "mysql-client"),
}
_EXTENSIONS = {
    **dict.fromkeys(
        ("postgis", "postgis_raster", "postgis_tiger_geocoder", "postgis_topology"), "postgis"
    ),
    "vector": "pgvector",
}
#: The file in a tree that names its place, which is written into its programs.
_PLACE = ".prefix"


@dataclass(frozen=True)
class CondaProvider:
    """Installs an engine's packages from one channel.

    :param channel: its name, or where it is.
    """

    engine: Engine
    store: Store
    reporter: Reporter
    channel: str
    offline: bool = False
    name: str = "conda"

    @property
    def brings(self) -> frozenset[str]:
        return frozenset(_EXTENSIONS) | {"icu"} if self.engine.name == "postgresql" else frozenset()

    def releases(self, requirement: Requirement) -> tuple[Release, ...]:
        """What the channel has for this system, the newest first.

        :raises Declined: when it cannot be asked, or py-rattler is not installed.
        """
        self._require_rattler()
        from ..conda import Conda, CondaError

        package = PACKAGES[self.engine.name][0]
        try:
            found = Conda(self.channel, self._cache()).versions(package)
        except CondaError as error:
            raise self._unreachable(error.reason) from None
        releases = (
            Release(version, version, package=package)
            for version in found
            if re.fullmatch(r"\d+(\.\d+)+", version)
        )
        return tuple(sorted(releases, key=lambda r: _numbers(r.version), reverse=True))

    def file(self, release: Release, system: str, requirement: Requirement) -> LockedFiles:
        """The packages for a system; nothing is fetched.

        :raises Declined: ``everywhere`` when they do not go together there.
        """
        from ..conda import Conda, CondaError, Unsolvable, channel_name

        specs = [f"{name} =={release.version}" for name in PACKAGES[self.engine.name]]
        more = {_EXTENSIONS[e] for e in requirement.extensions if e in _EXTENSIONS}
        try:
            files = Conda(self.channel, self._cache()).solve([*specs, *sorted(more)], system)
        except CondaError as error:
            raise Declined(
                f"{self.channel} has no {release.package} {release.version} for {system}: "
                f"{error.reason}",
                everywhere=isinstance(error, Unsolvable) and system != current_system(),
            ) from None
        return LockedFiles(
            channel_name(self.channel), tuple(sorted(files, key=lambda file: file.name))
        )

    def package(self, release: Release) -> LockedPackage:
        return LockedPackage(release.version, self.name, release.package, release.package_version)

    def key(self, file: LockedFile | LockedFiles) -> str:
        return hashlib.sha256(f"conda {_FORMAT}\0{file.sha256}".encode()).hexdigest()

    def home(self, tree: Path, version: str) -> Path:
        return tree

    def toolchain(self, version: str, digest: str, home: Path, prefix: Path) -> Toolchain:
        data = geo_data(home / "share")
        return Toolchain(
            engine=self.engine.name,
            version=version,
            provider=self.name,
            programs=programs_by_prefix(self.engine, home, prefix),
            digest=digest,
            server_environment=data,
            prefix=prefix,
        )

    def install(self, package: LockedPackage, requirement: Requirement) -> LockedPackage:
        """Have the programs of a locked package in the store, and see that they run here.

        :raises Declined: when they cannot be had, or do not run on this machine.
        :raises IntegrityError: when the bytes are not those of the lock.
        """
        system = current_system()
        files = package.systems.get(system)
        if not isinstance(files, LockedFiles):
            raise Declined(
                f"dbdev.lock names no packages of {package} for {system}",
                hints=["`python manage.py dbdev_lock` writes it anew, for every system"],
            )
        key = self.key(files)
        tree = self.store.folder("trees", key)
        if tree.is_dir() and (tree / _PLACE).read_text("utf-8") != str(tree):
            # The store was moved, and its programs look for their files where it was.
            self.store.remove("trees", key)
        if not tree.is_dir():
            self._require_rattler()
            self.store.ensure("trees", key, lambda new: self._build(package, files, new, tree))
        self.check(tree, package.version, key, requirement)
        return package

    def check(self, tree: Path, version: str, sha256: str, requirement: Requirement) -> None:
        """See that a tree's programs run on this machine, once for each kind of machine.

        :raises Declined: naming what is missing, here or in the packages.
        """
        toolchain = self.toolchain(version, sha256, tree, tree)
        require_programs(self.engine, toolchain.programs, f"{self.name} {version}")
        if self.engine.extension_file:
            extensions = requirement.extensions
            require_extensions(self.engine, {}, {}, extensions, tree / "share")
            server = toolchain.programs[self.engine.server]
            prove_extensions(self.engine, server, {}, tree, extensions)
        host = host_key()
        if not self.store.is_proven(sha256, host):
            prove(self.engine, toolchain.programs, toolchain.environment)
            self.store.note_proof(sha256, host)

    def _require_rattler(self) -> None:
        if self.offline:
            raise Declined("it is not in the store yet, and fetching is switched off")
        if find_spec("rattler") is None:
            raise Declined(
                "py-rattler is not installed (pip install 'django_dbdev[conda]')", everywhere=True
            )

    def _cache(self) -> Path:
        return self.store.make("conda")

    def _unreachable(self, reason: str) -> Declined:
        return Declined(
            f"the channel {self.channel} cannot be read: {reason}",
            hints=["is there a network? [tool.django_dbdev.conda] channel names another channel"],
        )

    def _build(self, package: LockedPackage, files: LockedFiles, tree: Path, final: Path) -> None:
        from ..conda import Conda, CondaError, WrongHash, channel_name

        started = time.perf_counter()
        own = files.source == channel_name(self.channel)
        channel = Conda(self.channel if own else files.source, self._cache())
        try:
            gone = channel.install(files.files, tree, final)
        except WrongHash as error:
            raise IntegrityError(
                f"The bytes of {package} are not those that {files.source} announces: "
                f"{error.reason}",
                hints=["nothing was installed"],
            ) from None
        except CondaError as error:
            raise self._unreachable(error.reason) from None
        if gone:
            raise Declined(
                f"{files.source} has no {', '.join(file.name for file in gone[:3])} with the "
                "bytes that dbdev.lock names",
                hints=["`python manage.py dbdev_lock --upgrade` locks what it has now"],
            )
        (tree / _PLACE).write_text(str(final), "utf-8")
        self.store.record(
            final.name,
            {
                "provider": self.name,
                "engine": self.engine.name,
                "version": package.version,
                "package": package.package,
                "package-version": package.package_version,
                "source": files.source,
                "tree": tree_digest(tree),
                # Its files then depend on where they lie.
                "relinked": True,
            },
        )
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(
            f"Installed {package} from {files.source} ({len(files.files)} packages) in {took}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
