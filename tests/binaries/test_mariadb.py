"""The programs of MariaDB and MySQL, which have two names each and lie in two folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from django_dbdev.binaries.engines import MARIADB, MYSQL
from django_dbdev.binaries.programs import ask_version, list_programs, prove
from django_dbdev.binaries.providers.base import Declined
from django_dbdev.binaries.providers.bindir import Bindir
from django_dbdev.binaries.providers.executables import Executables
from django_dbdev.binaries.providers.machine import Machine
from django_dbdev.pins import Requirement


@pytest.mark.parametrize(
    ("said", "mariadb", "mysql"),
    [
        ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu", "10.11.19", None),
        ("/usr/sbin/mysqld  Ver 10.5.29-MariaDB for Linux on x86_64", "10.5.29", None),
        ("mariadbd from 11.8.3-MariaDB, client 15.2 for debian-linux-gnu", "11.8.3", None),
        ("/usr/sbin/mysqld  Ver 8.4.6 for Linux on x86_64 (MySQL Community)", None, "8.4.6"),
        ("/usr/sbin/mysqld  Ver 9.7.0-1 for Linux on x86_64 ((Debian))", None, "9.7.0"),
        ("mysql  Ver 15.1 Distrib 10.11.19-MariaDB", None, None),
        ("", None, None),
    ],
)
def test_versions(said: str, mariadb: str | None, mysql: str | None) -> None:
    assert MARIADB.parse_version(said) == mariadb
    assert MYSQL.parse_version(said) == mysql


@pytest.fixture
def installation(mariadb_bindir: Path, tmp_path: Path) -> Path:
    """An installation under the old names, the server and the clients in two folders."""
    found = list_programs(MARIADB, mariadb_bindir)
    for name in MARIADB.required:
        (old,) = MARIADB.other_names[name]
        folder = tmp_path / ("sbin" if name == MARIADB.server else "bin")
        folder.mkdir(exist_ok=True)
        # Not a link: that would lead to the folder where the new names are.
        (folder / old).write_text(f'#!/bin/sh\nexec "{found[name]}" "$@"\n')
        (folder / old).chmod(0o755)
    return tmp_path / "sbin"


def test_real_programs(mariadb_bindir: Path) -> None:
    found = list_programs(MARIADB, mariadb_bindir)
    assert set(MARIADB.required) <= set(found) <= set(MARIADB.other_names)
    prove(MARIADB, found, {})
    assert ask_version(MARIADB, found["mariadbd"], {}).count(".") == 2


def test_programs_under_their_old_names_and_in_two_folders(installation: Path) -> None:
    toolchain = Bindir(MARIADB, installation).find(Requirement("mariadb"))
    assert toolchain.program("mariadbd") == installation / "mysqld"
    assert toolchain.program("mariadb-dump") == installation.parent / "bin" / "mysqldump"
    assert toolchain.prefix == installation.parent
    machine = Machine(MARIADB, (str(installation),)).find(Requirement("mariadb"))
    assert machine.programs == toolchain.programs
    (installation.parent / "bin" / "mysqldump").unlink()
    with pytest.raises(Declined, match="has no mariadb-dump"):
        Bindir(MARIADB, installation).find(Requirement("mariadb"))


def test_the_settings_of_123_name_the_programs_of_both(installation: Path, tmp_path: Path) -> None:
    for engine in (MARIADB, MYSQL):
        assert engine.settings[engine.server] == "DBDEV_MYSQLD_EXECUTABLE"
    explicit = {"mariadbd": installation / "mysqld"}
    toolchain = Executables(MARIADB, explicit, tmp_path).find(Requirement("mariadb"))
    assert toolchain.program("mariadb") == installation.parent / "bin" / "mysql"


def test_mariadb_is_not_taken_for_mysql(installation: Path) -> None:
    (installation / "mysqladmin").touch()
    with pytest.raises(Declined, match=r"none of its MySQL fits: .*mysqld is not MySQL: it says"):
        Machine(MYSQL, (str(installation),)).find(Requirement("mysql", "8.4"))


def test_the_folders_that_a_shell_exports() -> None:
    assert MARIADB.bindir_variable == "DBDEV_MARIADB_BINDIR"
    assert MYSQL.bindir_variable == "DBDEV_MYSQL_BINDIR"
