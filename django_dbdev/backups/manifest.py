"""``manifest.json``: what a backup holds, and where it comes from.

It is written last and atomically. A folder without one is an unfinished backup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..exceptions import BackupError, ConfigurationError
from ..records import parse_json, write_atomically
from .names import MANIFEST

FORMAT = 1
#: A physical copy; a logical dump; whatever a custom backend's ``backup`` wrote.
SNAPSHOT, PORTABLE, CUSTOM = "snapshot", "portable", "custom"


class DamagedBackupError(BackupError):
    """A backup that is not what its manifest says."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file.

    :param size: bytes.
    :param checksum: see :mod:`.checksums`; empty where the file was cloned and never read since.
    :param inode: of the file that was copied, at the time of copying; 0 where it does not matter.
    :param mtime_ns: likewise, nanoseconds since the epoch. The copy bears it as well.
    """

    size: int
    checksum: str
    inode: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True)
class Manifest:
    """One backup.

    :param version: of the server, such as "18.6".
    :param system: the machine's Nix name, such as "x86_64-linux".
    :param kind: :data:`SNAPSHOT`, :data:`PORTABLE` or :data:`CUSTOM`.
    :param alias: the alias that the command was called for.
    :param aliases: all that the backup holds, with the name of each one's database.
    :param created: local time in ISO 8601, with its offset from UTC.
    :param started_ns: when copying began, nanoseconds since the epoch.
    :param duration: seconds.
    :param branch: of git; empty where there is none.
    :param migrations: the latest applied one of each app.
    :param folders: paths below the data, parents first.
    :param links: symbolic links and where they lead.
    """

    engine: str
    version: str
    system: str
    kind: str
    alias: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    server: str = ""
    name: str = ""
    created: str = ""
    started_ns: int = 0
    duration: float = 0.0
    branch: str = ""
    commit: str = ""
    migrations: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @property
    def major(self) -> str:
        """The first number of the version: "16" for "16.15"."""
        return self.version.split(".")[0]


def to_json(manifest: Manifest) -> str:
    """One line for each file, so that manifests can be compared by eye."""
    plain = {key: value for key, value in vars(manifest).items() if key not in {"files", "folders"}}
    head = {"format": FORMAT, **plain, "size": manifest.size, "checksums": "xxh3-128"}
    lines = json.dumps(head, indent=1)[:-2]
    folders = json.dumps(manifest.folders)
    files = ",\n".join(
        f"  {json.dumps(path)}: {json.dumps([e.size, e.checksum, e.inode, e.mtime_ns])}"
        for path, e in manifest.files.items()
    )
    return f'{lines},\n "folders": {folders},\n "files": {{\n{files}\n }}\n}}\n'


def from_json(text: str) -> Manifest:
    """:raises ValueError: when it is not a manifest."""
    content = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError("not a table")
    if content.get("format") != FORMAT:
        raise ValueError(f"its format is {content.get('format')!r}, known is {FORMAT}")
    known = Manifest.__dataclass_fields__
    try:
        values: dict[str, Any] = {key: content[key] for key in known if key in content}
        values["files"] = {path: _entry(e) for path, e in content["files"].items()}
        values["folders"] = tuple(content["folders"])
        manifest = Manifest(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"something is missing or wrong ({error})") from None
    for key, value in vars(manifest).items():
        _check(key, value)
    _check_paths(manifest)
    return manifest


def _entry(value: object) -> FileEntry:
    if not isinstance(value, list):
        raise TypeError(f"a file is {value!r}")
    entry = FileEntry(*value)
    numbers = (entry.size, entry.inode, entry.mtime_ns)
    if not isinstance(entry.checksum, str) or not all(map(_is_count, numbers)):
        raise TypeError(f"a file is {value!r}")
    return entry


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def _check(key: str, value: object) -> None:
    """The file may come from elsewhere: every value is what the class says, or refused."""
    if key in {"aliases", "migrations", "links"}:
        right = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    elif key == "folders":
        right = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    elif key == "started_ns":
        right = _is_count(value)
    elif key == "duration":
        right = isinstance(value, int | float) and 0 <= value < float("inf")
    else:
        right = key == "files" or isinstance(value, str)
    if not right:
        raise ValueError(f"its {key} is not what it should be")


def _check_paths(manifest: Manifest) -> None:
    """Nothing is written but below the data, and nothing through a link."""
    places = [*manifest.files, *manifest.folders, *manifest.links]
    for path in places:
        if path.startswith("/") or "\0" in path or {"", ".", ".."} & set(path.split("/")):
            raise ValueError(f"it has the path {path!r}, which leads out of the backup")
    if len(set(places)) < len(places):
        raise ValueError("it has the same path twice")
    parents = {path.rpartition("/")[0] for path in places}
    for parent in sorted(parents - {"", *manifest.folders}):
        raise ValueError(f"it has paths below {parent!r}, which is none of its folders")


def write_manifest(directory: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Finish a backup."""
    write_atomically(directory / name, to_json(manifest))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a finished backup.

    :raises ConfigurationError: when the folder is no finished backup.
    :raises DamagedBackupError: when the manifest cannot be read.
    """
    file = directory / MANIFEST
    try:
        return from_json(file.read_text("utf-8"))
    except FileNotFoundError:
        problem = "is not finished: it has no manifest" if directory.is_dir() else "does not exist"
        raise ConfigurationError(
            f"The backup {directory} {problem}.", hints=["list those that are: dbdev_listbackups"]
        ) from None
    except (OSError, ValueError) as error:
        raise DamagedBackupError(f"{file} cannot be read: {error}.") from None


def try_manifest(directory: Path) -> Manifest | None:
    """The manifest; None when there is none that can be read."""
    try:
        return read_manifest(directory)
    except (ConfigurationError, DamagedBackupError):
        return None
