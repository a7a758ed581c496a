"""Packages of Debian and Ubuntu: fetched, kept and unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import IntegrityError, ProgramError
from ..process.command import Command
from ..process.run import program_error
from ..process.streams import consume, feed
from ..reporting import Reporter, seconds, size
from . import archives
from .apt import Apt, AptError, WrongHash, is_there, split_name
from .lock import LockedFile, LockedPackage
from .progress import counting
from .providers.base import Declined
from .store import Store

_WORKERS = os.cpu_count() or 1


@dataclass(frozen=True)
class Packages:
    """The packages in the store; ``offline`` when no others may be fetched."""

    store: Store
    reporter: Reporter
    offline: bool = False

    def require_apt(self) -> None:
        """
        :raises Declined: when nothing can be fetched here.
        """
        if self.offline:
            raise Declined("it is not in the store yet, and fetching is switched off")
        if not is_there():
            raise Declined("this system has no apt-get; Debian and Ubuntu have it", everywhere=True)

    def apt(self, suite: str) -> Apt:
        return Apt(self.store.root / "apt" / suite, suite)

    def _deb(self, file: LockedFile) -> Path:
        """Where a package is kept: its archive forgets old ones, and a lock does not."""
        return self.store.root / "debs" / f"{file.sha256}.deb"

    def fetch(self, package: LockedPackage, suite: str, files: Sequence[LockedFile]) -> None:
        missing = [file for file in files if not _is_whole(self._deb(file), file.sha256)]
        if not missing:
            return
        self.require_apt()
        source = self.apt(suite)
        started = time.perf_counter()
        total = sum(file.size or 0 for file in missing)
        label = f"{package.package} {package.version}"
        with self.store.scratch() as scratch:
            try:
                with self.store.hold("apt", suite):
                    source.update()
                    names = self._still_there(source, package, missing)
                    with (
                        self.reporter.download(label, total) as progress,
                        counting(scratch, progress, sum),
                    ):
                        source.download(names, scratch)
            except WrongHash as error:
                raise IntegrityError(
                    f"The mirror's bytes are not those that {suite} announces: {error.reason}",
                    hints=["nothing was installed", "try again later, or another mirror"],
                ) from None
            except AptError as error:
                raise Declined(
                    f"{package} cannot be fetched from {suite}: {error.reason}", hints=error.hints
                ) from None
            self._keep(package, missing, scratch)
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(
            f"Downloaded {label} from {suite} ({len(missing)} packages, {size(total)}) in {took}"
        )

    def _still_there(
        self, source: Apt, package: LockedPackage, files: Sequence[LockedFile]
    ) -> list[str]:
        """What apt calls the files, which must be those that the lock names."""
        wanted = {split_name(file.name): file for file in files}
        versions = source.versions([name for name, _ in wanted])
        gone = [
            f"{name} {version} (it has {', '.join(versions.get(name, ())) or 'none'})"
            for name, version in wanted
            if version not in versions.get(name, ())
        ]
        if gone:
            more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
            raise Declined(
                f"{source.suite} no longer has {', '.join(gone[:3])}{more}, which dbdev.lock names",
                hints=[
                    "`python manage.py dbdev_lock --upgrade` locks what it has now",
                    f"or copy {self.store.root / 'debs'} from a machine that still has them",
                ],
            )
        names = [f"{name}={version}" for name, version in wanted]
        announced = {split_name(file.name): file.sha256 for file in source.files(names)}
        for name, file in wanted.items():
            if announced.get(name) != file.sha256:
                raise _wrong_bytes(package, file, announced.get(name))
        return names

    def _keep(self, package: LockedPackage, files: Sequence[LockedFile], scratch: Path) -> None:
        fetched = {split_name(path.name): path for path in scratch.glob("*.deb")}
        self.store.make("debs")
        for file in files:
            path = fetched.get(split_name(file.name))
            if path is None:
                raise Declined(f"apt did not fetch {file.name}")
            if (got := _digest(path)) != file.sha256:
                raise _wrong_bytes(package, file, got)
            # apt gives a file the time of its making.
            os.utime(path)
            path.replace(self._deb(file))

    def unpack(self, files: Sequence[LockedFile], tree: Path) -> None:
        # Each into a folder of its own: where several create one folder, tar stumbles.
        parts = tree / ".parts"
        parts.mkdir()

        def extract(file: LockedFile) -> None:
            _extract(self._deb(file), parts / file.sha256, file.name)

        largest_first = sorted(files, key=lambda file: -(file.size or 0))
        with ThreadPoolExecutor(_WORKERS) as pool:
            jobs = [pool.submit(extract, file) for file in largest_first]
        try:
            for job in jobs:
                job.result()
        except ProgramError as error:
            raise IntegrityError(f"{error.message} {error.output}".strip()) from None
        for file in files:
            part = parts / file.sha256
            _check_kinds(part, file.name)
            _merge(part / "usr", tree / "usr", tree)
            # Older releases have some libraries in /lib, newer ones all in /usr/lib.
            for top in ("bin", "lib", "lib64", "sbin"):
                _merge(part / top, tree / "usr" / top, tree)
        shutil.rmtree(parts)


def _extract(deb: Path, folder: Path, name: str) -> None:
    """Unpack a package to ``folder``, which must not exist.

    Between dpkg-deb, which decompresses, and tar the bytes are counted: there is no other bound.

    :raises ProgramError: when one of them fails.
    :raises ArchiveError: when it is larger than any package is.
    """
    folder.mkdir()
    decompress = Command(_program("dpkg-deb"), ("--fsys-tarfile", str(deb)))
    args = ("--extract", "--file=-", "--preserve-permissions", "--no-same-owner")
    unpack = Command(_program("tar"), (*args, f"--directory={folder}"))
    decompressed, unpacked = consume(
        decompress, lambda chunks: feed(unpack, archives.bounded(chunks, name))
    )
    for command, completed in ((decompress, decompressed), (unpack, unpacked)):
        if completed.status != 0:
            raise program_error(command, completed, f"{name} could not be unpacked.")


def _program(name: str) -> Path:
    program = shutil.which(name)
    if program is None:
        raise Declined(f"this system has no {name}, with which its packages are unpacked")
    return Path(program)


def _check_kinds(part: Path, name: str) -> None:
    """Refuse devices and their like, and let no program run as another than who starts it."""
    for folder, folders, files in os.walk(part):
        for path in (os.path.join(folder, each) for each in (*folders, *files)):
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise IntegrityError(f"{name} has a special file: {os.path.basename(path)!r}.")
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                os.chmod(path, stat.S_IMODE(mode) & 0o777)


def _merge(source: Path, target: Path, tree: Path) -> None:
    """Move what is below ``source`` to where ``target`` has it, or has nothing.

    :raises IntegrityError: when one package has a link out of ``tree`` where another has a
        folder: what is moved below it would go there.
    """
    if source.is_symlink() or not source.is_dir():
        return
    if target.is_symlink() and not target.resolve().is_relative_to(tree.resolve()):
        raise IntegrityError(f"A link of a package leads out of its tree: {target}.")
    target.mkdir(mode=0o755, exist_ok=True, parents=True)
    for entry in source.iterdir():
        there = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and there.is_dir():
            _merge(entry, there, tree)
        else:
            entry.rename(there)


def _digest(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_whole(path: Path, sha256: str) -> bool:
    """Whether a file is there with these bytes, used now; one that is damaged is removed."""
    with contextlib.suppress(OSError):
        if _digest(path) == sha256:
            # What was just used is not pruned.
            with contextlib.suppress(OSError):
                os.utime(path)
            return True
        path.unlink()
    return False


def _wrong_bytes(package: LockedPackage, file: LockedFile, got: str | None) -> IntegrityError:
    return IntegrityError(
        f"The bytes of {file.name} ({package}) are not those that dbdev.lock names: "
        f"expected sha256 {file.sha256}, got {got}.",
        hints=[
            "nothing was installed",
            "if the lock was edited, restore it from version control; if the package was "
            "replaced where apt looks, find out why before you trust it",
        ],
    )
