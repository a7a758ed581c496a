"""dbdev_env and dbdev_shell, evaluated by the shells themselves, as far as they are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from django_dbdev.backends.info import ServerInfo
from django_dbdev.backends.variables import SHELLS, as_statements, variables

from .conftest import SETTINGS, Project, ProjectFactory, Result

AWKWARD = {
    "PLAIN": "plain",
    "QUOTES": """it's "quoted" \\ and \\' `ls` $HOME !x *""",
    "BREAKS": "one\ntwo  \n three",
    "EMPTY": "",
    "PATH": f"/a b/it's:{os.defpath}",
}


def run_in(shell: str, script: str, **environment: str) -> Result:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    done = subprocess.run(
        [program, "-c", script],
        env={"HOME": "/nonexistent", "PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_value_arrives_as_it_is(shell: str) -> None:
    show = f"{sys.executable} -c 'import os; print(os.environb)'"
    said = run_in(shell, f"{as_statements(AWKWARD, shell)}\n{show}").ok().out
    for name, value in AWKWARD.items():
        assert f"{name.encode()!r}: {value.encode()!r}" in said


def test_path_begins_with_the_programs_once(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    info = ServerInfo(
        "default",
        "postgresql",
        running=False,
        initialised=True,
        datadir=tmp_path,
        databases={},
        programs={"psql": prefix / "postgresql-18.6" / "bin" / "psql"},
    )
    old = str(prefix / "postgresql-18.3" / "bin")
    found = variables([info], prefix, os.pathsep.join([old, "/usr/bin", "/bin"]))
    assert found["PATH"] == f"{prefix / 'postgresql-18.6' / 'bin'}:/usr/bin:/bin"
    assert variables([info], prefix, found["PATH"]) == found


def test_a_folder_of_the_system_does_not_hide_what_stands_before_it(tmp_path: Path) -> None:
    """An installation of the machine may lie in /usr/bin, which has a Python too."""
    venv, system, other = (tmp_path / name for name in ("venv", "system", "other"))
    for program in (
        *(venv / "python", system / "python"),
        *(system / "mariadb", system / "mariadbd", other / "mariadb"),
    ):
        program.parent.mkdir(exist_ok=True)
        program.touch(0o755)
    info = ServerInfo(
        "default",
        "mariadb",
        running=False,
        initialised=True,
        datadir=tmp_path,
        databases={},
        programs={name: system / name for name in ("mariadb", "mariadbd")},
    )

    def path(*folders: Path) -> list[str]:
        given = os.pathsep.join(map(str, folders))
        return variables([info], tmp_path / "prefix", given)["PATH"].split(os.pathsep)

    assert path(venv, system) == [str(venv), str(system)]
    # But the pinned one goes before another of the same name.
    assert path(venv, other, system) == [str(system), str(venv), str(other)]
    assert path(venv) == [str(system), str(venv)]


@pytest.mark.parametrize("shell", SHELLS)
def test_psql_meets_the_server_without_options(project: Project, shell: str) -> None:
    project.manage("dbdev_init").ok()
    manage = f"{sys.executable} {project.root / 'manage.py'} dbdev_env"
    load = f"{manage} | source" if shell == "fish" else f'eval "$({manage})"'
    environment = {**project.env(), "SHELL": f"/usr/bin/{shell}"}
    query = 'psql -Atc "SELECT current_user"'
    said = run_in(shell, f"{load}; {query}; command -v psql; echo $DATABASE_URL", **environment)
    user, program, url = said.ok().out.splitlines()
    assert user == "dbdev"
    assert program.startswith(str(project.tempdata / "prefix"))
    assert url.startswith("postgresql://dbdev:dbdev@127.0.0.1:")


def test_sqlite_has_its_url(new_project: ProjectFactory) -> None:
    project = new_project(pin="", base=SETTINGS.replace("postgres ", "sqlite "))
    said = project.manage("dbdev_env", "--shell", "bash").ok().out
    assert (
        said.strip()
        == f"export DATABASE_URL=sqlite:///{project.tempdata}/SqliteBackend/dbdev.sqlite3"
    )


def test_a_shell_in_which_everything_is_set(project: Project) -> None:
    project.manage("dbdev_init").ok()
    script = project.write("shell.sh", '#!/bin/sh\npsql -Atc "SELECT 41 + 1"; exit 7\n')
    script.chmod(0o755)
    done = project.manage("dbdev_shell", "--shell", str(script))
    assert (done.status, done.out.strip()) == (7, "42")
    project.manage("dbdev_stopserver").ok()
    assert "dbdev_startserver" in project.manage("dbdev_shell", SHELL=str(script)).err
    assert "/nowhere" in project.manage("dbdev_shell", "--shell", "/nowhere").failed().err
