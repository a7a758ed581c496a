"""dbdev_backup, dbdev_restore, dbdev_listbackups and dbdev_clearbackups, as users type them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from django_dbdev.backups.checksums import checksum_of
from django_dbdev.backups.context import git_state
from django_dbdev.backups.snapshot import own_size
from django_dbdev.process.locking import exclusive
from tests.conftest import Project, ProjectFactory

from .helpers import backups, fill, leftovers, manifest, numbers, root

SHARED = 'DATABASES["other"] = {**DBSETTINGS, "NAME": "other"}'


@pytest.fixture
def ready(project: Project) -> Project:
    project.manage("dbdev_init").ok()
    fill(project, 1)
    return project


def listed(project: Project) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(
        project.manage("dbdev_listbackups", "--format", "json", "-v0").ok().out
    )
    return loaded


def test_a_backup_tells_where_it_comes_from(ready: Project) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for command in (["init", "-b", "feature/prices"], ["commit", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *command], cwd=ready.root, check=True, capture_output=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=ready.root, check=True, capture_output=True, text=True
    ).stdout.strip()
    ready.manage("migrate", "-v0").ok()
    ready.manage("dbdev_backup", "-n", "before migration").ok()
    content = manifest(backups(ready)[0])
    assert content["branch"] == "feature/prices"
    assert content["commit"] == commit
    assert content["migrations"]["contenttypes"] == "0002_remove_content_type_name"
    assert content["alias"] == "default"
    assert content["duration"] > 0
    (backup,) = listed(ready)
    assert backup["branch"] == "feature/prices"
    assert backup["name"] == "before migration"
    assert backup["own_size"] >= backup["size"]
    table = ready.manage("dbdev_listbackups").ok().out.splitlines()
    assert table[0].split()[:3] == ["NAME", "KIND", "AGE"]
    assert "feature/prices" in table[1]
    assert str(backups(ready)[0]) in table[1]


@pytest.mark.parametrize(
    ("head", "told"),
    [("ref: refs/heads/main", ("main", "")), ("ref: refs/heads/.invalid", ("", ""))],
    ids=["nothing committed", "reftable"],
)
def test_what_git_s_files_do_not_tell(tmp_path: Path, head: str, told: tuple[str, str]) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(f"{head}\n")
    assert git_state(tmp_path) == told


def test_names(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    assert "already" in ready.manage("dbdev_backup", "-n", "one").failed(2).err
    for name in ("../one", "a/b", "", ".hidden", "before-restore", "n" * 200):
        ready.manage("dbdev_backup", "-n", name).failed(2)
    assert "there are: one" in ready.manage("dbdev_restore", "-n", "two").failed(2).err
    ready.manage("dbdev_restore", str(ready.root)).failed(2)
    ready.manage("dbdev_restore", str(ready.root / "nothing")).failed(2)
    ready.manage("dbdev_restore", "-n", "one", str(backups(ready)[0])).failed(2)
    assert "there are: one" in ready.manage("dbdev_clearbackups", "-n", "two").failed(2).err
    assert len(backups(ready)) == 1
    assert leftovers(ready) == []


def test_without_backups(ready: Project) -> None:
    assert "There are no backups" in ready.manage("dbdev_listbackups").ok().out
    assert listed(ready) == []
    assert "There are no backups" in ready.manage("dbdev_restore").failed(2).err
    assert "nothing to remove" in ready.manage("dbdev_clearbackups", "--noinput").ok().out
    ready.manage("dbdev_destroy", "--noinput").ok()
    assert "dbdev_init" in ready.manage("dbdev_backup").failed(4).err
    assert leftovers(ready) == [] if root(ready).exists() else True


def test_a_backups_folder_that_leads_nowhere(ready: Project) -> None:
    """As of a disk that is not mounted."""
    root(ready).parent.mkdir(exist_ok=True)
    if root(ready).exists():
        root(ready).rmdir()
    root(ready).symlink_to(ready.root / "away")
    for command in ("dbdev_backup", "dbdev_listbackups", "dbdev_restore"):
        refused = ready.manage(command).failed(2).err
        assert f"leads to {ready.root / 'away'}, which is not there" in refused
    (ready.root / "away").mkdir()
    ready.manage("dbdev_backup").ok()
    (backup,) = backups(ready)
    away = (ready.root / "away").rename(ready.root / "unmounted")
    for arguments in (
        ("dbdev_restore", str(away / backup.name)),
        ("dbdev_clearbackups", "--noinput"),
        ("dbdev_backup", "--portable"),
    ):
        refused = ready.manage(*arguments).failed(2).err
        assert f"leads to {ready.root / 'away'}, which is not there" in refused
    assert numbers(ready) == [1]


def test_backups_that_go_while_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    def gone(path: str) -> os.stat_result:
        os.unlink(path)
        return os.stat(path)

    # Another command's pruning, in the one moment in which it matters.
    monkeypatch.setattr("django_dbdev.backups.snapshot.os.lstat", gone)
    assert own_size(tmp_path) == 0


def test_an_empty_name_is_none(ready: Project) -> None:
    """As of a variable that is not set."""
    ready.manage("dbdev_backup").ok()
    for command in (
        ("dbdev_clearbackups", "--noinput", "-n", ""),
        ("dbdev_restore", "-n", ""),
        ("dbdev_restore", ""),
    ):
        assert "An empty name is that of no backup" in ready.manage(*command).failed(2).err
    assert len(backups(ready)) == 1


def test_clearing(ready: Project) -> None:
    for name in "abcd":
        ready.manage("dbdev_backup", "-n", name).ok()
    ready.manage("dbdev_clearbackups", "--keep", "3", input="no\n").failed()
    assert len(backups(ready)) == 4
    ready.manage("dbdev_clearbackups", "--keep", "3", input="yes\n").ok()
    assert [b["name"] for b in listed(ready)] == ["b", "c", "d"]
    ready.manage("dbdev_clearbackups", "--older-than", "7d", "--noinput").ok()
    assert len(backups(ready)) == 3
    ready.manage("dbdev_clearbackups", "--older-than", "soon", "--noinput").failed(2)
    ready.manage("dbdev_clearbackups", "-n", "c", "--noinput").ok()
    assert [b["name"] for b in listed(ready)] == ["b", "d"]
    # What others linked to is whole.
    ready.manage("dbdev_restore", "--verify", "-n", "d").ok()
    # What restores keep takes the place of none that somebody made.
    ready.manage("dbdev_clearbackups", "--keep", "2", "--noinput").ok()
    assert [b["name"] for b in listed(ready)] == ["b", "d", "before-restore"]
    ready.manage("dbdev_backup", "-n", "e").ok()
    ready.manage("dbdev_clearbackups", "--keep", "1", "--noinput").ok()
    assert [b["name"] for b in listed(ready)] == ["e"]
    ready.manage("dbdev_clearbackups", "--noinput").ok()
    assert backups(ready) == []
    assert numbers(ready) == [1]


def test_a_name_is_given_once(ready: Project) -> None:
    with exclusive(ready.tempdata / "PostgresBackend.lock"):
        both = [ready.start("dbdev_backup", "-n", "one") for _ in range(2)]
        for each in both:
            assert each.stdout is not None
            assert each.stdout.readline().startswith("Waiting for")
    said = [each.communicate()[0] for each in both]
    assert sorted(each.returncode for each in both) == [0, 2], said
    assert "There is a backup called 'one' already" in "".join(said)
    assert len(backups(ready)) == 1


def test_three_safety_backups_stay(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    for number in range(2, 6):
        fill(ready, number)
        ready.manage("dbdev_restore").ok()
        assert numbers(ready) == [1]
    names = [b["name"] for b in listed(ready)]
    assert names == ["one", "before-restore", "before-restore", "before-restore"]


def test_a_dump_that_cannot_be_loaded_leaves_no_copy_of_what_stays(ready: Project) -> None:
    ready.manage("dbdev_backup", "--portable", "-n", "one").ok()
    (backup,) = backups(ready)
    table = next((backup / "data" / "dump").glob("*.dat*"))
    table.write_bytes(b"no rows")
    content = manifest(backup)
    content["files"][f"dump/{table.name}"][:2] = [7, checksum_of(table)]
    (backup / "manifest.json").write_text(json.dumps(content))
    ready.manage("dbdev_restore", "-n", "one").failed(5)
    assert numbers(ready) == [1]
    assert backups(ready) == [backup]
    assert leftovers(ready) == []


def test_clients_are_disconnected(ready: Project) -> None:
    ready.manage("dbdev_backup").ok()
    with psycopg.connect(
        host="127.0.0.1", port=ready.port(), dbname="dbdev", user="dbdev", password="dbdev"
    ) as connection:
        connection.execute("SELECT 1")
        assert "Ended 1 connection of clients" in ready.manage("dbdev_restore").ok().out
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_aliases_that_share_the_server_are_named(new_project: ProjectFactory) -> None:
    project = new_project(settings=SHARED)
    project.manage("dbdev_init").ok()
    project.manage("dbdev_backup").ok()
    project.query("CREATE TABLE later (n int)", database="other")
    refused = project.manage("dbdev_restore").failed()
    assert "default, other" in refused.all
    assert project.query("SELECT count(*) FROM later", database="other") == [(0,)]
    project.manage("dbdev_restore", "--all").ok()
    with pytest.raises(psycopg.errors.UndefinedTable):
        project.query("SELECT count(*) FROM later", database="other")
    project.query("CREATE TABLE later (n int)", database="other")
    project.manage("dbdev_restore", input="yes\n").ok()

    # A dump holds one alias alone, and is restored alone.
    project.manage("dbdev_backup", "--portable", "-n", "dump").ok()
    project.query("CREATE TABLE later (n int)", database="other")
    project.manage("dbdev_restore", "-n", "dump").ok()
    assert project.query("SELECT count(*) FROM later", database="other") == [(0,)]


def test_the_latest_is_that_of_the_alias(new_project: ProjectFactory) -> None:
    project = new_project(settings=SHARED)
    project.manage("dbdev_init").ok()
    project.manage("dbdev_backup", "--portable", "--database", "other", "-n", "others").ok()
    refused = project.manage("dbdev_restore", "--noinput").failed(2)
    assert "no backups of this alias" in refused.err
    fill(project, 1)
    project.manage("dbdev_backup", "--portable", "-n", "mine").ok()
    fill(project, 2)
    project.manage("dbdev_backup", "--portable", "--database", "other").ok()
    project.manage("dbdev_restore").ok()
    assert numbers(project) == [1]

    # By its name it is restored when that is agreed to.
    asked = project.manage("dbdev_restore", "-n", "others").failed()
    assert "the alias 'other'" in asked.all
    assert "the alias 'other'" in project.manage("dbdev_restore", str(backups(project)[0])).all
    assert numbers(project) == [1]
    project.manage("dbdev_restore", "-n", "others", "--noinput").ok()
    with pytest.raises(psycopg.errors.UndefinedTable):
        numbers(project)

    # The server's snapshot is one of each of its aliases.
    project.manage("dbdev_backup", "--database", "other").ok()
    project.manage("dbdev_restore", "--all").ok()


@pytest.mark.parametrize("why", ["a tablespace", "no WAL for copies"])
def test_what_cannot_be_copied_is_kept_as_a_dump(new_project: ProjectFactory, why: str) -> None:
    settings = 'settings = { wal_level = "minimal", max_wal_senders = 0 }\n'
    pin = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
    project = new_project(pin=pin + settings * (why != "a tablespace"))
    project.manage("dbdev_init").ok()
    fill(project, 1)
    if why == "a tablespace":
        elsewhere = project.root / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        project.query(f"CREATE TABLESPACE elsewhere LOCATION '{elsewhere}'")
        project.query("ALTER TABLE numbers SET TABLESPACE elsewhere")
    project.manage("dbdev_backup", "--portable", "-n", "one").ok()
    assert "dbdev_backup --portable" in project.manage("dbdev_backup").failed().err
    fill(project, 2)
    assert "kept as a dump" in project.manage("dbdev_restore", "-n", "one").ok().err
    assert numbers(project) == [1]
    project.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(project) == [1, 2]
    assert [b["kind"] for b in listed(project)] == ["portable"] * 3
    assert leftovers(project) == []
