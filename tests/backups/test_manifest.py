"""What a manifest from elsewhere may say: it decides which files a restore writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dbdev.backups.listing import as_table, listed
from django_dbdev.backups.manifest import (
    DamagedBackupError,
    FileEntry,
    Manifest,
    from_json,
    to_json,
    write_manifest,
)
from django_dbdev.backups.names import new_time
from django_dbdev.backups.snapshot import verify

WHOLE = Manifest(
    engine="postgresql",
    version="18.6",
    system="x86_64-linux",
    kind="snapshot",
    alias="default",
    aliases={"default": "dbdev"},
    folders=("base", "base/1"),
    files={"PG_VERSION": FileEntry(3, "0" * 32, 7, 9), "base/1/1259": FileEntry(0, "1" * 32)},
    links={"log": "../PostgresBackend.log"},
)


def changed(change: Callable[[Any], object]) -> str:
    content = json.loads(to_json(WHOLE))
    change(content)
    return json.dumps(content)


def test_round_trip() -> None:
    assert from_json(to_json(WHOLE)) == WHOLE


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["files"].update({"../x": [1, "", 0, 0]}), "leads out"),
        (lambda c: c["files"].update({"/etc/x": [1, "", 0, 0]}), "leads out"),
        (lambda c: c["files"].update({"base/./1/x": [1, "", 0, 0]}), "leads out"),
        (lambda c: c["files"].update({"base\0": [1, "", 0, 0]}), "leads out"),
        # What is written below a link is written elsewhere.
        (lambda c: c["files"].update({"log/x": [1, "", 0, 0]}), "below 'log'"),
        (lambda c: c["folders"].append("log/x"), "below 'log'"),
        (lambda c: c["links"].update({"base": "/etc"}), "twice"),
        (lambda c: c["files"].update({"elsewhere/x": [1, "", 0, 0]}), "below 'elsewhere'"),
        (lambda c: c["files"].update({"x": [-1, "", 0, 0]}), "a file is"),
        (lambda c: c["files"].update({"x": ["1", "", 0, 0]}), "a file is"),
        (lambda c: c["files"].update({"x": "1234"}), "a file is"),
        (lambda c: c.update(files=[]), "something is missing or wrong"),
        (lambda c: c.pop("engine"), "something is missing or wrong"),
        (lambda c: c.update(engine=None), "engine is not"),
        (lambda c: c.update(started_ns="now"), "started_ns is not"),
        (lambda c: c.update(aliases=["default"]), "aliases is not"),
        (lambda c: c.update(format=2), "its format is 2"),
    ],
)
def test_what_is_refused(change: Callable[[Any], object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_json(changed(change))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(json.loads(to_json(WHOLE)))), value=_json)
def test_any_value_is_read_or_refused(key: str, value: object) -> None:
    try:
        manifest = from_json(changed(lambda content: content.update({key: value})))
    except ValueError:
        return
    assert from_json(to_json(manifest)) == manifest


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "replace")))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_json(text)


@pytest.mark.parametrize(
    "created",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "", "soon"],
)
def test_a_time_that_cannot_be_reckoned_with(tmp_path: Path, created: str) -> None:
    directory = tmp_path / "backup-2026-11-22_18-16-19-477659"
    directory.mkdir()
    write_manifest(directory, replace(WHOLE, created=created))
    (one,) = listed(tmp_path)
    assert one.created.year == 2026


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_folder_that_bears_such_a_time_is_no_backup(tmp_path: Path, year: str) -> None:
    directory = tmp_path / f"backup-{year}-12-31_23-59-59-999999"
    directory.mkdir()
    write_manifest(directory, WHOLE)
    assert listed(tmp_path) == []
    assert not new_time(tmp_path).startswith(year)


def test_a_table_gives_a_terminal_no_orders(tmp_path: Path) -> None:
    directory = tmp_path / "backup-2026-11-22_18-16-19-477659.\033[2Jone"
    directory.mkdir()
    write_manifest(directory, replace(WHOLE, branch="\033]0;main\a", version="18\r6"))
    found = listed(tmp_path)
    head, row = as_table(found, found[0].created).split("\n")
    assert (head + row).isprintable()
    for shown in ("?[2Jone", "?]0;main?", "18?6"):
        assert shown in row


def test_a_link_in_the_place_of_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc")
    data = tmp_path / "backup" / "data"
    (data / "base" / "1").mkdir(parents=True)
    (data / "base" / "1" / "1259").touch()
    (data / "PG_VERSION").symlink_to("../../secret")
    with pytest.raises(DamagedBackupError, match="PG_VERSION is no regular file"):
        verify(data.parent, WHOLE)
