"""Ports and the processes behind them, as this machine really has them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from django_dbdev.process import ports, processes
from django_dbdev.process.command import Command
from django_dbdev.process.privileges import acting_as, dedicated_identity
from django_dbdev.process.run import run, spawn

OURSELVES = f"(pid {os.getpid()}, user {psutil.Process().username()})"
UNKNOWN = "another process (of another user, or in another namespace)"
SILENT = "another process (the system does not tell which)"

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
linux = pytest.mark.skipif(sys.platform != "linux", reason="how Linux has it")


def listening(address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family)
    # As PostgreSQL does.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((address, port))
    except OSError:
        server.close()
        pytest.skip(f"this machine has no {address}")
    server.listen()
    return server


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(listening(ports.LOOPBACK)) as server:
        yield server


@pytest.fixture
def port(server: socket.socket) -> int:
    return int(server.getsockname()[1])


# Ports


def test_a_port_that_is_taken(server: socket.socket, port: int) -> None:
    assert not ports.is_free(port)
    server.close()
    assert ports.is_free(port)


def test_lingering_connections_do_not_take_a_port(server: socket.socket, port: int) -> None:
    with closing(socket.create_connection((ports.LOOPBACK, port))) as client:
        accepted, _ = server.accept()
        # Who closes first is left with a connection that lingers.
        accepted.close()
        client.recv(1)
    server.close()
    assert ports.is_free(port)


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_port_of_all_addresses_is_taken(address: str) -> None:
    with closing(listening(address)) as server:
        port = server.getsockname()[1]
        if address == "::" and ports.is_free(port):
            pytest.skip("IPv6 is apart from IPv4 here")
        assert not ports.is_free(port)
        assert ports.owner(port).endswith(OURSELVES)


@linux
def test_a_port_of_another_address_is_not_in_the_way() -> None:
    with closing(listening("127.0.0.2")) as server:
        port = server.getsockname()[1]
        assert ports.is_free(port)
        assert ports.owner(port) == UNKNOWN


def test_the_first_that_is_free(port: int) -> None:
    with closing(listening(ports.LOOPBACK)) as other:
        free = other.getsockname()[1]
    assert ports.first_free([port, free]) == free
    assert ports.first_free([port]) is None


# Who has a port


def test_the_owner_is_named(port: int) -> None:
    assert ports.owner(port) == f"{psutil.Process().name()} {OURSELVES}"


def test_nobody_has_it() -> None:
    with closing(listening(ports.LOOPBACK)) as server:
        port = server.getsockname()[1]
    assert ports.owner(port) == UNKNOWN


@root
@linux
def test_who_is_not_root_is_told_nothing_of_anothers() -> None:
    script = (
        "import socket, sys; server = socket.create_server(('127.0.0.1', 0)); "
        "print(server.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert f"(pid {process.pid}, user root)" in ports.owner(port)
        with acting_as(65534, 65534, []):
            assert ports.owner(port) == UNKNOWN


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), PermissionError(), FileNotFoundError()])
def test_a_system_that_tells_nothing(
    port: int, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """macOS tells nobody but root; sandboxes have no /proc/net/tcp."""

    def refuse(kind: str) -> None:
        raise error

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert ports.owner(port) == SILENT


@pytest.mark.parametrize("error", [psutil.NoSuchProcess(1), psutil.AccessDenied(1), OSError()])
def test_an_owner_that_cannot_be_looked_at(
    port: int, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(pid: int) -> None:
        raise error

    monkeypatch.setattr(psutil, "Process", refuse)
    assert ports.owner(port) == UNKNOWN


@root
@linux
def test_an_owner_in_another_pid_namespace(tmp_path: Path) -> None:
    """As a container's process on the host's network looks from another container."""
    unshare = Path("/usr/bin/unshare")
    probe = Command(unshare, ("--pid", "--fork", "--mount-proc", "true"))
    if not unshare.exists() or run(probe, check=False).status != 0:
        pytest.skip("no other pid namespace can be made here")
    with closing(listening(ports.LOOPBACK)) as server:
        script = "import sys; from django_dbdev.process import ports; print(ports.owner({}))"
        ask = (sys.executable, "-c", script.format(server.getsockname()[1]))
        said = run(Command(unshare, ("--pid", "--fork", "--mount-proc", *ask))).output
    assert said == f"{UNKNOWN}\n"


# Processes


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "300"], cwd="/") as process:
        yield process
        process.kill()


def test_a_process_is_found_and_described(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(sleeper.pid)
    assert found is not None
    assert str(found) == f"sleep (pid {sleeper.pid}, user {psutil.Process().username()})"
    assert found.cwd == Path("/")
    assert abs(found.started - time.time()) < 60


def test_a_process_that_ended_is_not_there(tmp_path: Path) -> None:
    spawned = spawn(Command(Path("/bin/true")), tmp_path / "log")
    deadline = time.monotonic() + 10
    while processes.is_alive(spawned.pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert processes.find(spawned.pid) is None


def test_a_zombie_is_not_there(sleeper: subprocess.Popen[bytes]) -> None:
    """Of a parent that does not look after it."""
    script = "import os, time; pid = os.fork()\nif pid: print(pid, flush=True); time.sleep(300)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        zombie = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while psutil.Process(zombie).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert processes.find(zombie) is None
        parent.kill()


def test_it_is_signalled_and_waited_for(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(sleeper.pid)
    assert found is not None
    assert not found.wait_gone(0.01)
    found.signal(signal.SIGTERM)
    assert found.wait_gone(10)
    found.signal(signal.SIGTERM)


@root
@linux
def test_the_folder_of_anothers_process_is_known_without_roots_full_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root in a container lacks CAP_SYS_PTRACE: only the process's own account may look."""
    account = dedicated_identity()
    if account is None:
        pytest.skip("there is neither an account postgres nor nobody")
    real: Any = psutil.Process.cwd

    def cwd(self: psutil.Process) -> str:
        if os.geteuid() == 0:
            raise psutil.AccessDenied(self.pid)
        told: str = real(self)
        return told

    monkeypatch.setattr(psutil.Process, "cwd", cwd)
    spawned = spawn(
        Command(Path("/bin/sleep"), ("300",), cwd=Path("/usr")), tmp_path / "log", identity=account
    )
    try:
        found = processes.find(spawned.pid)
        assert found is not None
        assert (found.cwd, found.user) == (Path("/usr"), account.account)
        assert os.geteuid() == 0
    finally:
        os.kill(spawned.pid, signal.SIGKILL)


def test_a_process_whose_folder_is_not_told(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: psutil.Process) -> str:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "cwd", refuse)
    found = processes.find(sleeper.pid)
    assert found is not None
    assert found.cwd is None
