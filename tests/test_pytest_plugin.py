"""pytest --dbdev, in a pytest of its own on a project of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import SETTINGS, Project, Result

pytest.importorskip("pytest_django")
pytest.importorskip("xdist")

TESTS = """
import os, pytest

@pytest.mark.django_db
@pytest.mark.parametrize("n", range(4))
def test_database(n):
    from django.db import connection
    cursor = connection.cursor()
    cursor.execute("SELECT current_setting('fsync'), current_setting('data_directory'),"
                   " current_database()")
    fsync, place, name = cursor.fetchone()
    assert fsync == os.environ["WANTED_FSYNC"], place
    assert name.startswith("test_")

def test_program():
    import subprocess
    assert subprocess.run(["psql", "-Atc", "SELECT 42"], capture_output=True).stdout == b"42\\n"
"""
SQLITE = SETTINGS.replace("postgres ", "sqlite ")
OFF = """
import sys

def test_nothing_of_ours_is_loaded():
    ours = {name.partition(".")[2] for name in sys.modules if name.startswith("django_dbdev.")}
    assert ours <= {"pytest_plugin", "registry", "exceptions"}
    assert "django" not in sys.modules
"""


def run_pytest(project: Project, *options: str, **environment: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=project.root,
        env=project.env(PYTHONPATH=str(project.root), **environment),
        capture_output=True,
        text=True,
        timeout=180,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def tested(project: Project) -> Project:
    project.write("test_it.py", TESTS)
    project.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\n")
    return project


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_an_ephemeral_server_for_the_run(tested: Project, workers: tuple[str, ...]) -> None:
    said = run_pytest(tested, "--dbdev=ephemeral", *workers, WANTED_FSYNC="off").ok().out
    assert "5 passed" in said
    assert tested.servers() == []
    assert list((tested.tempdata / "ephemeral").iterdir()) == []
    assert not tested.datadir.exists()


def test_the_projects_own_server_by_the_configuration(tested: Project) -> None:
    tested.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\ndbdev = project\n")
    assert "5 passed" in run_pytest(tested, WANTED_FSYNC="on").ok().out
    assert tested.servers() == []
    assert (tested.datadir / "PG_VERSION").exists()
    said = run_pytest(tested, "--dbdev=off", WANTED_FSYNC="on")
    assert said.status == 1
    tested.write("pytest.ini", "[pytest]\ndbdev = sometimes\n")
    assert "sometimes" in run_pytest(tested).failed(4).err


def test_within_dbdev_run_there_is_one_server(tested: Project) -> None:
    said = tested.manage(
        *("dbdev_run", "--ephemeral", "--", sys.executable, "-m", "pytest", "-q"),
        *("--dbdev=ephemeral", "-p", "no:cacheprovider"),
        WANTED_FSYNC="off",
        PYTHONPATH=str(tested.root),
    )
    assert "5 passed" in said.ok().out
    assert said.err.count("is up in") == 1


def test_off_it_loads_nothing(project: Project) -> None:
    project.write("test_it.py", OFF)
    assert "1 passed" in run_pytest(project, "-p", "no:django", "-p", "no:xdist").ok().out


def test_without_settings_and_with_a_wrong_pin_it_says_so(tested: Project) -> None:
    tested.pin('[tool.django_dbdev.postgresql]\nversion = "99"\n')
    said = run_pytest(tested, "--dbdev=ephemeral", DBDEV_OFFLINE="1").failed(4).err
    assert "postgresql 99" in said
    (tested.root / "pytest.ini").unlink()
    assert "--dbdev needs" in run_pytest(tested, "--dbdev").failed(4).err
    gone = ("-p", "no:django", "--dbdev=ephemeral")
    said = run_pytest(tested, *gone, DJANGO_SETTINGS_MODULE="nope.settings").failed(4).err
    assert "--dbdev needs Django's settings: No module named 'nope'" in said


@pytest.mark.parametrize("option", ["--help", "--markers", "--fixtures", "--collect-only"])
def test_what_runs_no_test_brings_nothing_up(tested: Project, option: str) -> None:
    tested.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\ndbdev = ephemeral\n")
    said = run_pytest(tested, option).ok().out
    assert not tested.tempdata.exists()
    if option == "--help":
        assert "Before paths write `--dbdev=project`" in " ".join(said.split())


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_the_developers_own_file_is_not_touched(tested: Project, workers: tuple[str, ...]) -> None:
    """Without pytest-django's test database too."""
    tested.settings(
        'DATABASES["default"] = {**DBSETTINGS, "NAME": BASE_DIR / "db.sqlite3"}', SQLITE
    )
    tested.write(
        "test_it.py",
        """
        import django

        def test_file():
            django.setup()
            from django.db import connection
            cursor = connection.cursor()
            cursor.execute("CREATE TABLE mine (n int)")
            assert "ephemeral" in str(connection.settings_dict["NAME"])
        """,
    )
    (tested.root / "db.sqlite3").touch()
    options = ("--dbdev=ephemeral", "-p", "no:django", *workers)
    said = run_pytest(tested, *options, DJANGO_SETTINGS_MODULE="settings").ok().out
    assert "1 passed" in said
    assert (tested.root / "db.sqlite3").read_bytes() == b""
