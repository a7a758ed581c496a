from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path

from ...backends.base import make_tempdata
from ...backups import contract
from ...backups.manifest import PORTABLE, Manifest, try_manifest
from ...backups.names import find_latest, find_named, refuse_dangling
from ...backups.sharing import Storage
from ...exceptions import ConfigurationError
from ...reporting import seconds, size
from ._base import BaseDbdevCommand, add_noinput


class Command(BaseDbdevCommand):
    help = (
        "Put a backup in the place of the database. What it replaces is kept as a backup called "
        "before-restore, of which the last three stay."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "directory",
            nargs="?",
            metavar="backup-directory",
            help="The backup. Default: the latest that dbdev_backup made of the alias's data.",
        )
        parser.add_argument(
            "-n",
            "--name",
            dest="backupname",
            metavar="NAME",
            help="The backup's name, as given to dbdev_backup -n.",
        )
        parser.add_argument(
            "--from",
            dest="storage",
            metavar="STORAGE",
            help="Fetch the backup from this one of STORAGES first: that of -n, or the latest.",
        )
        parser.add_argument(
            "--verify",
            action="store_true",
            help="Read the whole backup first, and compare it with its checksums.",
        )
        parser.add_argument(
            "--no-safety",
            action="store_false",
            dest="safety",
            help="Do not keep what is replaced.",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            dest="all_aliases",
            help="Do not ask where several aliases share the server, and so are all replaced.",
        )
        add_noinput(parser)

    def dbdev_handle(self) -> None:
        directory = self._directory()
        backend = self.dbdev_backend
        self._agree_on_aliases(directory)
        if backend.restores_beside:
            backend.restore(str(directory))
        else:
            contract.restore(backend, directory, keep_safety=self.options["safety"])

    def _directory(self) -> Path:
        root = Path(self.dbdev_backend.root_backupdir)
        # What is replaced is kept there.
        refuse_dangling(root)
        given, name = self.options["directory"], self.options["backupname"]
        if "" in (given, name):
            raise ConfigurationError(
                "An empty name is that of no backup.",
                hints=["a variable of the shell may be unset; without any, the latest is restored"],
            )
        if given and name:
            raise ConfigurationError("Give a directory or -n, not both.")
        if self.options["storage"] is not None:
            if given:
                raise ConfigurationError("Give a directory or --from, not both.")
            return self._fetched(root, name)
        if given:
            directory = Path(given).absolute()
        elif name:
            directory = find_named(root, name).directory
        else:
            return find_latest(root, lambda made: self._suits(try_manifest(made))).directory
        self._agree_on_owner(directory.name, try_manifest(directory))
        return directory

    def _fetched(self, root: Path, name: str | None) -> Path:
        started = time.perf_counter()
        backend = self.dbdev_backend
        storage = Storage(self.options["storage"], backend.server_name)
        shared = storage.find(name, self._suits)
        self._agree_on_owner(shared.name, shared.manifest)
        make_tempdata(backend.tempdata)
        root.mkdir(mode=0o700, exist_ok=True)
        progress = self.reporter.progress(f"Fetching {shared.name}", shared.manifest.size)
        with contract.working_alone(backend), progress as tell:
            directory, fetched = storage.fetch(shared, root, tell)
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(f"Fetched {directory.name}: {size(fetched)} in {took}")
        return directory

    def _suits(self, manifest: Manifest | None) -> bool:
        """Whether the backup holds this alias's data; one that cannot be read is told of later."""
        return (
            manifest is None or manifest.alias == self.alias or not self._holds_one_alias(manifest)
        )

    def _holds_one_alias(self, manifest: Manifest) -> bool:
        return manifest.kind == PORTABLE or not self.dbdev_backend.shares_server

    def _agree_on_owner(self, name: str, manifest: Manifest | None) -> None:
        if manifest is not None and not self._suits(manifest):
            self.confirm(
                f"{name} holds the data of the alias {manifest.alias!r}. This puts it in the place "
                f"of that of {self.alias!r}."
            )

    def _agree_on_aliases(self, directory: Path) -> None:
        manifest = try_manifest(directory)
        alone = not self.dbdev_backend.shares_server or (
            manifest is not None and self._holds_one_alias(manifest)
        )
        if len(self.server_aliases) > 1 and not alone and not self.options["all_aliases"]:
            self.confirm(
                f"This replaces the data of all aliases that share {self.server_name}: "
                f"{', '.join(self.server_aliases)}. (--all does not ask.)"
            )
