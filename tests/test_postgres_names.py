"""Names, passwords and paths that some shell, file or statement would read otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Project, ProjectFactory

PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
QUOTES = """it's "quoted" \\n {x} %s $HOME;--"""


def account(**settings: object) -> str:
    """Lines for settings.py."""
    return f"DATABASES['default'].update({settings!r})"


@pytest.mark.parametrize(
    ("name", "user", "password"),
    [
        (QUOTES, QUOTES[::-1], """p'w"d:\\@ %s%% {0}"""),
        ("Bücher 書籍 🐘", "Zoë:Ωmega", "Пароль ßé 🔑"),
        ("-d", "--help", "-W"),
        ("dbname=postgres user=postgres", "host=elsewhere", " leading and trailing "),
        ("n" * 63, "ü" * 31, "x" * 900),
        ("postgres", "postgres", "postgres"),
        ("SELECT", "NULL", "'; DROP ROLE dbdev; --"),
    ],
    ids=["quotes", "unicode", "options", "connection strings", "long", "postgres", "sql"],
)
def test_any_name_and_any_password(
    new_project: ProjectFactory, name: str, user: str, password: str
) -> None:
    project = new_project(settings=account(NAME=name, USER=user, PASSWORD=password))
    project.manage("dbdev_init").ok()
    assert project.sql("SELECT current_database(), current_user") == [[name, user]]
    second = project.manage("dbdev_init").ok()
    assert "Created" not in second.out, "it was found again by the name that it was made with"
    asked = subprocess.run(
        [
            "sh",
            "-c",
            'eval "$("$0" manage.py dbdev_serverinfo --format env)" && '
            '"$1" -wAtc "SELECT current_user" && "$1" -wAtd "$DATABASE_URL" -c "SELECT 1"',
            sys.executable,
            project.info()["programs"]["psql"],
        ],
        cwd=project.root,
        env=project.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == f"{user}\n1\n", asked.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"NAME": ""}, "['NAME'] is empty"),
        ({"USER": None}, "['USER'] is empty"),
        ({"PASSWORD": ""}, "['PASSWORD'] is empty"),
        ({"NAME": 5}, "['NAME'] is 5, not a string"),
        ({"NAME": "ü" * 32}, "['NAME'] has 64 bytes; PostgreSQL's names have at most 63"),
        ({"USER": "u" * 64}, "['USER'] has 64 bytes"),
        ({"NAME": "a\0b"}, "['NAME'] contains a zero byte"),
        ({"USER": "a\nb"}, "['USER'] contains a zero byte or a line break"),
        ({"PASSWORD": "a\0b"}, "['PASSWORD'] contains a zero byte"),
        ({"PASSWORD": "a\r"}, "['PASSWORD'] contains a zero byte or a line break"),
    ],
    ids=str,
)
def test_what_cannot_be_a_name_or_a_password(
    new_project: ProjectFactory, settings: dict[str, object], says: str
) -> None:
    project = new_project(settings=account(**settings))
    failed = project.manage("dbdev_init").failed(2)
    assert f"DATABASES['default']{says}" in failed.err
    assert not project.datadir.exists()


def test_names_that_the_server_refuses(new_project: ProjectFactory, fresh_store: Path) -> None:
    project = new_project(settings=account(USER="pg_dbdev"), store=fresh_store)
    failed = project.manage("dbdev_init").failed(4)
    assert "The role 'pg_dbdev' could not be created" in failed.err
    assert "reserved" in failed.err
    assert project.servers() == []
    assert not project.datadir.exists()
    project.settings()
    project.manage("dbdev_init").ok()
    project.settings(account(USER="pg_dbdev"))
    assert "reserved" in project.manage("dbdev_init").failed(4).err


@pytest.mark.parametrize(
    "place",
    [
        "with spaces and 'quotes' \"double\"",
        "Bücher 書籍 🐘",
        "comma, semicolon; $HOME `id` \\ %s #hash",
        "/".join(["deep" * 12] * 5)[:200],
    ],
    ids=["quotes", "unicode", "signs", "deep"],
)
def test_any_path(new_project: ProjectFactory, place: str) -> None:
    project = new_project(place)
    project.manage("dbdev_init").ok()
    project.manage("migrate", "--verbosity", "0").ok()
    info = project.info()
    assert info["running"]
    assert len(os.fsencode(info["socket"])) <= 107
    assert Path(info["socket"]).is_socket()
    assert Path(info["socket"]).parent.stat().st_mode & 0o077 == 0
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    project.manage("dbdev_reinit", "--noinput").ok()
    project.manage("dbdev_destroy", "--noinput").ok()
    assert project.servers() == []


def test_a_path_whose_bytes_are_no_text(project: Project) -> None:
    """A folder that was unpacked from an archive in another encoding."""
    odd = project.root.with_name(os.fsdecode(b"caf\xe9"))
    project.root.rename(odd)
    project.root = odd
    failed = project.manage("dbdev_init").failed(2)
    assert "caf\\udce9" in failed.err
    assert "is not UTF-8 text" in failed.err
    assert not project.tempdata.exists()


def test_a_link_to_the_project(project: Project) -> None:
    project.manage("dbdev_init").ok()
    link = project.root.with_name("link")
    link.symlink_to(project.root)
    pid = project.pid()
    real, project.root = project.root, link
    try:
        assert f"(pid {pid})" in project.manage("dbdev_init").ok().out
        assert project.info()["pid"] == pid
    finally:
        project.root = real
        link.unlink()


def test_state_elsewhere(new_project: ProjectFactory, tmp_path: Path) -> None:
    """DBDEV_DATADIR, absolute and relative to the project, from whatever working directory."""
    project = new_project(settings="DBDEV_DATADIR = \"../state of 'mine'\"")
    project.manage("dbdev_init", cwd=Path("/")).ok()
    state = tmp_path / "state of 'mine'"
    assert (state / "PostgresBackend" / "PG_VERSION").exists()
    assert not project.tempdata.exists()
    assert project.sql("SELECT 1") == [[1]]
    project.manage("dbdev_destroy", "--noinput").ok()


def test_a_project_that_cannot_be_written_to(project: Project) -> None:
    """By its permissions; for root, whom they do not hold, by a read-only mount."""
    command = [sys.executable, "manage.py", "dbdev_init"]
    says = "Permission denied"
    if os.geteuid() == 0:
        mount = 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        says = "Read-only file system"
        probe = subprocess.run([*command[:6], "true"], cwd=project.root, capture_output=True)
        if probe.returncode != 0:
            pytest.skip("root may write everywhere, and may not mount anything here")
    project.root.chmod(0o555)
    try:
        done = subprocess.run(
            command, cwd=project.root, env=project.env(), capture_output=True, text=True
        )
    finally:
        project.root.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{project.tempdata}: {says}" in done.stderr
    assert "hint: " in done.stderr
    assert not project.tempdata.exists()


def test_a_disk_that_is_full(new_project: ProjectFactory) -> None:
    """A file-size limit, in place of a full disk: the same errors at the same calls."""
    project = new_project()
    limited = f"ulimit -f 64 && exec {sys.executable} manage.py dbdev_init"
    done = subprocess.run(
        ["bash", "-c", limited], cwd=project.root, env=project.env(), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr
    assert not project.datadir.exists()
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]
