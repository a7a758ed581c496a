from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path

from ...backups.contract import working_alone
from ...backups.listing import listed, parse_age, to_clear
from ...backups.names import find_named, places, refuse_dangling
from ...backups.replace import discard, flush_recent
from ...backups.snapshot import own_size
from ...exceptions import ConfigurationError
from ...reporting import size
from ._base import BaseDbdevCommand, add_noinput


class Command(BaseDbdevCommand):
    help = (
        "Remove backups of the database: all, or those that the options choose together. "
        "Unfinished ones go as well, unless a name is given."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--keep",
            type=int,
            metavar="N",
            help="Keep the latest N, and what restores, loads and upgrades have kept since.",
        )
        parser.add_argument(
            "--older-than", metavar="AGE", help="Only older ones, such as 7d, 12h or 2w."
        )
        parser.add_argument(
            "-n", "--name", dest="backupname", metavar="NAME", help="Only the one called NAME."
        )
        add_noinput(parser)

    def dbdev_handle(self) -> None:
        keep, name = self.options["keep"], self.options["backupname"]
        if keep is not None and keep < 0:
            raise ConfigurationError(f"--keep {keep} is less than nothing.")
        older_than = self.options["older_than"]
        age = parse_age(older_than) if older_than is not None else None
        backend = self.dbdev_backend
        root = Path(backend.root_backupdir)
        refuse_dangling(root)
        if name is not None:
            find_named(root, name)
        if root.is_dir():
            with working_alone(backend):
                if backend.restores_beside:
                    # What is unfinished may be the old data of what was killed.
                    backend.mend()
                now = datetime.now().astimezone()
                chosen = to_clear(listed(root), now, keep=keep, older_than=age, name=name)
                gone = [each.place.directory for each in chosen]
                unfinished = [p.directory for p in places(root) if not p.is_finished]
                self._remove(gone, [] if name is not None else unfinished, root)
        else:
            self._remove([], [], root)

    def _remove(self, gone: list[Path], unfinished: list[Path], root: Path) -> None:
        if not gone and not unfinished:
            self.reporter.fact(f"There is nothing to remove in {root}")
            return
        noun = "backup" if len(gone) == 1 else "backups"
        if gone:
            listing = "".join(f"\n  {directory.name}" for directory in gone)
            self.confirm(f"This removes {len(gone)} {noun} from {root}:{listing}")
        flush_recent(root)
        freed = 0
        for directory in (*gone, *unfinished):
            # One by one: with each that goes, more of the others belongs to them alone.
            freed += own_size(directory)
            discard(directory)
        also = f" and {len(unfinished)} unfinished" if unfinished else ""
        self.reporter.fact(f"Removed {len(gone)} {noun}{also}: {size(freed)} freed")
