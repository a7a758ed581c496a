"""Portable backups in one of the project's STORAGES: an object store, or a shared folder.

Below ``<PREFIX>/<server>/<the backup's folder>/`` of the storage::

    files/<checksum>.<part>     what the manifest names, in parts of PART bytes
    manifest.json               written last: without it, there is no backup

A name tells what is in it, so that a transfer that was broken off goes on where it ended: what is
there in full size is not sent again. What comes back is compared with the manifest's checksums.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..exceptions import BackupError, ConfigurationError
from .checksums import checksum_of
from .faults import step
from .listing import created
from .manifest import FileEntry, Manifest, from_json, write_manifest
from .names import MANIFEST, RESERVED, Place, none_of_the_alias, place_of
from .snapshot import data_of

PREFIX = "django_dbdev"
#: Bytes. What is repeated at most when a transfer is broken off; a part of the format.
PART = 32 * 1024 * 1024
_AGAIN = "run this again: it goes on where it ended"

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Shared:
    """A backup in a storage."""

    place: Place
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.place.name or self.place.directory.name


class Storage:
    """The backups of one server in one of the project's STORAGES."""

    def __init__(self, alias: str, server: str) -> None:
        from django.core.files.storage import InvalidStorageError, storages

        self.alias = alias
        self._folder = f"{PREFIX}/{server}"
        try:
            self._storage: Any = storages[alias]
        except InvalidStorageError as error:
            raise ConfigurationError(
                f"STORAGES has no {alias!r} that can be used: {error}",
                hints=[f"it has {', '.join(sorted(storages.backends))}"],
            ) from None
        except Exception as error:
            # Its class and its library raise whatever they like about OPTIONS, or what they miss.
            raise ConfigurationError(
                f"STORAGES[{alias!r}] cannot be used: {type(error).__name__}: {error}",
                hints=["correct its OPTIONS, or install what it names"],
            ) from error

    def backups(self) -> list[Shared]:
        """Those that are complete, the oldest first; folders of anything else are passed over.

        Names have the local time of the machine that made the backup: manifests tell more.
        """
        found = []
        with self._explained("list", _AGAIN):
            for name in self._folders():
                place = place_of(Path(name))
                if place is None or not self._storage.exists(self._path(name, MANIFEST)):
                    continue
                try:
                    found.append(Shared(place, self._manifest(name)))
                except ValueError:
                    continue
        return sorted(found, key=lambda each: (created(each.place, each.manifest), each.place))

    def find(self, name: str | None, suits: Callable[[Manifest], bool]) -> Shared:
        """The latest backup that suits the alias, or one of that name: one that suits if there is.

        :raises ConfigurationError: naming those that there are.
        """
        known = self.backups()
        named = [
            shared
            for shared in reversed(known)
            if (
                name in (shared.place.name, shared.place.directory.name)
                if name
                else shared.place.name not in RESERVED
            )
        ]
        for shared in named:
            if suits(shared.manifest):
                return shared
        if named and not name:
            raise none_of_the_alias(f"the storage {self.alias!r}")
        if named:
            return named[0]
        names = ", ".join(shared.name for shared in known)
        raise ConfigurationError(
            f"There is no backup {name!r} in the storage {self.alias!r}."
            if name
            else f"There is no backup in the storage {self.alias!r}.",
            hints=[f"there are: {names}" if names else "dbdev_backup --to puts one there"],
        )

    def send(self, directory: Path, manifest: Manifest, progress: Progress) -> int:
        """Copy a backup there; how many bytes were sent: less than all when it was begun before.

        One that is there whole is compared with what it should be, and mended: who sends it
        again was told that it is damaged.

        :raises BackupError: when the storage refuses.
        """
        sent = done = 0
        data = data_of(directory, manifest)
        description = self._path(directory.name, MANIFEST)
        content = (directory / MANIFEST).read_bytes()
        with self._explained("send to"):
            again = self._has(description, len(content))
            for path, entry in manifest.files.items():
                for number, begin, size in _parts(entry):
                    name = self._path(directory.name, "files", f"{entry.checksum}.{number}")
                    if again or not self._has(name, size):
                        with (data / path).open("rb") as file:
                            file.seek(begin)
                            part = file.read(size)
                        if not (again and self._holds(name, part)):
                            self._save(name, part)
                            sent += size
                        step("send:part")
                    done += size
                    progress(done)
            step("send:files")
            if not (again and self._holds(description, content)):
                self._save(description, content)
        return sent

    def fetch(self, shared: Shared, root: Path, progress: Progress) -> tuple[Path, int]:
        """Copy a backup into ``root``; its folder, and how many bytes were fetched.

        :raises BackupError: when the bytes are not those of the manifest, or cannot be read.
        """
        directory = root / shared.place.directory.name
        if (directory / MANIFEST).exists():
            return directory, 0
        data = data_of(directory, shared.manifest)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in shared.manifest.folders:
            (data / folder).mkdir(mode=0o700, exist_ok=True)
        fetched = done = 0
        with self._explained("fetch from", _AGAIN):
            for path, entry in shared.manifest.files.items():
                fetched += self._fetch_file(shared, data / path, entry)
                done += entry.size
                progress(done)
        step("fetch:files")
        write_manifest(directory, shared.manifest)
        return directory, fetched

    def _fetch_file(self, shared: Shared, target: Path, entry: FileEntry) -> int:
        fetched = 0
        with open(target, "ab", opener=_private) as file:
            here = file.tell()
            if here != entry.size:
                # Whole parts stay; one that was broken off comes again.
                here = min(here, entry.size) // PART * PART
                file.truncate(here)
            if here < entry.size:
                for number, begin, size in _parts(entry):
                    if begin < here:
                        continue
                    name = self._path(
                        shared.place.directory.name, "files", f"{entry.checksum}.{number}"
                    )
                    with self._storage.open(name, "rb") as part:
                        file.write(part.read(size + 1))
                    fetched += size
                    step("fetch:part")
            file.flush()
            os.fsync(file.fileno())
        if target.stat().st_size != entry.size or checksum_of(target) != entry.checksum:
            target.unlink()
            raise BackupError(
                f"{shared.name} in the storage {self.alias!r} is damaged: {target.name} is not "
                "what its manifest says.",
                hints=["nothing was restored; send it again from where it was made"],
            )
        return fetched

    def _folders(self) -> list[str]:
        try:
            return list(self._storage.listdir(self._folder)[0])
        except FileNotFoundError:
            return []

    def _manifest(self, folder: str) -> Manifest:
        with self._storage.open(self._path(folder, MANIFEST), "rb") as file:
            return from_json(file.read().decode("utf-8"))

    def _path(self, *names: str) -> str:
        return "/".join((self._folder, *names))

    def _has(self, name: str, size: int) -> bool:
        """Whether it is there as a whole: a folder keeps the begin of what was broken off."""
        return bool(self._storage.exists(name)) and self._storage.size(name) == size

    def _holds(self, name: str, content: bytes) -> bool:
        if not self._has(name, len(content)):
            return False
        with self._storage.open(name, "rb") as file:
            return bool(file.read() == content)

    def _save(self, name: str, content: bytes) -> None:
        from django.core.files.base import File

        if self._storage.exists(name):
            self._storage.delete(name)
        given = self._storage.save(name, File(io.BytesIO(content), name))
        if given != name:
            self._storage.delete(given)
            raise BackupError(
                f"The storage {self.alias!r} would not save {name} under that name.",
                hints=["another machine may be sending the same backup"],
            )

    @contextmanager
    def _explained(self, attempt: str, *hints: str) -> Iterator[None]:
        """Storages raise whatever their libraries do."""
        try:
            yield
        except BackupError:
            raise
        except Exception as error:
            raise BackupError(
                f"Could not {attempt} the storage {self.alias!r}: {type(error).__name__}: {error}",
                hints=hints,
            ) from error


def _parts(entry: FileEntry) -> Iterator[tuple[int, int, int]]:
    """Number, begin and size of each part; an empty file has one, which is empty."""
    for number, begin in enumerate(range(0, entry.size, PART) if entry.size else [0]):
        yield number, begin, min(PART, entry.size - begin)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
