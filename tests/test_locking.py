"""One command at a time: locks that are held by real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_dbdev.exceptions import BusyError
from django_dbdev.process import locking
from django_dbdev.process.locking import exclusive

HOLD = """
import sys, time
from pathlib import Path
from django_dbdev.process.locking import exclusive
with exclusive(Path(sys.argv.pop())):
    print("held", flush=True)
    sys.stdin.read()
"""


class Recorder:
    """A reporter that remembers; a lock tells nothing but facts."""

    def __init__(self) -> None:
        self.facts: list[str] = []

    def fact(self, text: str) -> None:
        self.facts.append(text)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "Server.lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "dbdev_reinit", str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_it_nests_within_one_process_and_is_free_afterwards(lock: Path) -> None:
    with exclusive(lock), exclusive(lock):
        # The inner one's end does not free the outer one.
        with exclusive(lock):
            pass
        assert not is_free(lock)
    assert is_free(lock)


def test_it_is_freed_by_an_error(lock: Path) -> None:
    with pytest.raises(KeyboardInterrupt), exclusive(lock):
        raise KeyboardInterrupt
    assert is_free(lock)


def is_free(lock: Path) -> bool:
    """Whether another process could have the lock now."""
    script = (
        "import sys; from pathlib import Path\n"
        "from django_dbdev.exceptions import BusyError\n"
        "from django_dbdev.process.locking import exclusive\n"
        "try:\n"
        "    with exclusive(Path(sys.argv[1]), timeout=0.05): print('free')\n"
        "except BusyError: print('busy')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(lock)], capture_output=True, text=True, check=True
    )
    return done.stdout == "free\n"


def test_who_holds_it_is_named(lock: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(BusyError) as caught, exclusive(lock, timeout=0.1):
        pytest.fail("two held it at once")
    assert caught.value.message == (
        f"pid {holder.pid} (-c dbdev_reinit) still holds the lock {lock} after 0 s."
    )
    assert caught.value.hints


@pytest.mark.usefixtures("holder")
def test_a_holder_that_has_not_said_who_it_is(lock: Path) -> None:
    lock.with_name(f"{lock.name}.holder").unlink()
    with pytest.raises(BusyError, match="another command still holds"), exclusive(lock, timeout=0):
        pytest.fail("two held it at once")


def test_a_waiting_command_says_for_whom_and_goes_on(
    lock: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_SAID_AFTER", 0.1)
    assert holder.stdin is not None
    threading.Timer(0.4, holder.stdin.close).start()
    reporter: Any = Recorder()
    started = time.monotonic()
    with exclusive(lock, reporter=reporter):
        waited = time.monotonic() - started
    assert reporter.facts == [f"Waiting for pid {holder.pid} (-c dbdev_reinit)"]
    assert 0.3 < waited < 20


def test_a_short_wait_is_not_told(lock: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    threading.Timer(0.1, holder.stdin.close).start()
    reporter: Any = Recorder()
    with exclusive(lock, reporter=reporter):
        pass
    assert reporter.facts == []


def test_it_is_freed_when_the_holder_is_killed(lock: Path, holder: subprocess.Popen[str]) -> None:
    assert not is_free(lock)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with exclusive(lock, timeout=5):
        pass


def test_programs_that_the_holder_started_do_not_hold_it(lock: Path, tmp_path: Path) -> None:
    """A server outlives the command that started it, and must not keep its lock."""
    script = (
        "import sys; from pathlib import Path\n"
        "from django_dbdev.process.command import Command\n"
        "from django_dbdev.process.locking import exclusive\n"
        "from django_dbdev.process.run import spawn\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print(spawn(Command(Path('/bin/sleep'), ('300',)), Path(sys.argv[2])).pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(lock), str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        assert is_free(lock)
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_whoever_bears_a_name_that_is_no_text(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", os.fsdecode(b"caf\xe9")])
    with exclusive(lock):
        assert lock.with_name(f"{lock.name}.holder").read_text() == f"{os.getpid()} pytest caf?\n"


def test_its_files_are_ours_alone(lock: Path) -> None:
    before = os.umask(0)
    try:
        with exclusive(lock):
            files = [lock, lock.with_name("Server.lock.holder")]
            assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
            assert files[1].read_text().startswith(f"{os.getpid()} ")
    finally:
        os.umask(before)
