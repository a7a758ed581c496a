"""Physical copies of a folder, each of which costs what has changed.

A file is known when an earlier backup recorded it as it is now: the same inode, size and time
of modification, and a time at least two seconds older than that backup, so that no later write
can have left the same time. A known file is not copied: the new backup gets a hard link to the
earlier one's copy, and its checksum. One that would be known but for the two seconds is read
and compared instead, and so is one whose time tells nothing (:attr:`Tree.timeless`).

Where the file system shares blocks a copy is a clone, which costs the same at any size. Nothing
is read then: the entry has no checksum until somebody asks for it, and a file in doubt is cloned.

Servers write in place, so **no file of live data shares an inode with one of a backup**. That
decides what links to what:

- taking a snapshot: from the earlier backup's copy to the new backup, never from the live file;
- restoring, while nothing runs on the old data: the new data and the safety backup share out the
  old files. What the restored backup has with the same content goes to the new data, by a link,
  and the safety backup links the restored backup's copy of it. What differs goes to the safety
  backup, and the new data gets a copy of the restored backup's. When the old folder is removed
  each old file has one owner.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..records import parse_json, write_atomically
from . import copying
from .manifest import (
    CUSTOM,
    SNAPSHOT,
    DamagedBackupError,
    FileEntry,
    Manifest,
    try_manifest,
    write_manifest,
)
from .names import DATA, finished
from .transfer import UNCERTAIN_NS, Job, copy_all, hash_all

#: Beside the backups: which file of the live data came from which backup by the last restore.
RESTORED = "restored.json"
#: How many earlier snapshots are asked whether they know a file.
_ASKED = 2

#: Whether a path below the data belongs to a copy; the second argument tells that it is a folder.
Keep = Callable[[str, bool], bool]


@dataclass(frozen=True)
class Tree:
    """What is in a folder: paths relative to it, folders before what is in them.

    :param timeless: files that a server may write through memory, which need not change their
        time: whether they are as they were, only their content tells.
    """

    folders: tuple[str, ...] = ()
    files: Mapping[str, os.stat_result] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    timeless: frozenset[str] = frozenset()


def scan(root: Path, keep: Keep = lambda path, is_folder: True) -> Tree:
    """Look at a folder that may be in use: what vanishes meanwhile is left out."""
    folders: list[str] = []
    files: dict[str, os.stat_result] = {}
    links: dict[str, str] = {}

    def look(folder: str, prefix: str) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            path = prefix + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if not keep(path, is_folder):
                continue
            if is_folder:
                folders.append(path)
                look(entry.path, f"{path}/")
                continue
            try:
                if entry.is_symlink():
                    links[path] = os.readlink(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files[path] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue

    look(str(root), "")
    return Tree(tuple(folders), files, links)


@dataclass(frozen=True)
class Base:
    """A backup that may know live files.

    :param files: with inode and time of the live files.
    :param started_ns: when they were looked at, at the earliest.
    """

    data: Path
    files: Mapping[str, FileEntry]
    started_ns: int

    def entry(self, path: str, status: os.stat_result) -> FileEntry | None:
        """What is recorded of the file, if it still looks the same."""
        entry = self.files.get(path)
        if entry is None or (entry.inode, entry.size, entry.mtime_ns) != (
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
        ):
            return None
        return entry

    def is_certain(self, entry: FileEntry) -> bool:
        return entry.mtime_ns < self.started_ns - UNCERTAIN_NS


@dataclass(frozen=True)
class Known:
    """A live file whose content a backup has, in the file ``copy``."""

    entry: FileEntry
    copy: str


def bases(root: Path) -> list[Base]:
    """The backups in ``root`` to ask, the likeliest first."""
    found: list[Base] = []
    latest = [
        (place, manifest)
        for place in reversed(finished(root)[-_ASKED - 2 :])
        if (manifest := try_manifest(place.directory)) and manifest.kind == SNAPSHOT
    ][:_ASKED]
    for place, manifest in latest:
        found.append(Base(place.data, manifest.files, manifest.started_ns))
    restored = _read_restored(root)
    if restored is not None:
        newer = sum(base.started_ns > restored.started_ns for base in found)
        found.insert(newer, restored)
    return found


def find_known(tree: Tree, source: Path, asked: Sequence[Base]) -> dict[str, Known]:
    """Which files need not be copied; those in doubt are read to find out.

    A copy that is no longer as it was written is not linked to.
    """
    known: dict[str, Known] = {}
    doubtful: list[tuple[str, Known]] = []
    for path, status in tree.files.items():
        for base in asked:
            entry = base.entry(path, status)
            if entry is None:
                continue
            copy = f"{base.data}/{path}"
            if not _is_untouched(copy, entry):
                continue
            if base.is_certain(entry) and path not in tree.timeless:
                known[path] = Known(entry, copy)
            elif entry.checksum:
                doubtful.append((path, Known(entry, copy)))
            break
    try:
        checksums = hash_all([f"{source}/{path}" for path, _ in doubtful])
    except FileNotFoundError:
        # Something vanished under a running server; what is in doubt is copied.
        return known
    for (path, each), checksum in zip(doubtful, checksums, strict=True):
        if checksum == each.entry.checksum:
            known[path] = each
    return known


def take(
    source: Path,
    target: Path,
    tree: Tree,
    asked: Sequence[Base],
    *,
    may_vanish: bool = False,
) -> dict[str, FileEntry]:
    """Copy ``tree`` to the folder ``target``, which must not exist.

    :param may_vanish: the data is in use.
    :returns: What was copied, by path.
    """
    make_folders(target, tree.folders, tree.links)
    known = find_known(tree, source, asked)
    copy = partial(copy_files, source, target, tree, step="backup:copying", may_vanish=may_vanish)
    with ThreadPoolExecutor(1) as aside:
        copying = aside.submit(copy, [path for path in tree.files if path not in known])
        entries = {
            path: each.entry
            for path, each in known.items()
            if _link_copy(each.copy, f"{target}/{path}")
        }
        unlinked = [path for path in known if path not in entries]
        entries |= copying.result()
    entries |= copy(unlinked)
    return {path: entries[path] for path in tree.files if path in entries}


def copy_files(
    source: Path,
    target: Path,
    tree: Tree,
    paths: Iterable[str],
    step: str = "",
    may_vanish: bool = False,
) -> dict[str, FileEntry]:
    """Copy some files of a tree to where their folders are already."""
    chosen = list(paths)
    copied = copy_all(
        [Job(f"{source}/{path}", f"{target}/{path}", tree.files[path].st_size) for path in chosen],
        step=step,
        may_vanish=may_vanish,
    )
    pairs = zip(chosen, copied, strict=True)
    return {path: entry for path, entry in pairs if entry is not None}


@dataclass(frozen=True)
class Rebuilt:
    """What :func:`rebuild` made.

    :param safety: the files of the safety backup.
    :param files: those of the new data that the restored backup has, as they look now.
    :param copied: bytes that were copied; the rest was there.
    """

    safety: Mapping[str, FileEntry]
    files: Mapping[str, FileEntry]
    copied: int


def rebuild(
    data: Path,
    manifest: Manifest,
    new: Path,
    *,
    live: Path,
    tree: Tree,
    safety: Path | None,
    asked: Sequence[Base],
) -> Rebuilt:
    """Build the data of a backup at ``new``, and at ``safety`` a copy of the live data.

    Nothing may run on ``live``, which is left as it is, and shares files with both: it must be
    removed, or both of them, before anything runs again. See the module's docstring.

    :param tree: what there is in ``live``; empty where there is none, and then no ``safety``.
    :raises DamagedBackupError: when what is copied is not what the manifest says.
    """
    contents = _contents(tree, live, asked, manifest)
    make_folders(new, manifest.folders, manifest.links)

    same = {
        path
        for path, entry in manifest.files.items()
        if path in contents and _same(contents[path].entry, entry)
    }
    with ThreadPoolExecutor(1) as aside:
        different = [path for path in manifest.files if path not in same]
        copying = aside.submit(_copy_back, data, manifest, new, different)
        shared = {path for path in same if _link_copy(f"{live}/{path}", f"{new}/{path}")}
        kept = _keep_old(data, manifest, live, tree, safety, contents, shared) if safety else {}
        copying.result()
    # What cannot be linked there is copied like the others.
    unlinked = [path for path in same if path not in shared]
    _copy_back(data, manifest, new, unlinked)

    return Rebuilt(
        kept,
        {path: _looks(f"{new}/{path}", entry) for path, entry in manifest.files.items()},
        sum(manifest.files[path].size for path in (*different, *unlinked)),
    )


def _keep_old(
    data: Path,
    manifest: Manifest,
    live: Path,
    tree: Tree,
    safety: Path,
    contents: Mapping[str, Known],
    shared: set[str],
) -> dict[str, FileEntry]:
    """Build the safety backup: ``shared`` is what the new data has got of the live files."""
    make_folders(safety, tree.folders, tree.links)
    entries: dict[str, FileEntry] = {}
    to_copy: list[str] = []
    for path, content in contents.items():
        target = f"{safety}/{path}"
        if path in shared:
            if _link_copy(f"{data}/{path}", target):
                entries[path] = manifest.files[path]
                continue
        elif (content.copy and _link_copy(content.copy, target)) or _link_copy(
            f"{live}/{path}", target
        ):
            entries[path] = content.entry
            continue
        to_copy.append(path)
    entries.update(copy_files(live, safety, tree, to_copy))
    return {path: entries[path] for path in contents}


def _contents(
    tree: Tree, live: Path, asked: Sequence[Base], manifest: Manifest
) -> dict[str, Known]:
    """What every live file holds. ``copy`` is empty where no backup has it."""
    known = find_known(tree, live, asked)
    unknown = {
        path: FileEntry(status.st_size, "", status.st_ino, status.st_mtime_ns)
        for path, status in tree.files.items()
        if path not in known
    }
    # Where the backup has no checksum either, there is nothing to compare.
    cloned = {path for path, entry in manifest.files.items() if not entry.checksum}
    read = add_checksums(live, {path: e for path, e in unknown.items() if path not in cloned})
    known |= {path: Known(entry, "") for path, entry in {**unknown, **read}.items()}
    return {path: known[path] for path in tree.files}


def copy_whole(data: Path, manifest: Manifest, new: Path) -> None:
    """Build the data of a backup at ``new`` by copying all of it.

    :raises DamagedBackupError: when what is copied is not what the manifest says.
    """
    make_folders(new, manifest.folders, manifest.links)
    _copy_back(data, manifest, new, list(manifest.files))


def _copy_back(data: Path, manifest: Manifest, new: Path, paths: Sequence[str]) -> None:
    """Copy files of a backup. What is copied is compared with its checksum, a clone is not."""
    copied = copy_all(
        [Job(f"{data}/{path}", f"{new}/{path}", manifest.files[path].size) for path in paths],
        step="restore:copying",
        flushed_next=True,
    )
    for path, entry in zip(paths, copied, strict=True):
        wanted = manifest.files[path]
        if entry is None or entry.size != wanted.size or _differ(entry, wanted):
            raise DamagedBackupError(f"{data / path} is damaged: its content has changed.")


def verify(directory: Path, manifest: Manifest, *, thoroughly: bool = True) -> int:
    """Make sure that a backup is what its manifest says.

    :param thoroughly: read every file; else those whose time has changed.
    :returns: How many files had no checksum, and now have one in the manifest.
    :raises DamagedBackupError: naming what is not.
    """
    data = data_of(directory, manifest)
    problems: list[str] = []
    to_read: list[str] = []
    for path, entry in manifest.files.items():
        try:
            status = os.lstat(f"{data}/{path}")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{path} is no regular file")
        elif status.st_size != entry.size:
            problems.append(f"{path} has {status.st_size} bytes, not {entry.size}")
        elif status.st_mtime_ns != entry.mtime_ns and not entry.checksum:
            problems.append(f"{path} has another time (cp -a keeps it), and has no checksum")
        elif thoroughly or status.st_mtime_ns != entry.mtime_ns:
            to_read.append(path)
    checksums = dict(zip(to_read, hash_all([f"{data}/{path}" for path in to_read]), strict=True))
    new = {path for path in to_read if not manifest.files[path].checksum}
    for path, checksum in checksums.items():
        if path not in new and checksum != manifest.files[path].checksum:
            problems.append(f"{path}: its content has changed")
    for path in manifest.folders:
        if not (data / path).is_dir():
            problems.append(f"{path}: the folder is missing")
    if problems:
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        listing = "".join(f"\n  {problem}" for problem in problems[:5])
        raise DamagedBackupError(
            f"The backup {directory} is damaged; nothing was changed.{listing}{more}",
            hints=["restore another one: dbdev_listbackups"],
        )
    if new:
        files = {
            path: replace(entry, checksum=checksums[path]) if path in new else entry
            for path, entry in manifest.files.items()
        }
        write_manifest(directory, replace(manifest, files=files))
    return len(new)


def data_of(directory: Path, manifest: Manifest) -> Path:
    """Where a backup's files are: a custom backend writes beside the manifest."""
    return directory if manifest.kind == CUSTOM else directory / DATA


def describe_files(folder: Path) -> tuple[Tree, dict[str, FileEntry]]:
    """What is in a folder that a program wrote, for its manifest."""
    tree = scan(folder)
    return tree, describe_tree(folder, tree)


def describe_tree(folder: Path, tree: Tree) -> dict[str, FileEntry]:
    """The files of a tree in ``folder``, for its manifest."""
    return add_checksums(
        folder,
        {
            path: FileEntry(status.st_size, "", 0, status.st_mtime_ns)
            for path, status in tree.files.items()
        },
    )


def add_checksums(folder: Path, files: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """The same files with the checksums that are missing, of what is in ``folder``."""
    missing = [path for path, entry in files.items() if not entry.checksum]
    checksums = hash_all([f"{folder}/{path}" for path in missing])
    found = {
        path: replace(files[path], checksum=checksum)
        for path, checksum in zip(missing, checksums, strict=True)
    }
    return {**files, **found}


def own_size(directory: Path) -> int:
    """Bytes on disk that a backup alone holds: what removing it gives back.

    Files that another backup links to do not count; blocks that clones share do.
    """
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                # Another command is just removing it.
                continue
            if status.st_nlink == 1:
                total += status.st_blocks * 512
    return total


# What the last restore left.


def record_restored(root: Path, data: Path, rebuilt: Rebuilt, started_ns: int) -> None:
    """Remember which live files are those of a backup, for the next snapshot."""
    files = {path: [e.size, e.checksum, e.inode, e.mtime_ns] for path, e in rebuilt.files.items()}
    content = {"data": os.path.relpath(data, root), "started_ns": started_ns, "files": files}
    write_atomically(root / RESTORED, json.dumps(content))


def _read_restored(root: Path) -> Base | None:
    try:
        content = parse_json((root / RESTORED).read_text("utf-8"))
        files = {path: FileEntry(*entry) for path, entry in content["files"].items()}
        return Base(root / content["data"], files, content["started_ns"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


# Small things.


def make_folders(target: Path, folders: Iterable[str], links: Mapping[str, str]) -> None:
    os.mkdir(target, 0o700)
    for path in folders:
        os.mkdir(f"{target}/{path}", 0o700)
    for path, leads_to in links.items():
        os.symlink(leads_to, f"{target}/{path}")


def _same(one: FileEntry, other: FileEntry) -> bool:
    """Whether both are known to hold the same."""
    return one.checksum != "" and (one.size, one.checksum) == (other.size, other.checksum)


def _differ(one: FileEntry, other: FileEntry) -> bool:
    """Whether both are known to hold something else."""
    return "" not in (one.checksum, other.checksum) and one.checksum != other.checksum


def _is_untouched(copy: str, entry: FileEntry) -> bool:
    try:
        status = os.lstat(copy)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (entry.size, entry.mtime_ns)


def _link_copy(copy: str, target: str) -> bool:
    """A hard link; False where it cannot be had, also because the copy is gone."""
    try:
        return copying.link(copy, target)
    except FileNotFoundError:
        return False


def _looks(path: str, entry: FileEntry) -> FileEntry:
    status = os.lstat(path)
    return FileEntry(entry.size, entry.checksum, status.st_ino, status.st_mtime_ns)
