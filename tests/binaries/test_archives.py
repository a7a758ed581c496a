from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_dbdev.binaries import archives
from django_dbdev.binaries.archives import (
    ArchiveError,
    unpack_inner_tar,
    unpack_tar,
    unpack_zip,
)


def tar_of(*members: tuple[str, str, str]) -> io.BytesIO:
    """A tar of members: a kind, a name, and the content or the target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for kind, name, text in members:
            member = tarfile.TarInfo(name)
            member.mode = 0o4777 if kind == "program" else 0o600
            member.type = {
                "link": tarfile.SYMTYPE,
                "hard": tarfile.LNKTYPE,
                "dir": tarfile.DIRTYPE,
                "device": tarfile.CHRTYPE,
                "fifo": tarfile.FIFOTYPE,
            }.get(kind, tarfile.REGTYPE)
            if member.type == tarfile.REGTYPE:
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                archive.addfile(member)
    buffer.seek(0)
    return buffer


def zip_of(path: Path, *members: tuple[str, str, str]) -> Path:
    modes = {"link": stat.S_IFLNK | 0o777, "fifo": stat.S_IFIFO | 0o600, "program": 0o100755}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind, name, text in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = modes.get(kind, 0o100600) << 16
            archive.writestr(member, text)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_tar_without_its_top_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    content = tar_of(
        ("dir", "top/", ""),
        ("program", "top/bin/psql", "run"),
        ("file", "top/share/readme", "read"),
        ("link", "top/lib/libpq.so", "libpq.so.5"),
        ("file", "top/lib/libpq.so.5", "library"),
        ("link", "top/lib/back", "../bin/psql"),
        ("hard", "top/share/same", "top/share/readme"),
    )
    unpack_tar(content, target, label="it", strip=1)
    assert (target / "lib" / "libpq.so").read_text() == "library"
    assert (target / "lib" / "back").resolve() == target / "bin" / "psql"
    assert (target / "share" / "same").read_text() == "read"
    assert mode(target / "bin" / "psql") == 0o755
    assert mode(target / "share" / "readme") == 0o644


def test_the_umask_takes_nothing_away(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        unpack_tar(tar_of(("program", "bin/psql", "run")), tmp_path / "out", label="it")
    finally:
        os.umask(before)
    assert mode(tmp_path / "out" / "bin" / "psql") == 0o755


HOSTILE = [
    ([("file", "../outside", "x")], "unsafe name"),
    ([("file", "a/../../outside", "x")], "unsafe name"),
    ([("file", "/etc/outside", "x")], "unsafe name"),
    ([("file", "..\\outside", "x")], "unsafe name"),
    ([("link", "out", "../outside")], "leaves it"),
    ([("link", "out", "/etc/passwd")], "leaves it"),
    ([("link", "a/b/out", "../../../outside")], "leaves it"),
    ([("link", "a", "b/.."), ("link", "b", "..")], "leaves it"),
    ([("link", "a", "."), ("link", "c/b", "../a/../..")], "leaves it"),
    ([("link", "a/b/c/up", "../../.."), ("link", "x", "a/b/c/up/..")], "leaves it"),
    ([("link", "a", "b"), ("file", "a/x", "x")], "twice|a file where"),
    ([("file", "a", "x"), ("file", "a", "y")], "twice"),
    ([("file", "a", "x"), ("file", "a/b", "y")], "a file where"),
    ([("fifo", "pipe", "")], "special file"),
    ([("file", "x" * 300, "x")], "File name too long"),
    ([("link", "x", "/" * 100_000)], "without end"),
]


@pytest.mark.parametrize(("members", "problem"), HOSTILE)
def test_a_hostile_tar(tmp_path: Path, members: list[tuple[str, str, str]], problem: str) -> None:
    target = tmp_path / "inside" / "out"
    with pytest.raises(ArchiveError, match=problem):
        unpack_tar(tar_of(*members), target, label="it")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "inside"]


@pytest.mark.parametrize(("members", "problem"), HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_zip(tmp_path: Path, members: list[tuple[str, str, str]], problem: str) -> None:
    archive = zip_of(tmp_path / "x.zip", *members)
    with pytest.raises(ArchiveError, match=problem):
        unpack_zip(archive, tmp_path / "inside" / "out", label="it")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "inside", archive]


def test_a_device_in_a_tar(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="special file"):
        unpack_tar(tar_of(("device", "null", "")), tmp_path / "out", label="it")


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "missing", "top"])
def test_a_hard_link_to_what_is_not_in_the_tar(tmp_path: Path, target: str) -> None:
    members = [("dir", "top", ""), ("hard", "top/a", target)]
    with pytest.raises(ArchiveError, match=r"unsafe name|does not hold"):
        unpack_tar(tar_of(*members), tmp_path / "out", label="it", strip=1)


def test_a_file_in_the_place_of_the_top_folder(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no top folder"):
        unpack_tar(tar_of(("file", "top", "x")), tmp_path / "out", label="it", strip=1)


def test_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    bomb = ("file", "zeros", "0" * 1001)
    with pytest.raises(ArchiveError, match="more than 1000 bytes"):
        unpack_tar(tar_of(bomb), tmp_path / "tar", label="it")
    with pytest.raises(ArchiveError, match="more than 1000 bytes"):
        unpack_zip(zip_of(tmp_path / "x.zip", bomb), tmp_path / "zip", label="it")
    assert not (tmp_path / "zip" / "zeros").exists()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 1 << 33
    content = io.BytesIO(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 20_000))
    with pytest.raises(ArchiveError, match="name without end"):
        unpack_tar(content, tmp_path / "out", label="it")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_is_packed_otherwise(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", kind) as archive:
        archive.writestr("a", "x")
    with pytest.raises(ArchiveError, match="unusual way"):
        unpack_zip(tmp_path / "x.zip", tmp_path / "out", label="it")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", ("file", "a", "x"))
    raw = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + flags] |= 1
    archive.write_bytes(raw)
    with pytest.raises(ArchiveError, match=r"damaged: .*encrypted"):
        unpack_zip(archive, tmp_path / "out", label="it")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    members = [("file", str(number), "") for number in range(3)]
    with pytest.raises(ArchiveError, match="more than 2 members"):
        unpack_tar(tar_of(*members), tmp_path / "out", label="it")


def test_a_zip_keeps_run_bits_and_links(tmp_path: Path) -> None:
    archive = zip_of(
        tmp_path / "x.zip",
        ("file", "a/", ""),
        ("program", "a/run", "x"),
        ("file", "a/read", "y"),
        ("link", "a/link", "read"),
    )
    unpack_zip(archive, tmp_path / "out", label="it")
    assert mode(tmp_path / "out" / "a" / "run") == 0o755
    assert mode(tmp_path / "out" / "a" / "read") == 0o644
    assert (tmp_path / "out" / "a" / "link").readlink() == Path("read")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.99])
def test_an_archive_that_is_cut_short(tmp_path: Path, cut: float) -> None:
    text = os.urandom(20_000).hex()
    whole = tar_of(("file", "a", text), ("file", "b", text)).getvalue()
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_tar(io.BytesIO(whole[: int(len(whole) * cut)]), tmp_path / "tar", label="it")
    archive = zip_of(tmp_path / "x.zip", ("file", "a", text))
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * cut)])
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_zip(archive, tmp_path / "zip", label="it")


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    unpack_tar(tar_of(("link", "a", "b"), ("link", "b", "a")), tmp_path / "out", label="it")
    assert not (tmp_path / "out" / "a").is_file()


def test_a_zip_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", "short")
        archive.filelist[0].file_size = 500
    with pytest.raises(ArchiveError, match=r"damaged"):
        unpack_zip(tmp_path / "x.zip", tmp_path / "out", label="it")


def test_a_full_disk_is_not_the_archives_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack_tar(tar_of(("file", "a", "x")), tmp_path / "out", label="it")


@pytest.mark.parametrize("count", [0, 2])
def test_a_wheel_without_its_one_archive(tmp_path: Path, count: int) -> None:
    members = [("file", f"inner/{number}.tar.gz", "") for number in range(count)]
    archive = zip_of(tmp_path / "x.zip", ("file", "other/x.tar.gz", ""), *members)
    with pytest.raises(ArchiveError, match=f"holds {count} archives"):
        unpack_inner_tar(archive, "inner", tmp_path / "out", label="it")


@pytest.mark.parametrize(
    "unpack", [unpack_zip, lambda a, f, label: unpack_inner_tar(a, "x", f, label=label)]
)
def test_what_is_no_archive(tmp_path: Path, unpack: Callable[..., None]) -> None:
    (tmp_path / "x.zip").write_text("no")
    with pytest.raises(ArchiveError, match="it is damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "out", label="it")


MEMBERS = (
    ("dir", "top", ""),
    ("file", "top/" + "long" * 40, "hello" * 200),
    ("file", "top/ü", "y" * 1000),
    ("link", "top/link", "ü"),
)
CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=12)), min_size=1)


def with_sums(raw: bytearray) -> bytes:
    """A tar whose headers have the sums that they should: else all changes are refused for that."""
    for begin in range(0, len(raw) - 511, 512):
        block = raw[begin : begin + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            raw[begin + 148 : begin + 156] = b"%06o\0 " % sum(block)
    return bytes(raw)


@given(st.booleans(), CHANGES, st.integers(0, 20).map(lambda n: n**3 if n > 12 else 0))
@example(False, [(0, b"x")], 10**6)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_is_changed_it_is_unpacked_or_refused(
    zipped: bool, changes: list[tuple[int, bytes]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = zip_of(folder / "x", *MEMBERS[1:])
        tar = gzip.decompress(tar_of(*MEMBERS).getvalue())
        raw = bytearray(archive.read_bytes() if zipped else tar)
        for place, new in changes:
            raw[place % len(raw) : place % len(raw) + len(new)] = new
        content = bytes(raw) if zipped else gzip.compress(with_sums(raw))
        content = content[: len(content) - cut]
        archive.write_bytes(content)
        try:
            if zipped:
                unpack_zip(archive, folder / "in" / "out", label="it")
            else:
                unpack_tar(io.BytesIO(content), folder / "in" / "out", label="it", strip=1)
        except ArchiveError:
            pass
        assert {path.name for path in folder.iterdir()} == {"x", "in"}
        assert [path.name for path in (folder / "in").iterdir()] == ["out"]
