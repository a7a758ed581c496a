"""What a machine may lack, as any server meets it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.backups.helpers import fill, leftovers, numbers, root
from tests.backups.test_disks import leave, mounted, run
from tests.conftest import Project, Result, wait_until

MB = 1_000_000


def under(prefix: Sequence[str], project: Project, *args: str, **environment: str | None) -> Result:
    """A command behind a program such as unshare. None takes a variable out."""
    wanted = {**project.env(), **environment}
    done = subprocess.run(
        [*prefix, sys.executable, str(project.root / "manage.py"), *args],
        cwd=project.root,
        env={name: value for name, value in wanted.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def work_as_ever(prefix: Sequence[str], project: Project, dump: str) -> None:
    under(prefix, project, "dbdev_init").ok()
    fill(project, 1, 2)
    under(prefix, project, "dbdev_backup", "-n", "one").ok()
    fill(project, 3)
    under(prefix, project, "dbdev_createdump", dump).ok()
    under(prefix, project, "dbdev_restore", "--noinput", "-n", "one").ok()
    assert numbers(project) == [1, 2]
    under(prefix, project, "dbdev_loaddump", dump).ok()
    assert numbers(project) == [1, 2, 3]


def with_mounts(*commands: str) -> list[str]:
    """What runs a program with mounts of its own; skips where that is not allowed."""
    prefix = ["unshare", "--mount", "sh", "-ec", "; ".join((*commands, 'exec "$@"')), "sh"]
    if os.geteuid() != 0 or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this needs root, and leave to mount")
    return prefix


def read_only(folder: Path) -> str:
    return f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}"


def free_space_without_any(project: Project) -> None:
    project.manage("dbdev_backup").ok()
    leave(project, 0)
    project.manage("dbdev_clearbackups", "--noinput").ok()
    leave(project, 0)
    project.manage("dbdev_destroy", "--noinput").ok()
    assert not project.datadir.exists()


@contextmanager
def _with_quota(project: Project, folder: Path) -> Iterator[Callable[[int | None], None]]:
    """A btrfs at the project's state folder; what is given allows so many more bytes there."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed")
    image = folder / "quota.img"
    with image.open("wb") as file:
        file.truncate(1000 * MB)
    run("mkfs.btrfs", "-q", image)
    with mounted(project, "-o", "loop", image):
        run("btrfs", "quota", "enable", project.tempdata)

        def allow(free: int | None) -> None:
            # This too may meet the quota, until what is reserved was written.
            unlimit = ["btrfs", "qgroup", "limit", "none", str(project.tempdata)]
            wait_until(lambda: subprocess.run(unlimit, capture_output=True).returncode == 0)
            if free is not None:
                run("btrfs", "filesystem", "sync", project.tempdata)
                shown = run("btrfs", "qgroup", "show", "--raw", "-f", project.tempdata)
                used = int(shown.splitlines()[-1].split()[1])
                run("btrfs", "qgroup", "limit", str(used + free), project.tempdata)

        yield allow


def meet_a_quota(project: Project, folder: Path) -> None:
    with _with_quota(project, folder) as allow:
        allow(4 * MB)
        failed = project.manage("dbdev_init").failed(1)
        assert f"{project.tempdata}/" in failed.err
        assert "Disk quota exceeded" in failed.err
        assert "hint: free some space" in failed.err
        assert not project.datadir.exists()
        allow(None)
        project.manage("dbdev_init").ok()
        fill(project, 1, 2)
        project.manage("dbdev_createdump", "two.sql").ok()

        for command in (
            ("dbdev_backup",),
            ("dbdev_loaddump", "two.sql"),
            ("dbdev_reinit", "--noinput"),
        ):
            allow(4 * MB)
            done = project.manage(*command)
            # Clones are counted late: this one may fit.
            if command != ("dbdev_backup",) or done.status != 0:
                assert "Disk quota exceeded" in done.failed().err
                assert f"{project.tempdata}" in done.err
            assert leftovers(project) == []
            # The server may have met the quota as well: it goes down then, and recovers.
            allow(None)
            project.manage("dbdev_startserver").ok()
            wait_until(lambda: project.manage("dbdev_serverinfo").status == 0)
            assert numbers(project) == [1, 2]


def without_privileges() -> list[str]:
    """What runs a program that permissions hold, as they do not hold root."""
    if os.geteuid() != 0:
        return []
    dropped = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("this root does not give up its privileges")
    return prefix


def meet_closed_folders(project: Project) -> None:
    prefix = without_privileges()
    under(prefix, project, "dbdev_init").ok()
    fill(project, 1, 2)
    under(prefix, project, "dbdev_backup", "-n", "one").ok()
    under(prefix, project, "dbdev_createdump", "two.sql").ok()
    kept, other = root(project), project.root / "other"
    other.mkdir()
    for closed, command in (
        (kept, ("dbdev_backup",)),
        (kept, ("dbdev_restore", "--noinput", "-n", "one")),
        (kept, ("dbdev_clearbackups", "--noinput")),
        (project.tempdata, ("dbdev_reinit", "--noinput")),
        (project.tempdata, ("dbdev_restore", "--noinput", "-n", "one")),
        (project.tempdata, ("dbdev_loaddump", "two.sql")),
        (project.tempdata, ("dbdev_destroy", "--noinput")),
        (other, ("dbdev_createdump", "other/two.sql")),
    ):
        closed.chmod(0o500)
        failed = under(prefix, project, *command).failed()
        closed.chmod(0o700)
        assert str(closed) in failed.err, (closed, command)
        assert "Permission denied" in failed.err or "cannot be written to" in failed.err
        assert leftovers(project) == []
        under(prefix, project, "dbdev_startserver").ok()
        assert numbers(project) == [1, 2]
    (project.root / "two.sql").chmod(0)
    failed = under(prefix, project, "dbdev_loaddump", "two.sql").failed(5)
    assert "two.sql cannot be read: Permission denied" in failed.err
    for closed in (kept, project.tempdata, project.datadir):
        closed.chmod(0)
        assert "Traceback" not in under(prefix, project, "dbdev_listbackups").err
        under(prefix, project, "dbdev_stopserver")
        under(prefix, project, "dbdev_startserver")
        closed.chmod(0o700)
        under(prefix, project, "dbdev_startserver").ok()
        assert numbers(project) == [1, 2]
    under(prefix, project, "dbdev_restore", "--noinput", "-n", "one").ok()


def do_without_home_and_xdg(project: Project) -> None:
    gone: dict[str, str | None] = {
        **{name: None for name in os.environ if name.startswith("XDG_")},
        "HOME": None,
        "TMPDIR": "/nonexistent",
    }
    under([], project, "dbdev_init", **gone).ok()
    under([], project, "dbdev_backup", **gone).ok()
    under([], project, "dbdev_createdump", "one.sql.gz", **gone).ok()
    under([], project, "dbdev_loaddump", "one.sql.gz", **gone).ok()
    gone["HOME"] = "/nonexistent"
    under([], project, "dbdev_restore", "--noinput", **gone).ok()
    under([], project, "dbdev_destroy", "--noinput", **gone).ok()


def do_without_tmp(project: Project) -> None:
    here = project.root.resolve()
    closed = ["mount -t tmpfs -o ro,mode=555 tmpfs /var/tmp"]
    if here.is_relative_to("/tmp"):
        # The project's mount is below the one that hides it.
        closed = [
            closed[0],
            f"mount --bind {here} /mnt",
            "mount --bind /tmp /tmp",
            f"mount --bind /mnt {here}",
            "mount -o remount,ro,bind /tmp",
        ]
    else:
        closed.append("mount -t tmpfs -o ro,mode=555 tmpfs /tmp")
    prefix = with_mounts(*closed, f"cd {here}")
    probe = subprocess.run([*prefix, "sh", "-c", "! touch /tmp/probe && touch here"], cwd=here)
    assert probe.returncode == 0
    work_as_ever(prefix, project, "one.sql.gz")


def lose_what_was_not_written(project: Project, datadir: Path, name: str) -> None:
    """A power cut can leave files of a cluster that is seconds old empty; nobody else does."""
    project.manage("dbdev_init").ok()
    fill(project, 1, 2)
    project.manage("dbdev_backup", "-n", "one").ok()
    for way_out in (("dbdev_restore", "--noinput", "-n", "one"), ("dbdev_reinit", "--noinput")):
        project.manage("dbdev_stopserver").ok()
        os.truncate(datadir / name, 0)
        for command in ("dbdev_init", "dbdev_startserver", "dbdev_doctor"):
            failed = project.manage(command).failed(1 if command == "dbdev_doctor" else 4)
            assert f"is not whole: {name} is empty" in failed.all
            assert way_out[0] in failed.all
        project.manage(*way_out).ok()
        assert project.manage("dbdev_doctor").ok()
