from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

from django_dbdev.binaries.store import Store, link_prefix
from django_dbdev.exceptions import BusyError, ToolchainError
from django_dbdev.process.command import Command
from django_dbdev.process.run import run
from django_dbdev.records import temporary_name, write_atomically


@pytest.fixture
def own(tmp_path: Path) -> Store:
    return Store(tmp_path / "a store" / "django_dbdev")


def gone_process() -> int:
    """The number of a process that ended."""
    program = Command(Path(sys.executable), ("-c", "import os; print(os.getpid())"))
    return int(run(program).output)


def build(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_text("content")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_built_once(own: Store) -> None:
    folder = own.ensure("clusters", "key", build)
    assert (folder / "file").read_text() == "content"
    assert own.ensure("clusters", "key", lambda folder: pytest.fail("again")) == folder
    assert names(folder.parent) == ["key"]


def test_it_is_closed_to_others(own: Store) -> None:
    own.ensure("clusters", "key", build)
    for folder in (own.root, own.root / "clusters", own.root / "locks"):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert own.root.parent.stat().st_mode & 0o700 == 0o700


def test_a_build_that_fails_leaves_nothing(own: Store) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        own.ensure("clusters", "key", fail)
    assert names(own.root / "clusters") == []
    assert (own.ensure("clusters", "key", build) / "file").exists()


@pytest.mark.parametrize("key", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_key_is_a_plain_name(own: Store, key: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        own.ensure("clusters", key, build)


def test_leftovers_of_crashed_builds_are_removed(own: Store) -> None:
    own.ensure("clusters", "first", build)
    clusters, gone = own.root / "clusters", gone_process()
    build(clusters / f".second.{gone}.new")
    build(clusters / f".third.{gone}.new")
    build(clusters / f".fourth.{os.getpid()}.new")
    own.ensure("clusters", "second", build)
    assert names(clusters) == [f".fourth.{os.getpid()}.new", "first", "second"]


def test_the_leftovers_of_a_build_that_holds_its_lock_stay(own: Store) -> None:
    """A process in another container has a number that means nothing here."""
    own.ensure("clusters", "first", build)
    leftover = own.root / "clusters" / f".other.{gone_process()}.new"
    build(leftover)
    with filelock.FileLock(own.root / "locks" / "clusters-other.lock"):
        own.ensure("clusters", "second", build)
    assert leftover.exists()


def test_several_threads_build_once(own: Store) -> None:
    built = []

    def slowly(folder: Path) -> None:
        built.append(folder)
        time.sleep(0.1)
        build(folder)

    threads = [
        threading.Thread(target=own.ensure, args=("clusters", "key", slowly)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_who_holds_the_lock_is_named(own: Store) -> None:
    own.ensure("clusters", "first", build)
    (own.root / "locks" / "clusters-key.lock.holder").write_text("4711 manage.py dbdev_init\n")
    with (
        filelock.FileLock(own.root / "locks" / "clusters-key.lock"),
        pytest.raises(BusyError, match=r"pid 4711 \(manage.py dbdev_init\).*clusters-key.lock"),
    ):
        own.ensure("clusters", "key", build, patience=0.1)


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match="cannot be used") as caught:
        Store(tmp_path / "file").ensure("clusters", "key", build)
    assert "DBDEV_STORE" in caught.value.hints[0]


def test_records(own: Store) -> None:
    for key in ("a1", "b2", "c3"):
        own.ensure("trees", key, build)
        own.record(key, {"version": key})
    own.record("d4", {"version": "not there"})
    (own.root / "trees" / "b2.json").write_text("{")
    (own.root / "trees" / "c3.json").write_text("[]")
    assert own.records() == {"a1": {"version": "a1"}}
    assert Store(own.root / "nowhere").records() == {}


def test_proofs(own: Store) -> None:
    assert not own.is_proven("a1", "host")
    own.note_proof("a1", "host")
    assert own.is_proven("a1", "host")
    assert not own.is_proven("a1", "other")
    assert not own.is_proven("b2", "host")


def test_scratch_is_removed_and_so_are_old_leftovers(own: Store) -> None:
    with own.scratch() as folder:
        (folder / "file").write_text("")
    old, young = (own.root / "tmp" / f"{gone_process()}-{name}.new" for name in "ab")
    for leftover in (old, young):
        leftover.mkdir()
    os.utime(old, (0, 0))
    with own.scratch():
        pass
    assert list((own.root / "tmp").iterdir()) == [young]


def test_the_prefix_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    one, two, prefix = tmp_path / "one", tmp_path / "two", tmp_path / "p r e f i x ü"
    build(one)
    build(two)
    link = link_prefix(prefix, "postgresql-18.6", one)
    assert link.readlink() == one
    missing = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if not (link / "file").exists():
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(200):
        link_prefix(prefix, "postgresql-18.6", two if number % 2 else one)
    ended.set()
    watcher.join()
    assert not missing
    assert names(prefix) == ["postgresql-18.6"]
    assert link.readlink() == two


def test_commands_with_equal_pids_do_not_meet(tmp_path: Path) -> None:
    """Containers number their processes each for itself; threads have equal pids as well."""
    one, two = tmp_path / "one", tmp_path / "two"
    begin = threading.Barrier(4)

    def work(number: int) -> None:
        begin.wait()
        for _ in range(100):
            link_prefix(tmp_path / "prefix", "postgresql-18.6", (one, two)[number % 2])
            write_atomically(tmp_path / "note", f"{number}\n" * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert (tmp_path / "prefix" / "postgresql-18.6").readlink() in (one, two)
    assert len(set((tmp_path / "note").read_text().split("\n"))) == 2
    assert names(tmp_path) == ["note", "prefix"]


def test_what_killed_writers_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    alive = temporary_name(tmp_path / "note")
    for left in (alive.name, f".note.{ended.pid}-0123abcd.new", f".more.{ended.pid}-0123abcd.new"):
        (tmp_path / left).touch()
    write_atomically(tmp_path / "note", "new")
    assert names(tmp_path) == sorted([alive.name, f".more.{ended.pid}-0123abcd.new", "note"])


def test_what_is_no_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgresql-18.6").mkdir()
    with pytest.raises(ToolchainError, match="is not a link"):
        link_prefix(tmp_path, "postgresql-18.6", tmp_path)


def test_a_prefix_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match="cannot be made: File exists"):
        link_prefix(tmp_path / "file", "postgresql-18.6", tmp_path)


def test_the_folder_of_all_state_is_closed_whoever_makes_it(tmp_path: Path) -> None:
    """dbdev_lock is the first command of some projects."""
    link_prefix(tmp_path / "state" / "prefix", "postgresql-18.6", tmp_path)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
