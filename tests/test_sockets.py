"""Where a server's socket goes, and that nobody else can have put something there."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_dbdev.exceptions import ServerError
from django_dbdev.ownership import refuse_planted
from django_dbdev.process import sockets
from django_dbdev.process.privileges import Identity, acting_as, dedicated_identity
from django_dbdev.process.sockets import MAX_PATH, make_private, socket_directory
from tests.conftest import ProjectFactory

NAME = ".s.PGSQL.20100"
NOBODY = 65534

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another")


@pytest.fixture(autouse=True)
def no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="d"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shared(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like /tmp: everybody may write there."""
    folder = short_folder / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(sockets, "_TMP", folder)
    return folder


def of_length(folder: Path, length: int) -> Path:
    """A folder for state in which the socket's whole path has ``length`` bytes."""
    return folder / ("x" * (length - len(os.fsencode(folder / "y" / "run" / NAME)) + 1))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# Which folder


def test_in_the_project_where_it_fits(short_folder: Path) -> None:
    assert socket_directory(short_folder, NAME) == short_folder / "run"


def test_the_longest_path_is_one_that_the_system_takes(short_folder: Path) -> None:
    fits, too_long = (of_length(short_folder, length) for length in (MAX_PATH, MAX_PATH + 1))
    folder = socket_directory(fits, NAME)
    assert folder == fits / "run"
    assert len(os.fsencode(folder / NAME)) == MAX_PATH
    make_private(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / NAME))
    assert socket_directory(too_long, NAME) != too_long / "run"
    assert socket_directory(fits, NAME + "0") != folder


def test_bytes_count_and_not_letters(short_folder: Path) -> None:
    assert socket_directory(short_folder / ("x" * 60), NAME).name == "run"
    assert socket_directory(short_folder / ("é" * 60), NAME).name != "run"


def test_elsewhere_it_is_named_by_the_project(short_folder: Path) -> None:
    one, other = (short_folder / (letter * 100) for letter in "ab")
    folder = socket_directory(one, NAME)
    assert folder.parent == Path(f"/tmp/django_dbdev-{os.geteuid()}")
    assert folder == socket_directory(one, ".s.PGSQL.20101")
    assert folder != socket_directory(other, NAME)
    assert len(os.fsencode(folder / NAME)) < 80


@pytest.mark.parametrize("awkward", ["a,b", 'a"b', "a\nb", "a\x7f\x01b", os.fsdecode(b"a\xff")])
def test_not_where_programs_would_read_a_list(short_folder: Path, awkward: str) -> None:
    folder = socket_directory(short_folder / awkward, NAME)
    assert folder.parent == Path(f"/tmp/django_dbdev-{os.geteuid()}")


@pytest.mark.parametrize("harmless", ["a b", "it's", "a\\b", "ünï☃", "%d$HOME{}"])
def test_other_characters_do_no_harm(short_folder: Path, harmless: str) -> None:
    assert socket_directory(short_folder / harmless, NAME) == short_folder / harmless / "run"


def test_no_place_at_all(short_folder: Path) -> None:
    with pytest.raises(ServerError, match="no place for a Unix socket"):
        socket_directory(short_folder, "x" * 200)


# XDG_RUNTIME_DIR


@pytest.fixture
def normal_user() -> Iterator[None]:
    """Root's own is not used: a server with an account of its own could not enter it."""
    if os.geteuid() != 0:
        yield
        return
    account = next(a for a in pwd.getpwall() if a.pw_uid not in (0, NOBODY))
    with acting_as(account.pw_uid, account.pw_gid, []):
        yield


@pytest.fixture
def runtime(normal_user: None, short_folder: Path) -> Iterator[Path]:
    """A folder of the user's own, as the system makes it at login."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="r"))
    yield folder
    shutil.rmtree(folder)


def test_the_users_runtime_directory(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    folder = socket_directory(Path("/" + "x" * 100), NAME)
    assert folder.parent == runtime / "django_dbdev"
    make_private(folder)
    assert mode(folder) == 0o700


@pytest.mark.parametrize("value", ["", "relative", "/nowhere", "/"])
def test_a_runtime_directory_that_is_none_or_not_ours(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    folder = socket_directory(Path("/" + "x" * 100), NAME)
    assert folder.parent == Path(f"/tmp/django_dbdev-{os.geteuid()}")


def test_a_runtime_directory_that_is_too_long(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = runtime / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert socket_directory(Path("/" + "x" * 100), NAME).parent.parent == Path("/tmp")


@root
@pytest.mark.parametrize("owner", [0, 1000])
def test_root_uses_no_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    """Of another user's, which su and sudo may leave in the environment, least of all."""
    os.chown(tmp_path, owner, -1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = socket_directory(Path("/" + "x" * 100), NAME)
    assert folder.parent == Path("/tmp/django_dbdev-0")


# The folder itself


def elsewhere(shared: Path) -> Path:
    return socket_directory(Path("/" + "x" * 100), NAME)


def test_a_new_folder_is_closed_whatever_the_umask(shared: Path) -> None:
    folder = elsewhere(shared)
    before = os.umask(0)
    try:
        make_private(folder)
        assert (mode(folder.parent), mode(folder)) == (0o711, 0o700)
        shutil.rmtree(folder.parent)
        os.umask(0o277)
        make_private(folder)
    finally:
        os.umask(before)
    assert (mode(folder.parent), mode(folder)) == (0o711, 0o700)


def test_a_folder_of_ours_that_is_open_is_closed(shared: Path) -> None:
    folder = elsewhere(shared)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    folder.parent.chmod(0o777)
    make_private(folder)
    assert (mode(folder.parent), mode(folder)) == (0o711, 0o700)


def test_the_folder_for_state_keeps_its_mode(tmp_path: Path) -> None:
    """Also one that is called like the folder of ours below /tmp."""
    state = tmp_path / "django_dbdev-state"
    state.mkdir(mode=0o700)
    make_private(socket_directory(state, "s"))
    assert (mode(state), mode(state / "run")) == (0o700, 0o700)


@pytest.mark.parametrize("which", ["parent", "folder"])
@pytest.mark.parametrize("leads", ["to a folder", "nowhere"])
def test_a_link_is_refused(shared: Path, tmp_path: Path, which: str, leads: str) -> None:
    folder = elsewhere(shared)
    planted = folder if which == "folder" else folder.parent
    planted.parent.mkdir(exist_ok=True)
    target = tmp_path / "target"
    if leads == "to a folder":
        target.mkdir(mode=0o755)
    planted.symlink_to(target)
    with pytest.raises(ServerError, match=f"{planted} (is a link|cannot be made)"):
        make_private(folder)
    assert not target.exists() or (mode(target), list(target.iterdir())) == (0o755, [])


def test_a_file_is_refused(shared: Path) -> None:
    folder = elsewhere(shared)
    folder.parent.touch()
    with pytest.raises(ServerError, match=r"cannot be made: (File exists|Not a directory)"):
        make_private(folder)


@root
def test_what_another_has_planted_is_refused(shared: Path) -> None:
    folder = elsewhere(shared)
    folder.parent.mkdir(mode=0o755)
    os.chown(folder.parent, NOBODY, NOBODY)
    with pytest.raises(ServerError, match=r"belongs to somebody else \(uid 65534\)") as caught:
        make_private(folder)
    assert "look who made it" not in caught.value.message
    assert str(folder.parent) in caught.value.hints[0]
    assert not folder.exists()


@root
def test_what_another_could_have_planted_is_refused(shared: Path) -> None:
    """In a folder that others may write to, a folder of another's is a stranger's."""
    folder = shared / "state" / "run"
    folder.mkdir(parents=True)
    os.chown(folder, NOBODY, NOBODY)
    folder.parent.chmod(0o777)
    with pytest.raises(ServerError, match="belongs to somebody else"):
        make_private(folder)
    assert folder.stat().st_uid == NOBODY


@root
def test_the_server_may_be_another_account_each_time(tmp_path: Path) -> None:
    account = dedicated_identity()
    if account is None:
        pytest.skip("there is neither an account postgres nor nobody")
    folder = tmp_path / "run"
    for identity, uid in (
        (account, account.uid),
        (account, account.uid),
        (Identity("namespace", 1, 1), 0),
        (account, account.uid),
    ):
        make_private(folder, identity)
        assert (folder.stat().st_uid, mode(folder)) == (uid, 0o700)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match="Not a directory"):
        make_private(tmp_path / "file" / "run")


# Servers


@pytest.mark.parametrize("name", ['it\'s a \\ project, "ünï"', "deep/" + "d" * 90])
def test_a_server_in_a_project_with_an_awkward_path(
    short_folder: Path, new_project: ProjectFactory, name: str
) -> None:
    short_folder.chmod(0o755)  # The server may have an account of its own.
    project = new_project(str(short_folder / name))
    project.manage("dbdev_init").ok()
    path = Path(project.info()["socket"])
    assert path.is_socket()
    assert mode(path.parent) == 0o700
    assert path.parent.parent.name == f"django_dbdev-{os.geteuid()}"
    assert project.query("SELECT 1") == [(1,)]
    project.manage("dbdev_stopserver").ok()
    assert not path.parent.exists()


# State and the store


@root
@pytest.mark.parametrize(
    ("place", "kind"),
    [("DBDEV_DATADIR", "folder"), ("DBDEV_DATADIR", "link"), ("DBDEV_STORE", "folder")],
)
# Root becomes an account in its own project; it has a name, and nobody's uid means nothing.
@pytest.mark.parametrize("uid", [NOBODY, 1])
def test_state_that_another_may_have_planted_is_refused(
    shared: Path, new_project: ProjectFactory, place: str, kind: str, uid: int
) -> None:
    """Programs would be run from there."""
    project = new_project()
    planted = shared / "planted"
    if kind == "folder":
        planted.mkdir(mode=0o777)
    else:
        planted.symlink_to(project.root)
    os.lchown(planted, uid, uid)
    refused = f"{planted} belongs to somebody else (uid {uid})"
    given: Any = {place: str(planted)}
    assert refused in project.manage("dbdev_init", **given).failed(2).err
    assert refused in project.manage("dbdev_serverinfo", **given).ok().out
    assert kind == "link" or list(planted.iterdir()) == []


@root
@pytest.mark.parametrize("place", ["DBDEV_DATADIR", "DBDEV_STORE"])
def test_a_place_below_what_another_has_planted_is_refused(
    shared: Path, new_project: ProjectFactory, place: str
) -> None:
    """Its owner may put anything there, at any time."""
    project = new_project()
    planted = shared / "planted"
    state = planted / "deeper" / "state"
    state.mkdir(parents=True)
    (state / "servers.json").write_text('{"ports": {"PostgresBackend": 30000}}')
    for folder in (planted, planted / "deeper", state):
        folder.chmod(0o777)
        os.chown(folder, 1, 1)
    given: Any = {place: str(state)}
    refused = f"{planted} belongs to somebody else (uid 1)"
    assert refused in project.manage("dbdev_init", **given).failed(2).err
    info = project.manage("dbdev_serverinfo", **given).ok().out
    assert refused in info
    assert "127.0.0.1:30000" not in info
    assert [path.name for path in state.iterdir()] == ["servers.json"]


@root
def test_ports_that_another_may_have_recorded_are_not_believed(
    shared: Path, new_project: ProjectFactory
) -> None:
    """Django would log in there."""
    project = new_project()
    planted = shared / "planted"
    planted.mkdir()
    (planted / "servers.json").write_text('{"ports": {"PostgresBackend": 30000}}')
    given: Any = {"DBDEV_DATADIR": str(planted)}
    script = "from django.conf import settings; print(settings.DATABASES['default']['PORT'])"
    command = ("shell", "--no-imports", "-c", script)
    assert project.manage(*command, **given).ok().out == "30000\n"
    os.chown(planted, 1, 1)
    assert project.manage(*command, **given).ok().out != "30000\n"


@root
def test_folders_of_the_owner_of_the_place_are_taken(shared: Path, tmp_path: Path) -> None:
    """Such as a project of somebody's in which root works."""
    for folder, owner in ((shared, NOBODY), (shared / "own", NOBODY), (shared / "ours", 0)):
        folder.mkdir(exist_ok=True)
        os.chown(folder, owner, -1)
        refuse_planted(folder, tmp_path)
    shared.chmod(0o755)
    os.chown(shared, 0, -1)
    refuse_planted(shared / "own", tmp_path)
