"""Commands that are killed at every step: the old data or the new is whole, and work goes on."""

from __future__ import annotations

import itertools

import pytest

from tests.conftest import Project, ProjectFactory

from .helpers import assert_nothing_is_shared, backups, fill, leftovers, numbers

BACKUP_STEPS = ("begun", "started", "copying", "copied", "stopped", "wal", "described", "done")
RESTORE_STEPS = (
    "begun",
    "stopped",
    "copying",
    "built",
    "described",
    "flushed",
    "set-aside",
    "swapped",
    "kept",
    "recorded",
    "started",
    "done",
)
SWAPPED = RESTORE_STEPS.index("swapped")


@pytest.fixture
def ready(project: Project) -> Project:
    project.manage("dbdev_init").ok()
    fill(project, 1, 2)
    return project


def kill(project: Project, step: str, *command: str) -> None:
    assert project.manage(*command, DBDEV_FAULT_AT=step).status == -9


def test_a_killed_backup_is_none(ready: Project) -> None:
    for number, step in enumerate(BACKUP_STEPS):
        before = backups(ready)
        kill(ready, f"backup:{step}", "dbdev_backup", "-n", f"killed{number}")
        assert numbers(ready) == [1, 2]
        assert len(backups(ready)) == len(before) + (step == "done")
    # The server is in no backup that nobody ends, and gives a whole one.
    ready.manage("dbdev_backup", "-n", "whole").ok()
    assert len(leftovers(ready)) == len(BACKUP_STEPS) - 1
    fill(ready, 3)
    ready.manage("dbdev_restore", "-n", "whole", "--verify").ok()
    assert numbers(ready) == [1, 2]
    listing = ready.manage("dbdev_listbackups").ok().out
    assert "whole" in listing
    assert "killed1" not in listing
    cleared = ready.manage("dbdev_clearbackups", "--keep", "9", "--noinput").ok()
    assert f"{len(BACKUP_STEPS) - 1} unfinished" in cleared.out
    assert leftovers(ready) == []


@pytest.mark.parametrize("part", [0, 1])
def test_a_killed_restore_leaves_the_old_or_the_new(ready: Project, part: int) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    fill(ready, 3)
    follow_ups = itertools.cycle(
        [["dbdev_startserver"], ["dbdev_init"], ["dbdev_serverinfo"], ["dbdev_backup"]]
    )
    for step in RESTORE_STEPS[part::2]:
        kill(ready, f"restore:{step}", "dbdev_restore", "-n", "one")
        follow_up = next(follow_ups)
        ready.manage(*follow_up).ok()
        if follow_up[0] in {"dbdev_serverinfo", "dbdev_backup"}:
            ready.manage("dbdev_startserver").ok()
        swapped = RESTORE_STEPS.index(step) >= SWAPPED
        assert numbers(ready) == ([1, 2] if swapped else [1, 2, 3]), step
        assert leftovers(ready) == [], step
        assert_nothing_is_shared(ready)
        if swapped:
            # What was replaced is a whole backup.
            ready.manage("dbdev_restore", "-n", "before-restore", "--verify").ok()
            assert numbers(ready) == [1, 2, 3]
        ready.query("CHECKPOINT")
    for directory in backups(ready):
        ready.manage("dbdev_restore", "--verify", "--no-safety", str(directory)).ok()


def test_a_kill_between_the_renames_and_a_datadir_that_something_makes(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    fill(ready, 3)
    kill(ready, "restore:set-aside", "dbdev_restore", "-n", "one")
    assert not ready.datadir.exists()
    # As the contract's ``datadir`` does when a custom command asks for it.
    ready.datadir.mkdir(mode=0o700)
    said = ready.manage("dbdev_startserver").ok()
    assert "the old data is back" in said.err
    assert numbers(ready) == [1, 2, 3]
    assert leftovers(ready) == []


def test_clearing_up_after_a_kill_leaves_what_was_replaced(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    fill(ready, 3)
    kill(ready, "restore:swapped", "dbdev_restore", "-n", "one")
    ready.manage("dbdev_clearbackups", "--keep", "9", "--noinput").ok()
    ready.manage("dbdev_restore", "-n", "before-restore", "--verify").ok()
    assert numbers(ready) == [1, 2, 3]
    assert_nothing_is_shared(ready)


def test_a_killed_restore_without_safety(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    fill(ready, 3)
    for step in ("built", "set-aside"):
        kill(ready, f"restore:{step}", "dbdev_restore", "-n", "one", "--no-safety")
        ready.manage("dbdev_startserver").ok()
        assert numbers(ready) == [1, 2, 3]
    ready.manage("dbdev_restore", "-n", "one", "--no-safety").ok()
    assert numbers(ready) == [1, 2]
    assert len(backups(ready)) == 1


def test_killed_portable_backups(new_project: ProjectFactory) -> None:
    project = new_project()
    project.manage("dbdev_init").ok()
    fill(project, 1)
    for step in ("begun", "copied", "described"):
        kill(project, f"backup:{step}", "dbdev_backup", "--portable")
    assert backups(project) == []
    project.manage("dbdev_backup", "--portable", "-n", "one").ok()
    fill(project, 2)
    kill(project, "restore:kept", "dbdev_restore", "-n", "one")
    assert numbers(project) == [1, 2]
    project.manage("dbdev_restore", "-n", "one").ok()
    assert numbers(project) == [1]
    project.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(project) == [1, 2]
