"""Backups in storages: a shared folder, and an object store that speaks S3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SETTINGS, Project, ProjectFactory

from .helpers import backups, fill, numbers, root

FOLDER = """
STORAGES = {{"shared": {{
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {{"location": {location!r}}},
}}}}
"""
S3 = """
STORAGES = {{"shared": {{"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {{
    "bucket_name": "backups", "endpoint_url": {url!r}, "access_key": "a", "secret_key": "b",
    "region_name": "us-east-1",
}}}}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def sender(new_project: ProjectFactory, folder: Path) -> Project:
    project = new_project("sender", settings=FOLDER.format(location=str(folder)))
    project.manage("dbdev_init").ok()
    fill(project, 1, 2)
    return project


def receiver(new_project: ProjectFactory, settings: str) -> Project:
    return new_project("receiver", settings=settings)


def objects(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_colleague_restores_what_was_sent(
    sender: Project, folder: Path, new_project: ProjectFactory
) -> None:
    said = sender.manage("dbdev_backup", "-n", "for all", "--to", "shared").ok().out
    assert "Sent backup-" in said
    other = receiver(new_project, FOLDER.format(location=str(folder)))
    listing = json.loads(
        other.manage("dbdev_listbackups", "--from", "shared", "--format", "json").ok().out
    )
    assert [each["name"] for each in listing] == ["for all"]
    assert "for all" in other.manage("dbdev_listbackups", "--from", "shared").ok().out
    other.manage("dbdev_restore", "--from", "shared", "-n", "for all").ok()
    assert numbers(other) == [1, 2]
    # It is a backup here as well, and the latest there is found without a name.
    assert len(backups(other)) == 1
    fill(other, 3)
    other.manage("dbdev_restore", "--from", "shared").ok()
    assert numbers(other) == [1, 2]
    assert "for all" in other.manage("dbdev_restore", "--from", "shared", "-n", "no").failed(2).err
    assert "shared" in other.manage("dbdev_listbackups", "--from", "nowhere").failed(2).err


def test_a_killed_transfer_goes_on_where_it_ended(
    sender: Project, folder: Path, new_project: ProjectFactory
) -> None:
    command = ("dbdev_backup", "-n", "one", "--to", "shared")
    for step in ("send:part", "send:files"):
        assert sender.manage(*command, DBDEV_FAULT_AT=step).status == -9
        assert sender.manage("dbdev_listbackups", "--from", "shared").ok().out.startswith("There")
    assert len(backups(sender)) == 1
    # A part of which only the beginning came.
    part = max((path for path in folder.rglob("*.0")), key=lambda path: path.stat().st_size)
    whole = part.read_bytes()
    part.write_bytes(whole[:10])
    sent_before = objects(folder)
    said = sender.manage(*command).ok().out
    assert f": {len(whole)} B in" in said or part.read_bytes() == whole
    assert objects(folder).items() >= {k: v for k, v in sent_before.items() if v != 10}.items()
    assert ": 0 B in" in sender.manage(*command).ok().out
    other = receiver(new_project, FOLDER.format(location=str(folder)))
    for step in ("fetch:part", "fetch:files"):
        done = other.manage("dbdev_restore", "--from", "shared", DBDEV_FAULT_AT=step)
        assert done.status == -9
        assert backups(other) == []
    other.manage("dbdev_restore", "--from", "shared").ok()
    assert numbers(other) == [1, 2]


def test_what_has_no_name_goes_on_as_well(sender: Project, folder: Path) -> None:
    (folder / "django_dbdev").mkdir(parents=True)
    # Storages refuse what they like; here a file is in the way.
    blocked = folder / "django_dbdev" / "PostgresBackend"
    blocked.touch()
    said = sender.manage("dbdev_backup", "--to", "shared").failed(5).err
    (made,) = backups(sender)
    again = f"dbdev_backup -n {made.name} --to shared"
    assert again in said
    blocked.unlink()
    sender.manage(*again.split()).ok()
    assert backups(sender) == [made]
    assert ": 0 B in" in sender.manage(*again.split()).ok().out


def test_damage_is_noticed_before_anything_is_restored(
    sender: Project, folder: Path, new_project: ProjectFactory
) -> None:
    sender.manage("dbdev_backup", "--to", "shared").ok()
    part = max((path for path in folder.rglob("*.0")), key=lambda path: path.stat().st_size)
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    other = receiver(new_project, FOLDER.format(location=str(folder)))
    other.manage("dbdev_init").ok()
    fill(other, 7)
    assert "damaged" in other.manage("dbdev_restore", "--from", "shared").failed(5).err
    assert numbers(other) == [7]
    part.write_bytes(content)
    other.manage("dbdev_restore", "--from", "shared").ok()
    assert numbers(other) == [1, 2]


def test_sending_again_mends_what_a_storage_has_damaged(
    sender: Project, folder: Path, new_project: ProjectFactory
) -> None:
    command = ("dbdev_backup", "-n", "one", "--to", "shared")
    sender.manage(*command).ok()
    part = max(folder.rglob("*.0"), key=lambda path: path.stat().st_size)
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    other = receiver(new_project, FOLDER.format(location=str(folder)))
    assert "send it again" in other.manage("dbdev_restore", "--from", "shared").failed(5).err
    sender.manage(*command).ok()
    assert part.read_bytes() == whole
    other.manage("dbdev_restore", "--from", "shared").ok()
    assert numbers(other) == [1, 2]
    # What is damaged here is not sent.
    (backup,) = backups(sender)
    table = max((backup / "data").rglob("*.dat*"), key=lambda path: path.stat().st_size)
    table.write_bytes(b"x" * table.stat().st_size)
    assert "is damaged" in sender.manage(*command).failed(5).err
    assert part.read_bytes() == whole


def test_files_of_several_parts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    from django.core.files.storage import FileSystemStorage

    from django_dbdev.backups import sharing
    from django_dbdev.backups.manifest import PORTABLE, Manifest, write_manifest
    from django_dbdev.backups.snapshot import describe_files

    monkeypatch.setattr(sharing, "PART", 1000)
    directory = tmp_path / "backup-2026-11-22_13-40-00-123456.big"
    (directory / "data" / "deep").mkdir(parents=True)
    contents = {"deep/large": os.urandom(3500), "exact": os.urandom(2000), "empty": b""}
    for name, content in contents.items():
        (directory / "data" / name).write_bytes(content)
    tree, files = describe_files(directory / "data")
    manifest = Manifest("any", "1", "", PORTABLE, "default", files=files, folders=tree.folders)
    write_manifest(directory, manifest)
    storage = sharing.Storage.__new__(sharing.Storage)
    storage.alias, storage._folder = "shared", "f"
    storage._storage = FileSystemStorage(folder)
    assert storage.send(directory, manifest, lambda done: None) == 5500
    assert storage.send(directory, manifest, lambda done: None) == 0
    (shared,) = storage.backups()
    # One and a half parts came, and were kept.
    begun = tmp_path / "here" / directory.name / "data" / "deep"
    begun.mkdir(parents=True)
    (begun / "large").write_bytes(contents["deep/large"][:1500])
    fetched, count = storage.fetch(shared, tmp_path / "here", lambda done: None)
    assert count == 4500
    for name, content in contents.items():
        assert (fetched / "data" / name).read_bytes() == content


def test_sqlite_is_shared_as_it_is(new_project: ProjectFactory, folder: Path) -> None:
    base = SETTINGS.replace("postgres ", "sqlite ")
    settings = FOLDER.format(location=str(folder))
    one = new_project("one", pin="", base=base, settings=settings)
    one.manage("dbdev_init").ok()
    one.sql("CREATE TABLE numbers (n int)")
    one.manage("dbdev_backup", "--to", "shared").ok()
    two = new_project("two", pin="", base=base, settings=settings)
    two.manage("dbdev_restore", "--from", "shared").ok()
    assert two.sql("SELECT count(*) FROM numbers") == [[0]]


def test_aliases_with_files_of_their_own_share_a_storage(
    new_project: ProjectFactory, folder: Path
) -> None:
    other = 'DATABASES["other"] = {**DBSETTINGS, "NAME": BASE_DIR / "other.sqlite3"}\n'
    project = new_project(
        pin="",
        base=SETTINGS.replace("postgres ", "sqlite "),
        settings=other + FOLDER.format(location=str(folder)),
    )
    for alias in ("default", "other"):
        project.manage("dbdev_init", "--database", alias).ok()
        project.sql(f"CREATE TABLE of_{alias} (n int)", alias)
        project.manage("dbdev_backup", "--database", alias, "--to", "shared", "-n", "both").ok()
    project.manage("dbdev_backup", "--database", "other", "--to", "shared", "-n", "others").ok()
    for how in ((), ("-n", "both")):
        project.manage("dbdev_restore", "--from", "shared", *how).ok()
        assert project.sql("SELECT count(*) FROM of_default") == [[0]]
    asked = project.manage("dbdev_restore", "--from", "shared", "-n", "others").failed()
    assert "the alias 'other'" in asked.all
    project.manage("dbdev_restore", "--from", "shared", "-n", "others", "--noinput").ok()
    assert project.sql("SELECT count(*) FROM of_other") == [[0]]


def test_a_name_that_another_alias_s_dump_has(new_project: ProjectFactory, folder: Path) -> None:
    other = 'DATABASES["other"] = {**DBSETTINGS, "NAME": "other"}\n'
    project = new_project(settings=other + FOLDER.format(location=str(folder)))
    project.manage("dbdev_init").ok()
    project.manage("dbdev_backup", "--portable", "-n", "seed").ok()
    command = ("dbdev_backup", "--database", "other", "-n", "seed", "--to", "shared")
    assert "the alias 'default'" in project.manage(*command).failed(2).err
    assert objects(folder) == {}


def test_the_latest_is_the_one_that_was_made_last(sender: Project, folder: Path) -> None:
    """Names have local times, and machines that share a storage may be anywhere."""
    for zone, number in (("Asia/Tokyo", 3), ("America/New_York", 4)):
        sender.settings(FOLDER.format(location=str(folder)) + f"TIME_ZONE = {zone!r}\n")
        fill(sender, number)
        sender.manage("dbdev_backup", "--to", "shared").ok()
        sender.manage("dbdev_clearbackups", "--noinput").ok()
    assert numbers(sender) == [1, 2, 3, 4]
    fill(sender, 5)
    sender.manage("dbdev_restore", "--from", "shared").ok()
    assert numbers(sender) == [1, 2, 3, 4]


def test_a_storage_that_cannot_be_made_is_told(project: Project) -> None:
    for options in ('{"nonsense": 1}', '{"location": 3}'):
        project.settings(
            'STORAGES = {"shared": {"BACKEND": '
            f'"django.core.files.storage.FileSystemStorage", "OPTIONS": {options}}}}}'
        )
        said = project.manage("dbdev_listbackups", "--from", "shared").failed().err
        assert "shared" in said
        assert "TypeError" in said


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """A server that speaks the protocol, on loopback, with an empty bucket."""
    pytest.importorskip("moto")
    pytest.importorskip("storages")
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "moto.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port}"
        boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        ).create_bucket(Bucket="backups")
        yield url
    finally:
        server.terminate()
        server.wait(10)
        log.close()


def test_an_object_store(new_project: ProjectFactory, s3: str) -> None:
    one = new_project("one", settings=S3.format(url=s3))
    one.manage("dbdev_init").ok()
    fill(one, 1, 2, 3)
    command = ("dbdev_backup", "-n", "remote", "--to", "shared")
    assert one.manage(*command, DBDEV_FAULT_AT="send:part").status == -9
    one.manage(*command).ok()
    assert ": 0 B in" in one.manage(*command).ok().out
    two = new_project("two", settings=S3.format(url=s3))
    assert "remote" in two.manage("dbdev_listbackups", "--from", "shared").ok().out
    two.manage("dbdev_restore", "--from", "shared", "-n", "remote").ok()
    assert numbers(two) == [1, 2, 3]
    assert root(two).is_dir()
