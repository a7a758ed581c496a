"""As whom programs run: really other uids, where this machine lets us have them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import psycopg
import pytest

from django_dbdev.exceptions import ProgramError, ServerError
from django_dbdev.process import privileges
from django_dbdev.process.command import Command
from django_dbdev.process.privileges import (
    DIRECT,
    Identity,
    acting_as,
    as_project_owner,
    choose_identity,
    dedicated_identity,
    identity_of,
    namespace_identity,
    reachable_by,
    whose,
)
from django_dbdev.process.run import run
from tests.conftest import MANAGE, Project, ProjectFactory, wait_until
from tests.test_dbdev_run import WAITER, ephemeral_pid, is_gone

SH = Path("/bin/sh")
PYTHON = Path(sys.executable)
HARMLESS = Command(SH, ("-c", "true"))
NOBODY = 65534


def sh(script: str) -> Command:
    return Command(SH, ("-c", script), cwd=Path("/"))


def _namespaces_work() -> bool:
    try:
        run(HARMLESS, identity=namespace_identity())
    except ProgramError:
        return False
    return True


def _somebody() -> pwd.struct_passwd | None:
    """A normal account that is not the server's own: daemon, on most systems."""
    server = dedicated_identity()
    taken = {0, NOBODY, os.geteuid(), server.uid if server else 0}
    accounts = sorted(pwd.getpwall(), key=lambda account: account.pw_uid)
    return next((a for a in accounts if a.pw_uid not in taken), None)


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root needs another identity")
namespaces = pytest.mark.skipif(not _namespaces_work(), reason="user namespaces are forbidden here")


@pytest.fixture
def server_account() -> Identity:
    identity = dedicated_identity()
    if identity is None:
        pytest.skip("there is neither an account postgres nor nobody")
    return identity


@pytest.fixture
def somebody() -> pwd.struct_passwd:
    account = _somebody()
    if account is None:
        pytest.skip("there is no account but root's and the server's")
    return account


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under Docker's seccomp profile."""

    def entry(inner: int) -> Callable[[], None]:
        def enter() -> None:
            raise PermissionError(1, "user namespaces are not allowed: Operation not permitted")

        return enter

    monkeypatch.setattr(privileges, "_namespace_entry", entry)
    monkeypatch.setattr(privileges, "_seen", set())


def rights() -> tuple[int, int, tuple[int, ...]]:
    return os.geteuid(), os.getegid(), tuple(sorted(os.getgroups()))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# In a user namespace


@namespaces
def test_in_a_namespace_the_program_is_another_and_the_files_are_ours(tmp_path: Path) -> None:
    identity = namespace_identity()
    said = run(
        sh(f"id -u; id -un; id -g; touch {tmp_path}/file; chmod 600 {tmp_path}/file"),
        identity=identity,
    ).output.split()
    assert said[0] == str(identity.uid) != "0"
    assert said[1] == identity.account
    assert said[2] == str(identity.gid)
    assert (tmp_path / "file").stat().st_uid == os.geteuid()
    assert mode(tmp_path / "file") == 0o600
    assert identity.owner == (os.geteuid(), os.getegid())


@namespaces
def test_in_a_namespace_closed_folders_stay_closed_and_are_entered(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("read\n")
    assert run(sh(f"cat {closed}/file"), identity=namespace_identity()).output == "read\n"
    assert mode(closed) == 0o700


@namespaces
def test_a_namespace_has_no_rights_over_what_is_not_ours() -> None:
    completed = run(
        sh("kill -0 1; cat /etc/shadow >/dev/null"), identity=namespace_identity(), check=False
    )
    if os.geteuid() != 0:
        assert completed.status != 0
    assert run(sh("cat /proc/self/setgroups"), identity=namespace_identity()).output == "deny\n"


def test_strangers_do_not_look_like_the_account_of_the_namespace() -> None:
    """To a server in the namespace every other uid looks like the overflow uid."""
    assert namespace_identity().uid not in (0, NOBODY)
    assert namespace_identity().account


@pytest.mark.usefixtures("no_namespaces")
def test_a_namespace_that_is_refused_is_an_error_that_says_so() -> None:
    with pytest.raises(ProgramError) as caught:
        run(HARMLESS, identity=namespace_identity())
    assert caught.value.output == "user namespaces are not allowed: Operation not permitted"


# With setuid


@root
def test_with_setuid_the_program_is_the_other_for_good(server_account: Identity) -> None:
    said = run(sh("id -u; id -ru; id -g; id -G"), identity=server_account).output.split("\n")
    uid, gid = str(server_account.uid), str(server_account.gid)
    assert said[:4] == [uid, uid, gid, gid]
    back = "import os; os.setuid(0)"
    completed = run(
        Command(Path("/usr/bin/env"), ("python3", "-c", back), cwd=Path("/")),
        identity=server_account,
        check=False,
    )
    assert completed.status != 0


@root
def test_adopted_files_are_the_accounts_and_links_are_not_followed(
    server_account: Identity, tmp_path: Path
) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").touch()
    outside.touch()
    (tree / "link").symlink_to(outside)
    server_account.adopt(tree)
    owners = {path.lstat().st_uid for path in (tree, *tree.rglob("*"))}
    assert owners == {server_account.uid}
    assert outside.stat().st_uid == 0
    namespace_identity().adopt(tree)
    assert {path.lstat().st_uid for path in (tree, *tree.rglob("*"))} == {0}


@root
def test_a_link_that_is_put_there_meanwhile_leads_no_adoption_elsewhere(
    server_account: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the account has by now it can rename, while root goes on."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for folder in (tree / "folder", outside):
        folder.mkdir(parents=True)
        for name in ("one", "other"):
            (folder / name).touch()

    def swapping(real: Callable[..., None]) -> Callable[..., None]:
        def chown(path: str, *args: Any, **how: Any) -> None:
            real(path, *args, **how)
            if Path(path).name in ("one", "other") and not (tree / "folder").is_symlink():
                (tree / "folder").rename(tmp_path / "aside")
                (tree / "folder").symlink_to(outside)

        return chown

    for name in ("chown", "lchown"):
        monkeypatch.setattr(os, name, swapping(getattr(os, name)))
    server_account.adopt(tree)
    assert (tree / "folder").is_symlink()
    assert {path.stat().st_uid for path in outside.iterdir()} == {0}


@root
def test_adoption_that_was_interrupted_is_not_taken_for_done(
    server_account: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()
    (tmp_path / "tree" / "other").touch()
    real, calls = os.chown, []

    def chown(path: str, uid: int, gid: int, **how: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, uid, gid, **how)

    with monkeypatch.context() as patched:
        patched.setattr(os, "chown", chown)
        with pytest.raises(KeyboardInterrupt):
            server_account.adopt(tmp_path / "tree")
    assert identity_of(tmp_path / "tree").kind == "namespace"
    server_account.adopt(tmp_path / "tree")
    assert identity_of(tmp_path / "tree") == server_account


@not_root
def test_who_has_an_account_needs_no_other_identity(tmp_path: Path) -> None:
    if not pwd.getpwuid(os.geteuid()).pw_name:
        pytest.skip("this uid has no account")
    assert choose_identity(HARMLESS, tmp_path) == DIRECT
    assert DIRECT.preexec() is None
    DIRECT.adopt(tmp_path)


# Who may enter


@pytest.mark.parametrize(
    ("bits", "uid", "groups", "reaches"),
    [
        (0o700, "owner", [], True),
        (0o077, "owner", ["group"], False),
        (0o710, "other", ["group"], True),
        (0o710, "other", [], False),
        (0o701, "other", [], True),
        (0o701, "other", ["group"], False),
        (0o744, "other", ["group"], False),
    ],
)
def test_reachable_by(
    open_folder: Path, bits: int, uid: str, groups: list[str], reaches: bool
) -> None:
    folder = open_folder / "a"
    folder.mkdir()
    inner = folder / "b"
    inner.mkdir(mode=0o755)
    status = folder.stat()
    folder.chmod(bits)
    try:
        uids = {"owner": status.st_uid, "other": status.st_uid + 4321}
        found = reachable_by(uids[uid], [status.st_gid] if groups else [], inner)
        assert found == (None if reaches else folder)
        # What is ours to open does not count.
        assert reachable_by(uids[uid], [], inner, [folder]) is None
    finally:
        folder.chmod(0o755)


def test_whose(tmp_path: Path) -> None:
    assert whose(tmp_path / "not there") == ""
    expected = "" if os.geteuid() == 0 else "/etc/passwd belongs to root; "
    assert whose(Path("/etc/passwd")) == expected


# Choosing


@root
@namespaces
def test_a_namespace_is_preferred(tmp_path: Path) -> None:
    assert choose_identity(HARMLESS, tmp_path) == namespace_identity()
    assert mode(tmp_path) == 0o700


@root
@pytest.mark.usefixtures("no_namespaces")
def test_without_namespaces_an_account_of_its_own_and_the_way_to_it_is_opened(
    server_account: Identity, open_folder: Path
) -> None:
    data, store = open_folder / "data", open_folder / "store"
    data.mkdir(mode=0o700)
    (data / "secret").touch(mode=0o600)
    identity = choose_identity(HARMLESS, data, store, store / "clusters")
    assert identity == server_account
    assert [mode(folder) for folder in (data, store, store / "clusters")] == [0o711] * 3
    assert mode(data / "secret") == 0o600
    assert run(sh(f"cd {store}/clusters && pwd"), identity=identity).output.strip()
    assert run(sh(f"ls {data}"), identity=identity, check=False).status != 0


@root
@pytest.mark.usefixtures("no_namespaces")
def test_what_was_tried_is_told_and_nothing_is_changed(
    server_account: Identity, open_folder: Path
) -> None:
    closed = open_folder / "closed"
    data = closed / "data"
    data.mkdir(parents=True)
    closed.chmod(0o700)
    data.chmod(0o700)
    with pytest.raises(ServerError) as caught:
        choose_identity(HARMLESS, data)
    assert caught.value.message.splitlines() == [
        "The server does not run as root, and no other way works here:",
        "  - in a user namespace: user namespaces are not allowed: Operation not permitted",
        f"  - as {server_account.account}: it may not enter {closed}",
    ]
    assert any("--security-opt" in hint for hint in caught.value.hints)
    assert (mode(closed), mode(data)) == (0o700, 0o700)


@root
@pytest.mark.usefixtures("no_namespaces")
def test_a_program_that_does_not_start_is_no_way(
    server_account: Identity, open_folder: Path
) -> None:
    with pytest.raises(ServerError, match=f"as {server_account.account}: sh exited with status 3"):
        choose_identity(sh("exit 3"), open_folder)


@root
@pytest.mark.usefixtures("no_namespaces")
def test_data_of_roots_goes_to_the_account_where_namespaces_are_forbidden(
    server_account: Identity, open_folder: Path
) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o700)
    (data / "file").touch()
    identity = choose_identity(HARMLESS, open_folder, data=data)
    assert identity == server_account
    identity.adopt(data)
    assert choose_identity(HARMLESS, open_folder, data=data) == identity_of(data) == identity


@root
def test_data_of_an_account_stays_with_it(somebody: pwd.struct_passwd, open_folder: Path) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o700)
    os.chown(data, somebody.pw_uid, somebody.pw_gid)
    identity = choose_identity(HARMLESS, open_folder, data=data)
    assert (identity.kind, identity.owner) == ("setuid", (somebody.pw_uid, somebody.pw_gid))


@root
def test_a_uid_without_account_is_told_so(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "namespace_identity", lambda: Identity("setuid", 1, 1))
    with acting_as(54321, 54321, []):
        assert DIRECT.account == ""
        with pytest.raises(ServerError) as caught:
            choose_identity(HARMLESS, open_folder)
    assert "uid 54321, which has no account" in caught.value.message
    assert "a line in /etc/passwd" in str(caught.value)


@root
@namespaces
def test_a_uid_without_account_gets_a_name_in_a_namespace() -> None:
    with acting_as(54321, 54321, []):
        assert privileges.needs_identity()
        assert namespace_identity().owner == (54321, 54321)
    # Acting as another is not being it.
    script = """
        import ctypes, os
        from pathlib import Path
        from django_dbdev.process.command import Command
        from django_dbdev.process.privileges import choose_identity
        from django_dbdev.process.run import run
        command = Command(Path("/usr/bin/id"), ("-un",))
        run(command)
        os.setgroups([])
        os.setgid(54321)
        os.setuid(54321)
        # As after an exec: /proc/self is the new uid's. Source: prctl(2), PR_SET_DUMPABLE.
        ctypes.CDLL(None).prctl(4, 1)
        print(run(command, identity=choose_identity(command)).output)
    """
    completed = run(Command(PYTHON, ("-c", dedent(script))))
    assert completed.output.strip() == namespace_identity().account


# In the project of a normal user


@pytest.fixture
def readable_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python that runs the tests may be root's own."""
    monkeypatch.setattr(privileges, "_unreadable", lambda: None)


@pytest.fixture
def their_project(open_folder: Path, somebody: pwd.struct_passwd) -> Path:
    folder = open_folder / "project"
    folder.mkdir()
    os.chown(folder, somebody.pw_uid, somebody.pw_gid)
    return folder


@root
@pytest.mark.usefixtures("readable_python")
def test_root_becomes_the_owner_and_root_again(
    their_project: Path, somebody: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    monkeypatch.setenv("XDG_CACHE_HOME", "/root/.cache")
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.delenv("LOGNAME", raising=False)
    before, environment = rights(), dict(os.environ)
    for _ in range(2):
        with as_project_owner(their_project) as problem:
            assert problem is None
            assert rights()[:2] == (somebody.pw_uid, somebody.pw_gid)
            assert os.environ["HOME"] == somebody.pw_dir
            assert os.environ["LOGNAME"] == somebody.pw_name
            assert not any(name.startswith("XDG_") for name in os.environ)
            (their_project / "file").write_text("theirs")
            # Within, it is not done once more, and nothing else is needed.
            assert not privileges.needs_identity()
            with as_project_owner(Path("/")):
                assert os.geteuid() == somebody.pw_uid
        assert (rights(), dict(os.environ)) == (before, environment)
    assert (their_project / "file").stat().st_uid == somebody.pw_uid


@root
@pytest.mark.usefixtures("readable_python")
def test_programs_are_the_owner_for_good_with_all_groups(
    their_project: Path, somebody: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 54321])
    with as_project_owner(their_project):
        said = run(sh("id -ru; id -u; id -g; id -G; echo $HOME")).output.splitlines()
    uid, gid = str(somebody.pw_uid), str(somebody.pw_gid)
    assert said[:3] == [uid, uid, gid]
    assert set(said[3].split()) == {gid, "54321"}
    assert said[4] == somebody.pw_dir


@root
@pytest.mark.usefixtures("readable_python")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_root_is_root_again_after_an_error(their_project: Path, error: type[BaseException]) -> None:
    before, environment = rights(), dict(os.environ)
    with pytest.raises(error), as_project_owner(their_project):
        raise error
    assert (rights(), dict(os.environ)) == (before, environment)


@root
def test_root_stays_root_where_the_owner_cannot_read_our_python(
    their_project: Path, somebody: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/root/venv/bin/python")
    with as_project_owner(their_project) as problem:
        assert os.geteuid() == 0
    assert problem is not None
    assert f"{their_project} belongs to {somebody.pw_name}" in problem
    assert "may not read /root/venv/bin/python" in problem


@root
def test_root_stays_root_where_the_container_forbids_to_become_another(
    their_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(uid: int) -> None:
        if uid != 0:
            raise PermissionError(1, "Operation not permitted")

    before = rights()
    with monkeypatch.context() as patched:
        patched.setattr(os, "seteuid", forbidden)
        with as_project_owner(their_project) as problem:
            assert rights() == before
    assert problem is not None
    assert "does not let root become another" in problem
    assert rights() == before


@root
@pytest.mark.parametrize("uid", [0, NOBODY, 54321])
def test_root_stays_root_where_the_owner_is_no_normal_user(open_folder: Path, uid: int) -> None:
    """The overflow uid is what a container shows of owners that it does not know."""
    os.chown(open_folder, uid, -1)
    with as_project_owner(open_folder) as problem:
        assert (problem, os.geteuid()) == (None, 0)


@root
@pytest.mark.usefixtures("readable_python")
def test_root_goes_on_with_what_root_has_made(their_project: Path) -> None:
    state = their_project / "state"
    with as_project_owner(their_project, state):
        assert os.geteuid() != 0
    state.mkdir()
    with as_project_owner(their_project, state):
        assert os.geteuid() == 0


@not_root
def test_who_is_not_root_stays_who_he_is() -> None:
    before, environment = rights(), dict(os.environ)
    with as_project_owner(Path("/")) as problem:
        assert (problem, rights(), dict(os.environ)) == (None, before, environment)


# Servers


def socket_to(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


#: What Docker's seccomp profile does to us; everything else is real.
REFUSING = """
from django_dbdev.process import privileges
def refuse(inner):
    def enter():
        raise PermissionError(1, "user namespaces are not allowed: Operation not permitted")
    return enter
privileges._namespace_entry = refuse
"""


@pytest.fixture
def open_project(
    open_folder: Path, new_project: ProjectFactory, server_account: Identity
) -> Project:
    """A project, and its store, that a server's own account can reach."""
    project = new_project(str(open_folder / "project"))
    closed = reachable_by(server_account.uid, [], project.store.parent)
    if closed is not None:
        pytest.skip(f"the tests' store is below {closed}, which is closed")
    return project


@root
def test_a_server_with_an_account_of_its_own(
    open_project: Project, server_account: Identity
) -> None:
    project = open_project
    project.write("manage.py", REFUSING + MANAGE)
    project.manage("dbdev_init", umask=0o077).ok()
    assert project.server().uids().real == server_account.uid
    owners = {path.lstat().st_uid for path in (project.datadir, *project.datadir.rglob("*"))}
    assert owners == {server_account.uid}
    assert mode(project.datadir) == 0o700
    # Only the way is open.
    assert mode(project.tempdata) == 0o711
    passwords = project.tempdata / "PostgresBackend.pgpass"
    assert (passwords.stat().st_uid, mode(passwords)) == (0, 0o600)
    project.query("CREATE TABLE kept AS SELECT 1 AS one")
    # On a machine that allows namespaces the data stays with the account.
    project.write("manage.py", MANAGE)
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    assert project.server().uids().real == server_account.uid
    assert project.query("SELECT * FROM kept") == [(1,)]


@root
@namespaces
def test_a_cluster_from_a_namespace_starts_where_namespaces_are_forbidden(
    open_project: Project, server_account: Identity
) -> None:
    project = open_project
    project.manage("dbdev_init").ok()
    assert project.server().uids().real == 0
    project.query("CREATE TABLE kept AS SELECT 1 AS one")
    project.manage("dbdev_stopserver").ok()
    project.write("manage.py", REFUSING + MANAGE)
    project.manage("dbdev_startserver").ok()
    assert project.server().uids().real == server_account.uid
    assert project.query("SELECT * FROM kept") == [(1,)]


#: What root may do in a container by default: it does not see where others' processes work.
CONTAINERS = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,"
    "sys_chroot,mknod,audit_write,setfcap"
)


@root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not here")
def test_an_ephemeral_server_where_root_may_do_little(open_project: Project) -> None:
    project = open_project
    manage = project.write("manage.py", REFUSING + MANAGE)
    waiter = project.write("waiter.py", WAITER)
    kept = "-all," + ",".join(f"+{name}" for name in CONTAINERS.split(","))
    command = [
        *("setpriv", "--bounding-set", kept, "--inh-caps", "-all", sys.executable, str(manage)),
        *("dbdev_run", "--ephemeral", "--", sys.executable, str(waiter)),
    ]
    for number, status in ((signal.SIGTERM, 40 + signal.SIGTERM), (signal.SIGKILL, -9)):
        process = subprocess.Popen(
            command, env=project.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "ready\n", said + process.communicate()[1]
        assert ephemeral_pid(project)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == status
        wait_until(lambda: is_gone(project))


@root
def test_a_closed_folder_is_named(
    new_project: ProjectFactory, server_account: Identity, tmp_path: Path
) -> None:
    closed = reachable_by(server_account.uid, [], tmp_path)
    project = new_project()
    assert closed is not None, "pytest's folders are open to everybody"
    project.write("manage.py", REFUSING + MANAGE)
    failed = project.manage("dbdev_init").failed(4)
    assert f"  - as {server_account.account}: it may not enter {closed}\n" in failed.err
    assert mode(project.tempdata) == 0o700
    assert not project.datadir.exists()


@root
def test_the_socket_is_closed_to_every_other_account(
    open_project: Project, somebody: pwd.struct_passwd
) -> None:
    project = open_project
    project.manage("dbdev_init").ok()
    path = Path(project.info()["socket"])
    superuser = f"host={path.parent} port={project.port()} dbname=postgres user=postgres"
    with psycopg.connect(superuser) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    theirs = (somebody.pw_uid, somebody.pw_gid, [somebody.pw_gid])
    with acting_as(*theirs), pytest.raises(PermissionError):
        socket_to(path)
    # Even where somebody has opened the way: the server asks the kernel who that is.
    for folder in (project.tempdata, path.parent):
        folder.chmod(0o711)
    path.chmod(0o777)
    with acting_as(*theirs):
        socket_to(path).close()
        with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
            psycopg.connect(superuser)


@root
def test_commands_called_twice_in_one_process_leave_root_as_it_was(
    open_project: Project, somebody: pwd.struct_passwd
) -> None:
    project = open_project
    with acting_as(somebody.pw_uid, somebody.pw_gid, []):
        unreadable = privileges._unreadable()
    if unreadable is not None:
        pytest.skip(f"the Python that runs the tests is root's own: {unreadable}")
    script = """
        import os, sys
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        sys.path.insert(0, os.path.dirname(__file__))
        import django
        django.setup()
        from django.core.management import CommandError, call_command
        def say(what):
            print(what, os.geteuid(), os.getegid(), os.getgroups() == groups, os.environ["HOME"])
        groups = os.getgroups()
        for command in ("dbdev_serverinfo", "dbdev_stopserver", "dbdev_serverinfo"):
            call_command(command, verbosity=0)
            say(command)
        try:
            call_command("dbdev_startserver")
        except CommandError as error:
            say("failed")
        call_command("dbdev_stopserver")
        say("stopped")
    """
    file = project.write("twice.py", script)
    for path in (project.root, *project.root.rglob("*")):
        os.chown(path, somebody.pw_uid, somebody.pw_gid)
    done = run(
        Command(
            PYTHON,
            (str(file),),
            {**project.env(), "HOME": "/root", "DBDEV_STORE": str(project.root / "s")},
        )
    )
    said = [line for line in done.output.splitlines() if line.endswith("/root")]
    assert [line.split()[1:] for line in said] == [["0", "0", "True", "/root"]] * 5
    assert "failed" in said[3]


SQLITE = """
from django_dbdev.backends.sqlite import DBSETTINGS

SECRET_KEY = "for tests"
INSTALLED_APPS = ["django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""


@pytest.fixture
def tested_project(
    open_folder: Path, new_project: ProjectFactory, somebody: pwd.struct_passwd
) -> Project:
    """A normal user's project, with a test of who runs it."""
    project = new_project(str(open_folder / "project"), base=SQLITE)
    project.write("test_it.py", "import os\ndef test_it():\n    assert os.geteuid() == 0\n")
    for path in (project.root, *project.root.rglob("*")):
        os.chown(path, somebody.pw_uid, somebody.pw_gid)
    return project


def pytest_of_root(project: Project, how: str) -> str:
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django", f"--dbdev={how}")
    environment = project.env(
        DBDEV_STORE=str(project.root / "s"), DJANGO_SETTINGS_MODULE="settings"
    )
    return run(Command(PYTHON, words, environment, cwd=project.root)).output


@root
@pytest.mark.parametrize("how", ["project", "ephemeral"])
def test_root_runs_tests_in_a_normal_users_project(
    tested_project: Project, somebody: pwd.struct_passwd, how: str
) -> None:
    with acting_as(somebody.pw_uid, somebody.pw_gid, []):
        unreadable = privileges._unreadable()
    if unreadable is not None:
        pytest.skip(f"the Python that runs the tests is root's own: {unreadable}")
    assert "1 passed" in pytest_of_root(tested_project, how)
    state = tested_project.tempdata
    assert {path.lstat().st_uid for path in (state, *state.rglob("*"))} == {somebody.pw_uid}


@root
def test_tests_that_root_runs_say_what_becomes_roots(tested_project: Project) -> None:
    tested_project.write(
        "conftest.py",
        "from django_dbdev.process import privileges\nprivileges._unreadable = lambda: '/a/file'\n",
    )
    said = pytest_of_root(tested_project, "project")
    assert "may not read /a/file: what is made there now will be root's" in said
