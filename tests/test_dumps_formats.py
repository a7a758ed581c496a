"""Dumps are recognised by what is in them, and written whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from django_dbdev.backups.dumps import (
    COMPRESSIONS,
    Format,
    opened,
    output_of,
    replaced,
    write_compressed,
)
from django_dbdev.exceptions import DumpError

#: Of no process: Linux and macOS give smaller ones.
GONE = 99_999_999
SQL = b"-- a dump\nSELECT 'd\xc3\xa4mpfe';\n" * 5000
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    # As the program zstd does it.
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def read(path: Path, standard_input: bytes = b"") -> tuple[str, bytes]:
    with opened(str(path), io.BytesIO(standard_input)) as dump:
        return str(dump), b"".join(dump.chunks())


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_text_whatever_its_name(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "dump.jpeg"
    file.write_bytes(PACKERS[kind](SQL))
    assert read(file) == (f"plain SQL, {kind}", SQL)


@pytest.mark.parametrize("kind", PACKERS)
def test_several_members_one_after_the_other(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "dump"
    file.write_bytes(PACKERS[kind](SQL) + PACKERS[kind](b"SELECT 2;"))
    assert read(file) == (f"plain SQL, {kind}", SQL + b"SELECT 2;")


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("lost", [1, 5, 100])
def test_what_is_cut_off_is_not_whole(tmp_path: Path, kind: str, lost: int) -> None:
    file = tmp_path / "dump"
    file.write_bytes(PACKERS[kind](os.urandom(500).hex().encode() + SQL)[:-lost])
    with pytest.raises(DumpError, match="is not whole"):
        read(file)


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_damaged_is_said_to_be(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PACKERS[kind](os.urandom(200_000).hex().encode()))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1] ^= 0xFF
    file = tmp_path / "dump"
    file.write_bytes(packed)
    with pytest.raises(DumpError, match=r"is damaged: .* cannot unpack it"):
        read(file)


def test_frames_of_zstd_that_are_passed_over(tmp_path: Path) -> None:
    """As pzstd writes one before each of its own."""
    text = b"SELECT 1;\n"
    frame = b"\x50\x2a\x4d\x18\4\0\0\0size" + zstandard.compress(text)
    file = tmp_path / "a.sql.zst"
    file.write_bytes(frame * 2)
    assert read(file) == ("plain SQL, zstd", text * 2)


def test_rubbish_behind_compressed_data(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    file.write_bytes(gzip.compress(SQL) + b"\0" * 512)
    assert read(file)[1] == SQL
    file.write_bytes(gzip.compress(SQL) + b"rubbish")
    with pytest.raises(DumpError, match="is damaged"):
        read(file)


def test_packed_twice_and_archives_in_compression(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    file.write_bytes(gzip.compress(lzma.compress(SQL)))
    assert read(file) == ("plain SQL, gzip, xz", SQL)
    file.write_bytes(PACKERS["zstd"](b"PGDMP and so on"))
    assert read(file) == ("pg_dump's custom format, zstd", b"PGDMP and so on")


def tar(*names: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return content.getvalue()


def test_archives(tmp_path: Path) -> None:
    file = tmp_path / "dump.sql"
    file.write_bytes(b"PGDMP\1\x10")
    assert read(file)[0] == "pg_dump's custom format"
    file.write_bytes(tar("toc.dat", "1.dat"))
    assert read(file)[0] == "pg_dump's tar format"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "toc.dat").write_bytes(b"PGDMP\1\x10")
    with opened(str(folder), io.BytesIO()) as dump:
        assert (dump.format, dump.path, dump.size) == (Format.DIRECTORY, folder, 7)


def test_standard_input_and_pipes(tmp_path: Path) -> None:
    assert read(Path("-"), gzip.compress(SQL)) == ("plain SQL, gzip", SQL)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[SQL])
    writer.start()
    with opened(str(pipe), io.BytesIO()) as dump:
        assert dump.path is None
        assert b"".join(dump.chunks()) == SQL
    writer.join()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be loaded: it is empty"),
        (gzip.compress(b""), "unpacked from gzip, cannot be loaded: it is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is a PNG image"),
        (b"PK\x03\x04zip", "zip archive: unpack it first"),
        (b"SQLite format 3\0" + bytes(100), "an SQLite database"),
        ("\ufeffSELECT 1;".encode("utf-16-le"), "UTF-16, as PowerShell"),
        (b"SELECT 1;\0\1\2", "neither text nor anything that pg_dump writes"),
        (tar("holiday.jpg"), "a tar archive, but not one that pg_dump wrote"),
        (gzip.compress(b"\x89PNG\r\n\x1a\n"), "it is a PNG image"),
    ],
    # gzip writes the time: workers would not agree on the tests' names.
    ids=range(9),
)
def test_what_is_no_dump(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "dump.sql"
    file.write_bytes(content)
    with pytest.raises(DumpError, match=problem):
        read(file)


def test_text_may_hold_any_character_but_zero(tmp_path: Path) -> None:
    """PostgreSQL and SQLite store them, and dumps have them as they are."""
    file = tmp_path / "dump.sql"
    text = "".join(map(chr, range(1, 0x180)))
    file.write_text(f"INSERT INTO t VALUES ('{text}');\n", "utf-8", newline="")
    with opened(str(file), io.BytesIO()) as dump:
        assert dump.format is Format.PLAIN
    for content in (b"\1\2SELECT 1;", b"SELECT 'some text that goes on'\0;"):
        file.write_bytes(content)
        with pytest.raises(DumpError, match="neither text"), opened(str(file), io.BytesIO()):
            pass


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="There is no file"):
        read(tmp_path / "missing")
    with pytest.raises(DumpError, match=r"folder without a toc\.dat"):
        read(tmp_path)
    (tmp_path / "toc.dat").write_text("hello")
    with pytest.raises(DumpError, match="does not begin as pg_dump's files do"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "format", "compression"),
    [
        ("-", Format.PLAIN, None),
        ("a.sql", Format.PLAIN, None),
        ("a.SQL.GZ", Format.PLAIN, "gzip"),
        ("a.sql.bz2", Format.PLAIN, "bzip2"),
        ("a.sql.xz", Format.PLAIN, "xz"),
        ("a.sql.zst", Format.PLAIN, "zstd"),
        ("a.dump", Format.CUSTOM, None),
        ("a.custom", Format.CUSTOM, None),
        ("a.tar", Format.TAR, None),
        ("a.dir", Format.DIRECTORY, None),
        ("a/", Format.DIRECTORY, None),
    ],
)
def test_formats_by_ending(name: str, format: Format, compression: str | None) -> None:
    output = output_of(name)
    assert output.format is format
    assert (output.compression.name if output.compression else None) == compression


def test_unknown_endings_name_the_known() -> None:
    with pytest.raises(
        DumpError, match=r"(?s)'a\.txt' names no format.*\.sql\.zst.*\.tar"
    ) as caught:
        output_of("a.txt")
    assert ".dir" in str(caught.value)
    with pytest.raises(DumpError) as caught:
        output_of("a.dump", (Format.PLAIN,))
    assert ".tar" not in str(caught.value)


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_what_is_compressed_comes_out_again(tmp_path: Path, compression: object) -> None:
    file = tmp_path / "dump"
    seen: list[int] = []
    with file.open("wb") as target:
        write_compressed(iter([SQL, b"SELECT 3;"]), target, compression, seen.append)  # type: ignore[arg-type]
    assert read(file)[1] == SQL + b"SELECT 3;"
    assert seen == [len(SQL), len(SQL) + 9]


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "dump.sql"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError), replaced(file) as temporary:
        temporary.write_text("half \udcff")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    (tmp_path / f".dump.sql.{GONE}.unfinished").write_text("of a killed command")
    with replaced(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_what_a_dump_does_not_take_the_place_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "shop" / "site"
    (project / "empty").mkdir(parents=True)
    for folder, file in (
        ("precious/sub", "notes.txt"),
        ("notes", "notes.txt"),
        ("mixed", "1.dat"),
        ("damaged", "toc.dat"),
        ("dump", "12.dat.gz"),
        ("nested/1.dat", "x"),
    ):
        (project / folder).mkdir(parents=True)
        (project / folder / file).write_text("mine")
    for folder in ("mixed", "dump", "nested"):
        (project / folder / "toc.dat").write_bytes(b"PGDMP\1\x10")
    (project / "mixed" / "a.py").touch()
    (project / "file").touch()
    monkeypatch.setenv("DBDEV_PROJECT_ROOT", str(project))
    monkeypatch.chdir(project)
    for name in ("precious", "notes", "mixed", "damaged", "nested", "file"):
        with pytest.raises(DumpError) as caught:
            output_of(f"{name}/")
        assert caught.value.hints
    for name in ("./", "../", "precious/../", "/", "dbdev_tempdata/", f"{tmp_path}/"):
        with pytest.raises(DumpError, match="the project"):
            output_of(name)
    (project / "a.dump").mkdir()
    with pytest.raises(DumpError, match="is a folder"):
        output_of("a.dump")
    for name in ("empty/", "dump/", "new/", "new.dir"):
        assert output_of(name).format is Format.DIRECTORY


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_link_is_followed(tmp_path: Path, is_folder: bool) -> None:
    elsewhere = tmp_path / "disk" / "shop"
    elsewhere.parent.mkdir()
    link = tmp_path / "shop.dump"
    link.symlink_to(elsewhere)
    for content in (b"one", b"two"):
        with replaced(link) as temporary:
            if is_folder:
                temporary.mkdir()
            (temporary / "toc.dat" if is_folder else temporary).write_bytes(content)
        assert link.is_symlink()
        assert (elsewhere / "toc.dat" if is_folder else elsewhere).read_bytes() == content
    assert [path.name for path in elsewhere.parent.iterdir()] == ["shop"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    target = tmp_path / "dump.dir"
    target.mkdir()
    (target / "toc.dat").write_text("old")
    with replaced(target) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["dump.dir", "new"]


def test_a_folder_comes_back_that_a_killed_command_had_moved_aside(tmp_path: Path) -> None:
    target = tmp_path / "dump.dir"
    old = tmp_path / f".dump.dir.{GONE}.old.unfinished"
    for folder in (old, tmp_path / f".dump.dir.{GONE}.unfinished"):
        folder.mkdir()
    (old / "toc.dat").write_text("old")
    with pytest.raises(ZeroDivisionError), replaced(target):
        assert 1 / 0
    assert (target / "toc.dat").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["dump.dir"]


def test_what_another_command_writes_stays(tmp_path: Path) -> None:
    others = [f".dump.sql.{os.getppid()}.unfinished", f".dump.sql.gz.{GONE}.unfinished"]
    for name in others:
        (tmp_path / name).touch()
    with replaced(tmp_path / "dump.sql") as temporary:
        temporary.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [*others, "dump.sql"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(DumpError, match="cannot be written"),
        replaced(tmp_path / "no" / "a") as file,
    ):
        file.write_text("x")
