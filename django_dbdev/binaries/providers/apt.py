"""Packages of Debian and Ubuntu, fetched by apt and unpacked into the store, without root.

A lock names every package of the set, the C library among them. What is unpacked is less, and
depends on this system: of its own release it has the C library already.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from ..systems import codename, current_system
from ..toolchain import Toolchain
from .base import Declined, Release

if TYPE_CHECKING:
    from ..debian import Packages

#: Raised when trees are built differently, so that older ones are not used.
_FORMAT = 1
_WORKERS = os.cpu_count() or 1

#: Of what a server depends on, the libraries and their data are needed, and not what installs,
#: configures and starts it on a system.
_KEPT = re.compile(r"lib.*|zlib1g|ocl-icd-.*|proj-data|gdal-data|openssl-provider-legacy")
_LEFT_OUT = re.compile(
    r"lib.*-perl|libperl.*|libc-bin|libc-l10n|libc-gconv-.*|libdb5.*|libgdbm.*|libllvm.*|libz3-.*"
    r"|libpam-(modules|runtime).*|libsemanage.*|libsepol.*|libsasl2-modules.*"
)
#: The C library, which a tree for a system of the same release must not bring along.
_C_LIBRARY = "libc6"
#: Extensions whose package bears another name, and what else it needs.
_POSTGIS = ("postgis-3", "postgis-3-scripts")
_EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    **{
        f"postgis{part}": _POSTGIS
        for part in ("", "_raster", "_sfcgal", "_tiger_geocoder", "_topology")
    },
    "address_standardizer": _POSTGIS,
    "address_standardizer_data_us": _POSTGIS,
    "vector": ("pgvector",),
    "pgrouting": ("pgrouting",),
    "h3": ("h3",),
    "rum": ("rum",),
    "hll": ("hll",),
    "ip4r": ("ip4r",),
    "pg_cron": ("cron",),
    "pg_partman": ("partman",),
    "pg_repack": ("repack",),
    "hypopg": ("hypopg",),
    "pgaudit": ("pgaudit",),
    "pgtap": ("pgtap",),
}


@dataclass(frozen=True)
class Debian:
    """How an engine is packaged.

    :param server: the server's package; its group is what the names of all have in common.
    :param others: further packages with what they need; ``{}`` is that part of the name.
    :param alone: packages of which only some programs are wanted, and nothing that they need.
    :param home: the folder in the tree that has bin, lib and share.
    :param share: where the tree has what ``share`` in that folder leads to.
    """

    engine: str
    server: str
    others: tuple[str, ...]
    alone: tuple[str, ...]
    home: str
    share: str = ""


_PACKAGINGS = (
    Debian(
        "postgresql",
        r"postgresql-(\d+)",
        ("postgresql-client-{}",),
        (),
        "usr/lib/postgresql/{}",
        "usr/share/postgresql/{}",
    ),
    Debian(
        "mariadb",
        r"mariadb-server-core(|-[\d.]+)",
        ("mariadb-client-core{}",),
        ("mariadb-client{}",),
        "usr",
    ),
    Debian(
        "mysql",
        r"mysql-server-core(|-[\d.]+)",
        ("mysql-client-core{}",),
        ("mysql-client{}",),
        "usr",
    ),
)
PACKAGINGS: Mapping[str, Debian] = {each.engine: each for each in _PACKAGINGS}


@dataclass(frozen=True)
class AptProvider:
    """Installs an engine's packages into the store.

    :param suites: where to look, in this order; the system's own sources where none is named.
    """

    engine: Engine
    store: Store
    reporter: Reporter
    offline: bool = False
    suites: tuple[str, ...] = ()
    name: str = "apt"
    brings: frozenset[str] = frozenset(_EXTENSIONS) | {"icu"}

    @property
    def packaging(self) -> Debian:
        return PACKAGINGS[self.engine.name]

    def releases(self, requirement: Requirement) -> tuple[Release, ...]:
        """What the suites have for this system, the first suite's first, its newest first.

        :raises Declined: when no suite can be asked, or none has the engine or an extension.
        """
        from ..apt import AptError

        self._packages().require_apt()
        suites = self.suites or tuple(filter(None, [codename()]))
        if not suites:
            raise Declined(
                "this system does not tell which release it is",
                hints=["name a suite: [tool.django_dbdev.apt] suite"],
            )
        found: list[Release] = []
        reasons: list[str] = []
        for suite in suites:
            try:
                releases, lacking = self._releases_of(suite, requirement)
            except AptError as error:
                raise Declined(f"{suite}: {error.reason}", hints=error.hints) from None
            known = {release.version for release in found}
            found += (release for release in releases if release.version not in known)
            reasons += lacking or ([] if releases else [f"{suite} has no {self.engine.title}"])
        if not found:
            raise Declined("; ".join(reasons), hints=self._other_suites(), everywhere=True)
        return tuple(found)

    def _other_suites(self) -> tuple[str, ...]:
        if self.suites:
            return ()
        known = ' (Debian has MySQL in "sid" alone)' if self.engine.name == "mysql" else ""
        return (f"another release may have it: name that by [tool.django_dbdev.apt] suite{known}",)

    def _releases_of(self, suite: str, requirement: Requirement) -> tuple[list[Release], list[str]]:
        source = self._packages().apt(suite)
        with self.store.hold("apt", suite):
            source.update()
            pattern = re.compile(self.packaging.server)
            stem = re.split(r"[\\(]", self.packaging.server)[0]
            names = source.names(stem)
            servers = {name: m for name in names if (m := pattern.fullmatch(name))}
            versions = source.versions(sorted(servers))
        releases: list[Release] = []
        lacking: list[str] = []
        for package, there in versions.items():
            fitting = [(v, own) for own in there if (v := upstream(own)) is not None]
            wanted = [entry for entry in fitting if requirement.matches(entry[0])]
            missing = [
                name
                for name in requirement.extensions
                if (needed := self._extension(name, servers[package].group(1), names)) is not None
                and not set(needed) <= set(names)
            ]
            if wanted and missing:
                lacking.append(f"{suite} has no package of {', '.join(missing)} for {package}")
                continue
            releases += (
                Release(version, own, package=package, source=suite) for version, own in fitting
            )
        releases.sort(key=lambda release: _numbers(release.version), reverse=True)
        return releases, lacking

    def _extension(self, name: str, part: str, names: Sequence[str]) -> tuple[str, ...] | None:
        """The packages of an extension; None where the server's own has it, as far as known."""
        if self.engine.name != "postgresql":
            return None
        if name in _EXTENSIONS:
            return tuple(f"postgresql-{part}-{each}" for each in _EXTENSIONS[name])
        plain = name.replace("_", "-")
        guesses = (f"postgresql-{part}-{plain}", f"postgresql-{part}-{plain.removeprefix('pg-')}")
        return next(((guess,) for guess in guesses if guess in names), None)

    def file(self, release: Release, system: str, requirement: Requirement) -> LockedFiles:
        """The packages for a system.

        :raises Declined: for every other system than this: apt knows nothing of them.
        """
        from ..apt import AptError, split_name

        if system != current_system():
            raise Declined(
                f"apt knows the packages of {current_system()} alone",
                hints=[f"`python manage.py dbdev_lock` on {system} adds them"],
                everywhere=True,
            )
        source = self._packages().apt(release.source)
        found = re.fullmatch(self.packaging.server, release.package)
        assert found is not None
        part, version = found.group(1), release.package_version
        with self.store.hold("apt", release.source):
            try:
                names = source.names(f"postgresql-{part}-") if requirement.extensions else []
                extensions = [
                    package
                    for name in requirement.extensions
                    for package in self._extension(name, part, names) or ()
                ]
                clients = [name.format(part) for name in self.packaging.others]
                wanted = [release.package, *clients]
                closure = source.closure([*(f"{n}={version}" for n in wanted), *extensions])
                alone = [name.format(part) for name in self.packaging.alone]
                there = source.versions(alone)
                more = [f"{name}={version}" for name in alone if version in there.get(name, ())]
                files = [*closure, *(source.files(more) if more else ())]
            except AptError as error:
                raise Declined(f"{release.source}: {error.reason}", hints=error.hints) from None
        roots = {*wanted, *extensions, *alone}
        kept = {file for file in files if _is_needed(split_name(file.name)[0], roots)}
        return LockedFiles(release.source, tuple(sorted(kept, key=lambda file: file.name)))

    def package(self, release: Release) -> LockedPackage:
        return LockedPackage(release.version, self.name, release.package, release.package_version)

    def key(self, file: LockedFile | LockedFiles) -> str:
        text = f"{_FORMAT}\0{'foreign' if self._is_foreign(file) else 'own'}\0{file.sha256}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _is_foreign(self, file: LockedFile | LockedFiles) -> bool:
        return not isinstance(file, LockedFiles) or file.source != codename()

    def home(self, tree: Path, version: str) -> Path:
        return tree / self.packaging.home.format(version.split(".")[0])

    def toolchain(self, version: str, digest: str, home: Path, prefix: Path) -> Toolchain:
        tree = self._tree(home)
        data = geo_data(tree / "usr/share")
        return Toolchain(
            engine=self.engine.name,
            version=version,
            provider=self.name,
            programs=programs_by_prefix(self.engine, home, prefix),
            digest=digest,
            server_environment=data,
            prefix=prefix,
            geo_environment=_geo_environment(tree, data),
        )

    def _tree(self, home: Path) -> Path:
        depth = len(Path(self.packaging.home).parts)
        return home.parents[depth - 1]

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
                hints=[f"`python manage.py dbdev_lock` on {system} writes it anew"],
            )
        key = self.key(files)
        tree = self.store.folder("trees", key)
        if tree.is_dir() and not _is_at_home(tree):
            # The store was moved, and the tree's programs name a loader where it was.
            self.store.remove("trees", key)
        if not tree.is_dir():
            self.store.ensure("trees", key, lambda new: self._build(package, files, new, tree))
        self.check(tree, package.version, key, requirement)
        return package

    def check(self, tree: Path, version: str, sha256: str, requirement: Requirement) -> None:
        """See that a tree's programs run on this machine, once for each kind of machine.

        :raises Declined: naming what is missing, here or in the packages.
        """
        home = self.home(tree, version)
        toolchain = self.toolchain(version, sha256, home, home)
        require_programs(self.engine, toolchain.programs, f"{self.name} {version}")
        extensions = requirement.extensions
        if self.packaging.share:
            require_extensions(self.engine, {}, {}, extensions, home / "share")
            server = toolchain.programs[self.engine.server]
            prove_extensions(self.engine, server, {}, home, extensions)
        host = host_key()
        if not self.store.is_proven(sha256, host):
            prove(self.engine, toolchain.programs, toolchain.environment)
            self.store.note_proof(sha256, host)

    def _packages(self) -> Packages:
        # Only when something is asked or fetched: it loads what runs programs.
        from ..debian import Packages

        return Packages(self.store, self.reporter, self.offline)

    def _build(self, package: LockedPackage, files: LockedFiles, tree: Path, final: Path) -> None:
        from ..apt import split_name

        foreign = self._is_foreign(files)
        wanted = [file for file in files.files if foreign or split_name(file.name)[0] != _C_LIBRARY]
        packages = self._packages()
        packages.fetch(package, files.source, wanted)
        started = time.perf_counter()
        tree.mkdir(mode=0o755)
        packages.unpack(wanted, tree)
        self._finish(tree, final if foreign else None, package.version)
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
                "relinked": foreign,
                # What it is made of, and so what of the packages is not to be pruned.
                "debs": [file.sha256 for file in wanted],
            },
        )
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(f"Unpacked {len(wanted)} packages of {package} in {took}")

    def _finish(self, tree: Path, final: Path | None, version: str) -> None:
        """What the packages' own scripts would do on a system, as far as it is needed."""
        from ..relink import loader, relink

        home = self.home(tree, version)
        relink(tree, tree / "usr", final, _GEO_LIBRARIES.values())
        if final is not None and (own := loader(tree)) is not None:
            (tree / _LOADER).write_text(str(final / own.relative_to(tree)), "utf-8")
        if self.packaging.share:
            share = tree / self.packaging.share.format(version.split(".")[0])
            (home / "share").symlink_to(os.path.relpath(share, home))
            for control in share.glob("extension/*-3.control"):
                plain = control.with_name(control.name.replace("-3.control", ".control"))
                if not plain.exists():
                    plain.symlink_to(control.name)
            # Without its library of 100 MB it would fail where it is used; PostgreSQL does
            # without when it is not there.
            (home / "lib" / "llvmjit.so").unlink(missing_ok=True)


#: The file in a tree that names the dynamic loader of its programs.
_LOADER = ".loader"
#: What GeoDjango loads itself, by the setting that names it.
_GEO_LIBRARIES = {"GDAL_LIBRARY_PATH": "libgdal.so.*", "GEOS_LIBRARY_PATH": "libgeos_c.so.*"}


def _geo_environment(tree: Path, data: Mapping[str, str]) -> dict[str, str]:
    """For GeoDjango, where the tree is of this system's release and so fits its Python."""
    if "PROJ_DATA" not in data or (tree / _LOADER).exists():
        return {}
    found: dict[str, str] = {}
    for name, pattern in _GEO_LIBRARIES.items():
        paths = sorted(tree.glob(f"usr/lib/*-linux-*/{pattern}"), key=lambda p: len(p.name))
        if not paths:
            return {}
        found[name] = str(paths[0])
    return {**found, **data}


def _is_at_home(tree: Path) -> bool:
    try:
        return Path((tree / _LOADER).read_text("utf-8")).is_relative_to(tree)
    except OSError:
        return True


def _is_needed(package: str, roots: set[str]) -> bool:
    if package in roots:
        return True
    return bool(_KEPT.fullmatch(package)) and not _LEFT_OUT.fullmatch(package)


def upstream(version: str) -> str | None:
    """ "11.8.6" for Debian's "1:11.8.6-0+deb13u1"; None for versions that are no releases."""
    own = version.partition(":")[2] if ":" in version else version
    found = re.fullmatch(r"(\d+(?:\.\d+)+)(?:\+\w+)?(?:-[^-]*)?", own)
    return found.group(1) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
