"""The store: what was fetched or built once, for all projects of a user.

::

    trees/<sha256 of the file>/           unpacked programs, complete
    trees/<sha256 of the file>.json       what they are: package, version, file name, size
    debs/<sha256>.deb                     packages of Debian, which forgets old ones
    apt/<suite>/                          apt's own state for a suite
    clusters/<key>/                       pristine clusters, built by a backend
    proofs/<sha256>.<host>                programs that were seen to run on this kind of host
    projects/<key>.json                   who uses it: a project's root and its prefix
    locks/ tmp/

Every folder is built under a temporary name and renamed when it is complete, so that whatever
bears its final name is whole. A project's prefix holds links that lead here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import conf
from ..exceptions import ToolchainError
from ..process.locking import exclusive
from ..records import is_alive, parse_json, temporary_name, write_atomically
from ..reporting import SILENT, Reporter

#: How long one process waits for another that builds the same, in seconds. A download over a
#: slow line takes minutes.
PATIENCE = 900.0
#: How old temporary files of a process that is gone are when they are removed, in seconds.
_LEFTOVER_AGE = 86400

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LEFTOVER = re.compile(r"\.(?P<key>.+)\.(?P<pid>\d+)\.new")


@dataclass(frozen=True)
class Store:
    """The folder ``root``; it is made, for its owner alone, when something is put in it.

    :param reporter: told when another process is waited for.
    :raises ConfigurationError: when somebody else may have planted the folder.
    """

    root: Path
    reporter: Reporter = field(default=SILENT, compare=False)

    def __post_init__(self) -> None:
        conf.refuse_planted(self.root)

    def folder(self, kind: str, key: str) -> Path:
        """Where ``ensure`` puts it, whether it is there or not."""
        if not _KEY.fullmatch(key) or not _KEY.fullmatch(kind):
            raise ValueError(f"{kind}/{key} cannot be a name in the store")
        return self.root / kind / key

    def ensure(
        self,
        kind: str,
        key: str,
        build: Callable[[Path], None],
        *,
        patience: float = PATIENCE,
    ) -> Path:
        """The folder of that kind and key; built when it is not there yet.

        ``build`` gets a path that does not exist, and makes a folder of it. Of several
        processes one builds, and the others wait for it. What a failed build left is removed.

        :raises BusyError: when another process holds the key for longer than ``patience``.
        """
        folder = self.folder(kind, key)
        if folder.is_dir():
            # When it was used last: what has long been idle is pruned.
            with contextlib.suppress(OSError):
                os.utime(folder)
            return folder
        self._make(folder.parent)
        with self.hold(kind, key, patience):
            if folder.is_dir():
                return folder
            self._sweep(kind, key)
            temporary = folder.with_name(f".{key}.{os.getpid()}.new")
            try:
                build(temporary)
                _flush(temporary)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def remove(
        self, kind: str, key: str, *, unless: Callable[[Path], bool] = lambda folder: False
    ) -> bool:
        """Remove a folder, renamed first: half a folder never bears the name of a whole one.

        :param unless: asked when nobody else is at work on it: whether it stays all the same.
        :returns: Whether it was removed.
        """
        folder = self.folder(kind, key)
        with self.hold(kind, key):
            if not folder.is_dir() or unless(folder):
                return False
            doomed = folder.with_name(f".{key}.{os.getpid()}.new")
            folder.rename(doomed)
            folder.with_suffix(".json").unlink(missing_ok=True)
            for proof in (self.root / "proofs").glob(f"{key}.*"):
                proof.unlink(missing_ok=True)
            shutil.rmtree(doomed, ignore_errors=True)
        return True

    def make(self, kind: str) -> Path:
        """A folder of the store, for what has no folder of its own."""
        self._make(self.root / kind)
        return self.root / kind

    def _make(self, folder: Path) -> None:
        try:
            # mkdir gives its mode to the last folder alone, so the root is made by itself.
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for path in (self.root, folder):
                path.mkdir(exist_ok=True, mode=0o700)
            conf.refuse_planted(self.root)
        except OSError as error:
            raise ToolchainError(
                f"The store {self.root} cannot be used: {error.strerror}.",
                hints=["set DBDEV_STORE to a folder that you can write to"],
            ) from None

    @contextmanager
    def hold(self, kind: str, key: str, patience: float = PATIENCE) -> Iterator[None]:
        """Hold the key's lock. Who waits for it is told for whom.

        :raises BusyError: when another process holds it for longer than ``patience``.
        """
        self._make(self.root / "locks")
        with exclusive(self._lock_file(kind, key), reporter=self.reporter, timeout=patience):
            yield

    def _lock_file(self, kind: str, key: str) -> Path:
        return self.root / "locks" / f"{kind}-{key}.lock".replace("/", "-")

    def _sweep(self, kind: str, key: str) -> None:
        """Remove what crashed builds left. Those of ``key`` are nobody's: its lock is ours."""
        import filelock

        for leftover in (self.root / kind).glob(".*.new"):
            found = _LEFTOVER.fullmatch(leftover.name)
            if found is None:
                continue
            if found["key"] == key:
                shutil.rmtree(leftover, ignore_errors=True)
            elif not is_alive(int(found["pid"])):
                # A live process in another container has a number that means nothing here.
                other = filelock.FileLock(self._lock_file(kind, found["key"]), timeout=0)
                with contextlib.suppress(filelock.Timeout), other:
                    shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder on the store's own file system."""
        import tempfile

        self._make(self.root / "tmp")
        for leftover in (self.root / "tmp").glob("*.new"):
            with contextlib.suppress(OSError, ValueError):
                # A process in another container is not seen here: its folder is younger.
                old = time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE
                if old and not is_alive(int(leftover.name.split("-")[0])):
                    shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{os.getpid()}-", suffix=".new", dir=self.root / "tmp"
        ) as folder:
            yield Path(folder)

    def record(self, sha256: str, content: Mapping[str, Any]) -> None:
        """Note beside a tree what it is."""
        text = json.dumps(dict(content), indent=2) + "\n"
        write_atomically(self.folder("trees", sha256).with_suffix(".json"), text)

    def records(self) -> dict[str, dict[str, Any]]:
        """What the complete trees are, by their sha256. What cannot be read is left out."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted((self.root / "trees").glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                content = parse_json(path.read_text("utf-8"))
                if isinstance(content, dict) and path.with_suffix("").is_dir():
                    found[path.stem] = content
        return found

    def note_user(self, root: Path, prefix: Path) -> None:
        """Note that a project uses the store, so that its programs are not pruned.

        :param root: the project's, for people.
        :param prefix: its folder of links to programs.
        """
        real = os.path.realpath(prefix)
        key = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
        file = self.root / "projects" / f"{key}.json"
        if file.exists():
            return
        # Some other account's store may be read and not written.
        with contextlib.suppress(OSError):
            file.parent.mkdir(exist_ok=True, mode=0o700)
            write_atomically(file, json.dumps({"root": str(root), "prefix": real}) + "\n")

    def users(self) -> list[tuple[Path, dict[str, str]]]:
        """What :meth:`note_user` noted: the note's file, and ``root`` and ``prefix``."""
        found = []
        for file in sorted((self.root / "projects").glob("*.json")):
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                note = parse_json(file.read_text("utf-8"))
                found.append((file, {name: str(note[name]) for name in ("root", "prefix")}))
        return found

    def is_proven(self, sha256: str, host: str) -> bool:
        return (self.root / "proofs" / f"{sha256}.{host}").exists()

    def note_proof(self, sha256: str, host: str) -> None:
        self._make(self.root / "proofs")
        (self.root / "proofs" / f"{sha256}.{host}").touch(mode=0o600)


def link_prefix(prefix: Path, name: str, target: Path) -> Path:
    """Make ``prefix/name`` a link to ``target``, in one step; what else bears the name is kept.

    :raises ToolchainError: when something that is no link stands there, or none can be made.
    """
    link = prefix / name
    try:
        if os.readlink(link) == str(target):
            return link
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ToolchainError(
                f"{link} is not a link, and django_dbdev did not make it.",
                hints=["move it away, then run this again"],
            ) from None
    temporary = temporary_name(link)
    try:
        # mkdir gives its mode to the last folder alone, and the first is that of all state.
        for folder in (prefix.parent, prefix):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
    except OSError as error:
        raise ToolchainError(f"{link} cannot be made: {error.strerror}.") from None
    return link


def _flush(folder: Path) -> None:
    """Have the folder's content on disk before it gets the name that says it is whole."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Only Linux has it: just this file system, not all of the machine's.
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) == 0:
                return
        finally:
            os.close(descriptor)
    os.sync()
