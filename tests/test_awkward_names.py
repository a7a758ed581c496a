"""Names, passwords and paths that break what is put together carelessly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ProjectFactory

AWKWARD = [
    "it's",
    'say "hi"',
    "two words",
    "100%s %(x)s",
    "back\\slash",
    "naïve 数据库 🐘",
    "a:b@c/d?e=f&g#h",
    "; DROP ROLE postgres; --",
    "-d",
]


@pytest.mark.parametrize("awkward", AWKWARD)
def test_names_and_passwords(new_project: ProjectFactory, awkward: str) -> None:
    project = new_project(
        settings=f"""
        DATABASES["default"] = {{
            **DBSETTINGS, "NAME": {awkward!r}, "USER": {awkward!r}, "PASSWORD": {awkward!r}
        }}
        """
    )
    project.manage("dbdev_init").ok()
    assert project.sql("SELECT current_user, current_database()") == [[awkward, awkward]]
    # What the environment format gives is enough for psql, and for a URL.
    script = (
        f'eval "$({sys.executable} manage.py dbdev_serverinfo --format env)"; '
        f"{project.info()['programs']['psql']!r} -w -At -c 'SELECT current_user' && "
        f'PGPASSFILE= {project.info()["programs"]["psql"]!r} -w -At "$DATABASE_URL" '
        "-c 'SELECT current_database()'"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=project.root, env=project.env(), capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == [awkward, awkward], done.stderr
    log = (project.tempdata / "PostgresBackend.log").read_text()
    assert "LOGIN" not in log, "no statement that bears a password is logged"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("NAME", "", "is empty"),
        ("USER", "", "is empty"),
        ("PASSWORD", "", "is empty"),
        ("NAME", "x" * 64, "63"),
        ("USER", "ü" * 32, "63"),
        ("NAME", "a\0b", "zero byte"),
        ("PASSWORD", "a\nb", "line break"),
    ],
)
def test_what_cannot_be_a_name_or_a_password_is_refused(
    new_project: ProjectFactory, key: str, value: str, says: str
) -> None:
    project = new_project(settings=f'DATABASES["default"] = {{**DBSETTINGS, {key!r}: {value!r}}}')
    said = project.manage("dbdev_init").failed(2).err
    assert says in said
    assert f"DATABASES['default']['{key}']" in said
    assert not (project.tempdata / "PostgresBackend").exists()


@pytest.mark.parametrize(
    "name",
    ["two words", 'it\'s "quoted" 100% $HOME `x`', "naïve/数据库", "deep/" + "x" * 150, "a,b\\c"],
)
def test_paths(new_project: ProjectFactory, name: str, tmp_path: Path) -> None:
    project = new_project(name)
    project.manage("dbdev_init", cwd=tmp_path).ok()
    assert project.sql("SELECT 1") == [[1]]
    info = project.info()
    assert Path(info["socket"]).is_socket()
    assert info["datadir"] == str(project.tempdata / "PostgresBackend")
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    project.manage("dbdev_destroy", "--noinput").ok()
    assert project.servers() == []


def test_a_project_that_cannot_be_written_is_an_error(new_project: ProjectFactory) -> None:
    project = new_project()
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; run the tests as a normal user for this one")
    project.root.chmod(0o500)
    try:
        said = project.manage("dbdev_init").failed().err
        assert str(project.tempdata) in said
    finally:
        project.root.chmod(0o700)
