"""Putting new data in the place of old, so that a kill at any moment leaves one of them whole.

The new data is built as ``.<name>.<time>.new`` beside the live folder ``<name>``, and the safety
backup of the old with it; its manifest waits under another name. Then, nothing running on it:

1. the live folder is renamed to ``.<name>.<time>.old``;
2. the new folder is renamed to ``<name>``;
3. the safety backup gets its manifest;
4. the old folder is removed.

The new data and the safety backup share files with the old (see :mod:`.snapshot`), so whoever
comes after a kill must decide for one side before anything runs. :func:`mend` does that, under
the server's lock, at the beginning of every command that takes it:

- killed before 1: the live folder is the old data. The rest is thrown away;
- killed between 1 and 2: no whole live folder, and an old one: the old one is put back;
- killed after 2: a whole live folder, and an old one: what was begun is finished, 3 and 4.

An upgrade (:meth:`Replacement.exchange`) shares no files with the old data, which becomes a backup
by its own rename: where that backup has data and no manifest, :func:`mend` finishes it when there
is a whole live folder, and puts the data back when there is none. Where the backups are on another
disk it is copied there first, and set aside as in a restore.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import copying
from .faults import step
from .names import DATA, MANIFEST, SAFETY, UPGRADED, finished, places

#: How many safety backups stay.
KEPT_SAFETIES = 3
#: Seconds after which the kernel has written everything, twice over. Source: the defaults of
#: vm.dirty_expire_centisecs and vm.dirty_writeback_centisecs.
_WRITTEN_AFTER = 70.0
#: The manifest of a safety backup that still shares files with the live data.
PENDING = f"{MANIFEST}.pending"


@dataclass(frozen=True)
class Replacement:
    """The three names of one replacement.

    :param time: a timestamp, as in the names of backups.
    """

    live: Path
    time: str

    @property
    def new(self) -> Path:
        return self.live.with_name(f".{self.live.name}.{self.time}.new")

    @property
    def old(self) -> Path:
        return self.live.with_name(f".{self.live.name}.{self.time}.old")

    def swap(self, safety: Path | None) -> None:
        """Give the new data the live name, when it is on disk; the old goes.

        Whatever is raised from here, :func:`mend` must be called.

        :param safety: a backup of the old data that waits for its manifest.
        """
        copying.flush(self.new.parent)
        if safety is not None and safety.stat().st_dev != self.new.stat().st_dev:
            # The backups' folder leads to another disk.
            copying.flush(safety)
        step("restore:flushed")
        if self.live.exists():
            self.live.rename(self.old)
        step("restore:set-aside")
        self.new.rename(self.live)
        step("restore:swapped")
        if safety is not None:
            (safety / PENDING).rename(safety / MANIFEST)
        step("restore:kept")
        discard(self.old)

    def exchange(self, kept: Path) -> None:
        """Give the new data the live name; the old becomes the data of the backup ``kept``.

        Whatever is raised from here, :func:`mend` must be called.

        :param kept: a backup without data that waits for its manifest.
        """
        copying.flush(self.new.parent)
        step("upgrade:flushed")
        try:
            self.live.rename(kept / DATA)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._carry_away(kept)
        step("upgrade:set-aside")
        self.new.rename(self.live)
        step("upgrade:swapped")
        (kept / PENDING).rename(kept / MANIFEST)
        step("upgrade:kept")
        discard(self.old)

    def _carry_away(self, kept: Path) -> None:
        """Copy the old data to a backup on another disk, and set it aside."""
        copied = kept / f"{DATA}.new"
        # With the files' times, which the manifest has.
        shutil.copytree(self.live, copied, symlinks=True)
        copying.flush(kept)
        step("upgrade:copied-away")
        self.live.rename(self.old)
        step("upgrade:moved-away")
        copied.rename(kept / DATA)


def flush_recent(root: Path) -> None:
    """Have the latest backups in ``root`` on disk, before what they were made of is removed.

    Taking one does not wait for that: until then a power cut costs a copy of what is there.
    """
    now = time.time()
    if any(now - place.manifest.stat().st_mtime < _WRITTEN_AFTER for place in finished(root)):
        copying.flush(root)


def is_broken(live: Path) -> bool:
    """Whether a replacement was killed in the middle of its renames."""
    return next(_leftovers(live, "old"), None) is not None or any(
        (kept / DATA).exists() for kept in _unfinished(live.with_name(f"{live.name}-backups"))
    )


def _unfinished(root: Path) -> list[Path]:
    """What upgrades that were killed have begun to keep."""
    return [p.directory for p in places(root) if p.name == UPGRADED and not p.is_finished]


def _mend_upgrade(live: Path, root: Path, is_whole: Callable[[], bool]) -> str:
    from ..process.leftovers import end_servers_in

    done = ""
    for kept in _unfinished(root):
        # Servers that the upgrade had for itself.
        for folder in (live, *_leftovers(live, "new")):
            if folder.exists():
                end_servers_in(folder)
        # Set aside where the backups are on another disk.
        aside = list(_leftovers(live, "old"))
        old = aside[0] if aside else kept / DATA
        if (kept / DATA).exists() and is_whole():
            (kept / PENDING).rename(kept / MANIFEST)
            done = "An upgrade that was interrupted is finished"
            for each in aside:
                discard(each)
            continue
        if not old.exists():
            done = f"An upgrade was interrupted: the old data is in {live}, as it was"
        else:
            if live.exists():
                live.rename(live.with_name(f"{live.name}.{kept.name}.unfinished"))
            old.rename(live)
            done = f"An upgrade was interrupted: the old data is back in {live}"
        discard(kept)
    return done


def mend(live: Path, root: Path, is_whole: Callable[[], bool]) -> str:
    """Bring a killed replacement to its end, or back. The server's lock must be held.

    :param root: where the backups are.
    :param is_whole: whether the live folder holds whole data.
    :returns: What was done, in words; empty where there was nothing to do.
    """
    done = _mend_upgrade(live, root, is_whole)
    unfinished = [p.directory for p in places(root) if p.name == SAFETY and not p.is_finished]
    for old in _leftovers(live, "old"):
        if is_whole():
            for safety in unfinished:
                if (safety / PENDING).exists():
                    (safety / PENDING).rename(safety / MANIFEST)
            done = "A restore that was interrupted is finished"
        else:
            if live.exists():
                live.rename(live.with_name(f"{live.name}.{old.name.split('.')[-2]}.unfinished"))
            old.rename(live)
            done = f"A restore was interrupted: the old data is back in {live}"
        discard(old)
    for safety in unfinished:
        if not (safety / MANIFEST).exists():
            discard(safety)
    for new in _leftovers(live, "new"):
        discard(new)
    for doomed in root.glob(".backup-*.removed"):
        _remove(doomed)
    return done


def prune(root: Path, needed: Path) -> None:
    """Remove all but the latest safety backups; ``needed`` stays as well."""
    safeties = [place.directory for place in finished(root) if place.name == SAFETY]
    for directory in safeties[:-KEPT_SAFETIES]:
        if directory.resolve() != needed.resolve():
            discard(directory)


def discard(path: Path) -> None:
    """Remove a file or folder, renamed first: half a folder never bears a whole one's name."""
    if not os.path.lexists(path):
        return
    doomed = path.with_name(f".{path.name.lstrip('.')}.removed")
    if os.path.lexists(doomed):
        _remove(doomed)
    path.rename(doomed)
    _remove(doomed)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _leftovers(live: Path, end: str) -> Iterator[Path]:
    """``.<name>.<time>.<end>``: a time has no dot, so names that begin alike are not mixed up."""
    prefix, suffix = f".{live.name}.", f".{end}"
    try:
        entries = sorted(live.parent.iterdir())
    except FileNotFoundError:
        return
    for entry in entries:
        name = entry.name
        if name.startswith(prefix) and name.endswith(suffix):
            time = name[len(prefix) : -len(suffix)]
            if time and "." not in time:
                yield entry
