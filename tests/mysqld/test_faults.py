"""MariaDB on machines that are full or bare: one clear error, and no loss."""

from __future__ import annotations

from pathlib import Path

from tests.backups.helpers import fill, numbers
from tests.backups.test_disks import MB, leave, mounted
from tests.reliability.conditions import (
    do_without_home_and_xdg,
    do_without_tmp,
    free_space_without_any,
    lose_what_was_not_written,
    meet_a_quota,
    meet_closed_folders,
)

from .conftest import MySqlProject


def test_a_full_disk_from_init_to_destroy(mysql: MySqlProject) -> None:
    with mounted(mysql, "-t", "tmpfs", "-o", "size=350m", "tmpfs"):
        ballast = leave(mysql, 8 * MB)
        failed = mysql.manage("dbdev_init").failed(1)
        assert f"{mysql.tempdata}/" in failed.err
        assert "No space left on device" in failed.err
        assert "hint: free some space" in failed.err
        assert not mysql.datadir.exists()
        ballast.unlink()
        mysql.manage("dbdev_init").ok()
        fill(mysql, 1, 2)

        # The server is stopped for it, and there has to be room for its start.
        leave(mysql, 8 * MB)
        failed = mysql.manage("dbdev_backup").failed(1)
        assert "No space left on device" in failed.err
        assert "hint: free some space" in failed.err
        assert numbers(mysql) == [1, 2]
        assert "No space left" in mysql.manage("dbdev_reinit", "--noinput").failed(1).err
        assert numbers(mysql) == [1, 2]
        assert not list(mysql.tempdata.glob(".MySql*"))

        mysql.manage("dbdev_stopserver").ok()
        for free in (0, 5 * MB):
            leave(mysql, free)
            failed = mysql.manage("dbdev_startserver").failed(4)
            assert "hint: the disk is full: free some space" in failed.err
        ballast.unlink()
        mysql.manage("dbdev_startserver").ok()
        assert numbers(mysql) == [1, 2]

        free_space_without_any(mysql)


def test_a_quota(mysql: MySqlProject, tmp_path: Path) -> None:
    meet_a_quota(mysql, tmp_path)


def test_folders_that_were_closed(mysql: MySqlProject) -> None:
    meet_closed_folders(mysql)


def test_without_home_xdg_and_a_place_for_temporary_files(mysql: MySqlProject) -> None:
    do_without_home_and_xdg(mysql)


def test_tmp_that_cannot_be_written_to(mysql: MySqlProject) -> None:
    do_without_tmp(mysql)


def test_a_cluster_that_was_not_on_disk_when_the_power_failed(mysql: MySqlProject) -> None:
    lose_what_was_not_written(mysql, mysql.datadir, "ibdata1")
