"""A conda channel in a folder, made of the files of real programs."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from django_dbdev.binaries.conda import SUBDIRS
from django_dbdev.binaries.systems import current_system

#: What a package's file has where the prefix belongs.
PLACEHOLDER = "/a/placeholder/for/the/prefix"


def files_of(tree: Path) -> dict[str, Path]:
    """A PostgreSQL's files by their path in a prefix, time zones aside."""
    return {
        str(path.relative_to(tree)): path
        for part in ("bin", "lib", "share")
        for path in (tree / part).rglob("*")
        if path.is_file() and "locale" not in path.parts and path.suffix != ".a"
    }


@dataclass
class Channel:
    folder: Path
    subdir: str = SUBDIRS[current_system()]

    def __post_init__(self) -> None:
        (self.folder / self.subdir).mkdir(parents=True)
        (self.folder / "noarch").mkdir()

    def add(self, name: str, version: str, depends: list[str], files: dict[str, Path]) -> Path:
        """A package of files; those that hold the placeholder get the prefix in its place."""
        paths = []
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:bz2", compresslevel=1) as archive:
            for path, source in files.items():
                data = source.read_bytes()
                entry = {
                    "_path": path,
                    "path_type": "hardlink",
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size_in_bytes": len(data),
                }
                if PLACEHOLDER.encode() in data:
                    entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
                paths.append(entry)
                archive.add(source.resolve(), path)
            index = {
                **{"name": name, "version": version, "build": "h0", "build_number": 0},
                **{"depends": depends, "subdir": self.subdir},
            }
            for member, table in (
                ("info/index.json", index),
                ("info/paths.json", {"paths_version": 1, "paths": paths}),
            ):
                data = json.dumps(table).encode()
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        package = self.folder / self.subdir / f"{name}-{version}-h0.tar.bz2"
        package.write_bytes(content.getvalue())
        return package

    def index(self) -> None:
        from rattler.index import index_fs

        asyncio.run(index_fs(self.folder))
