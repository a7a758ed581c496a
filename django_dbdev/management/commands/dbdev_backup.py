from __future__ import annotations

import shlex
import time
from argparse import ArgumentParser
from pathlib import Path

from ...backends.base import BaseDbdevBackend, make_tempdata
from ...backups.contract import create
from ...backups.manifest import PORTABLE, Manifest, read_manifest
from ...backups.names import check_new_name, finished
from ...backups.sharing import Storage
from ...backups.snapshot import own_size, verify
from ...exceptions import BackupError, ConfigurationError
from ...reporting import seconds, size
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Copy the database server's data; it goes on running, and costs what has changed."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "-n",
            "--name",
            dest="backupname",
            metavar="NAME",
            help='Name the backup. It can be restored with "dbdev_restore -n NAME".',
        )
        parser.add_argument(
            "--portable",
            action="store_true",
            help="Dump the alias's database alone, for newer major versions and other machines.",
        )
        parser.add_argument(
            "--checksums",
            action="store_true",
            help="Where the file system clones files, read them all for checksums, so that "
            '"dbdev_restore --verify" can tell whether they were damaged since.',
        )
        parser.add_argument(
            "--to",
            metavar="STORAGE",
            help="Make a portable backup and copy it to this one of STORAGES. With the name of a "
            "portable backup that is there already, or that of its folder, it copies that one, and "
            "goes on where a copy was broken off.",
        )

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        name, to = self.options["backupname"], self.options["to"]
        self._refuse_what_is_unknown(backend)
        if to is None:
            self._create(backend, name)
            return
        # Before anything is made, a storage that cannot be used.
        storage = Storage(to, backend.server_name)
        made = self._made_before(backend, name)
        if made is None:
            self.options["portable"] = not backend.backups_are_portable
            made = self._create(backend, name)
        self._send(storage, *made)

    def _refuse_what_is_unknown(self, backend: BaseDbdevBackend) -> None:
        """A backend that has only the contract's ``backup`` reads no options."""
        if backend.restores_beside:
            return
        kind = type(backend).__name__
        if self.options["portable"]:
            raise ConfigurationError(f"{kind} does not know --portable.")
        if self.options["to"] is not None and not backend.backups_are_portable:
            raise ConfigurationError(
                f"{kind} does not say that another machine can restore its backups.",
                hints=["if it can, let the class have backups_are_portable = True"],
            )

    def _create(self, backend: BaseDbdevBackend, name: str | None) -> tuple[Path, Manifest]:
        started = time.perf_counter()
        if name is not None:
            check_new_name(Path(backend.root_backupdir), name)
        make_tempdata(backend.tempdata)
        directory, manifest = create(backend, name)
        named = f" ({name})" if name else ""
        self.reporter.fact(
            f"Created {directory}{named}: {size(manifest.size)}, of which it alone takes "
            f"{size(own_size(directory))}, in {seconds(time.perf_counter() - started)}"
        )
        return directory, manifest

    def _made_before(
        self, backend: BaseDbdevBackend, name: str | None
    ) -> tuple[Path, Manifest] | None:
        """The portable backup of that name, to be sent as it is."""
        for place in finished(Path(backend.root_backupdir)):
            if name is not None and name in (place.name, place.directory.name):
                manifest = read_manifest(place.directory)
                if manifest.kind != PORTABLE and not backend.backups_are_portable:
                    continue
                if manifest.kind == PORTABLE and manifest.alias != self.alias:
                    raise ConfigurationError(
                        f"{name} holds the data of the alias {manifest.alias!r}.",
                        hints=["use another name", f"or send that: --database {manifest.alias}"],
                    )
                # It may have been made long ago.
                verify(place.directory, manifest)
                return place.directory, manifest
        return None

    def _send(self, storage: Storage, directory: Path, manifest: Manifest) -> None:
        started = time.perf_counter()
        try:
            with self.reporter.progress(f"Sending {directory.name}", manifest.size) as progress:
                sent = storage.send(directory, manifest, progress)
        except BackupError as error:
            # Without a name another one would be made.
            words = ["dbdev_backup", "-n", manifest.name or directory.name, "--to", storage.alias]
            if self.alias != "default":
                words += ["--database", self.alias]
            error.hints = (*error.hints, f"go on where it ended: {shlex.join(words)}")
            raise
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(f"Sent {directory.name} to {storage.alias}: {size(sent)} in {took}")
