"""Programs that are really run: what they say, how they end, and what is left of them."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import IO

import filelock
import psutil
import pytest

from django_dbdev.exceptions import ProgramError
from django_dbdev.process import processes
from django_dbdev.process.command import Command
from django_dbdev.process.run import Spawned, _uninterrupted, run, spawn
from tests.conftest import wait_until

SH = Path("/bin/sh")
PYTHON = Path(sys.executable)


def sh(script: str, *args: str) -> Command:
    return Command(SH, ("-c", script, "sh", *args))


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def children() -> list[psutil.Process]:
    return psutil.Process().children()


# What a program says


def test_both_streams_are_kept_apart() -> None:
    completed = run(sh("echo out; echo err >&2; echo more"))
    assert (completed.status, completed.output, completed.errors) == (0, "out\nmore\n", "err\n")
    assert 0 < completed.duration < 10


def test_lines_come_while_the_program_runs() -> None:
    came: list[tuple[str, float]] = []
    started = time.monotonic()
    run(
        sh("echo one; sleep 0.4; echo two"),
        on_line=lambda line: came.append((line, time.monotonic() - started)),
    )
    assert [line for line, _ in came] == ["one\n", "two\n"]
    assert came[0][1] < 0.35 < came[1][1]


def test_what_a_listener_raises_is_raised_when_the_program_has_ended() -> None:
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        raise BrokenPipeError("nobody reads this any more")

    before = set(children())  # what other tests ended may not have been reaped yet
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        run(sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"), on_line=listen)
    assert lines == ["line 0\n"]
    assert set(children()) <= before


def test_much_output_on_both_streams_does_not_block() -> None:
    script = """
        import sys, threading
        def write(stream):
            for _ in range(100_000):
                stream.write("x" * 99 + "\\n")
            stream.flush()
        threads = [threading.Thread(target=write, args=[s]) for s in (sys.stdout, sys.stderr)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """
    completed = run(Command(PYTHON, ("-c", dedent(script))))
    assert (len(completed.output), len(completed.errors)) == (10_000_000, 10_000_000)


def test_a_line_without_end_and_bytes_that_are_no_text() -> None:
    assert len(run(sh("head -c 10000000 /dev/zero | tr '\\0' x")).output) == 10_000_000
    # The two bytes of é come apart; the first byte is none of UTF-8.
    assert run(sh("printf '\\377\\303'; sleep 0.05; printf '\\251'")).output == "\ufffdé"


@pytest.mark.parametrize(
    "args", [("",), ("a  b", "$HOME", "*"), ("ünï ☃ 日本",), ("--x=1", "-c", "%s"), ("'\"\\\n",)]
)
def test_arguments_arrive_as_they_are(args: tuple[str, ...]) -> None:
    script = "import sys, json; print(json.dumps(sys.argv[1:]))"
    completed = run(Command(PYTHON, ("-c", script, *args)))
    assert json.loads(completed.output) == list(args)


def test_standard_input(tmp_path: Path) -> None:
    assert run(Command(Path("/bin/cat"))).output == ""
    assert run(Command(Path("/bin/cat")), stdin="é\n" * 100_000).output == "é\n" * 100_000
    file = tmp_path / "file"
    file.write_text("from a file\n")
    with file.open("rb") as opened:
        assert run(Command(Path("/bin/cat")), stdin=opened).output == "from a file\n"


def test_standard_input_that_nobody_reads() -> None:
    assert run(sh("exit 3"), stdin="x" * 3_000_000, check=False).status == 3


def test_standard_output_into_a_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        completed = run(sh("echo out; echo err >&2"), stdout=file)
    assert (completed.output, completed.errors) == ("", "err\n")
    assert (tmp_path / "file").read_text() == "out\n"


def test_environment_and_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    monkeypatch.setenv("DBDEV_KEPT", "kept")
    command = Command(
        SH,
        ("-c", 'echo "$PGSERVICE,$DBDEV_KEPT,$DBDEV_NEW"; pwd'),
        environment={"DBDEV_NEW": "é"},
        hidden=("PG",),
        cwd=tmp_path,
    )
    assert run(command).output == f",kept,é\n{tmp_path.resolve()}\n"


# How it ends


def test_a_status_is_an_error_with_the_end_of_what_was_said() -> None:
    with pytest.raises(ProgramError) as caught:
        run(sh("seq 100; for i in $(seq 50); do echo problem $i >&2; done; exit 7"), failure="Oh.")
    error = caught.value
    assert error.status == 7
    assert error.message == "Oh. sh exited with status 7."
    assert error.output.splitlines()[0] == "problem 36"
    assert error.output.splitlines()[-1] == "problem 50"
    assert "it was run as: /bin/sh -c 'seq 100;" in str(error)


def test_a_signal_is_a_negative_status() -> None:
    assert run(sh("kill -TERM $$"), check=False).status == -signal.SIGTERM
    with pytest.raises(ProgramError, match="sh was ended by signal 9"):
        run(sh("kill -KILL $$"))


def test_standard_output_is_told_where_standard_error_is_empty() -> None:
    with pytest.raises(ProgramError) as caught:
        run(sh("echo said; exit 1"))
    assert caught.value.output == "said"


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, Path]:
    """Files that look like programs."""
    contents = {"no format": "garbage", "no interpreter": "#!/nowhere/sh\n", "no run bit": ""}
    for name, content in contents.items():
        file = tmp_path / name
        file.write_text(content)
        file.chmod(0o644 if name == "no run bit" else 0o755)
    return {name: tmp_path / name for name in (*contents, "nothing", ".")}


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nothing", 127, ""),
        (".", 127, ""),
        ("no run bit", 127, ""),
        ("no format", 126, "Exec format error"),
        ("no interpreter", 126, "No such file or directory"),
    ],
)
def test_a_program_that_cannot_be_run(
    broken: dict[str, Path], name: str, status: int, said: str, tmp_path: Path
) -> None:
    run(sh("true"))
    files, before = open_files(), set(children())
    for start in (run, lambda command: spawn(command, tmp_path / "log")):
        with pytest.raises(ProgramError) as caught:
            start(Command(broken[name]))
        assert caught.value.status == status
        assert str(broken[name]) in caught.value.message
        assert caught.value.output.startswith(said)
    assert set(children()) <= before
    assert open_files() == files


def test_a_working_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as caught:
        run(Command(SH, ("-c", "true"), cwd=tmp_path / "nothing"))
    assert "No such file or directory" in caught.value.output


def test_nothing_is_left_of_two_hundred_programs() -> None:
    run(sh("true"))
    files, before = open_files(), set(children())
    for _ in range(200):
        run(Command(Path("/bin/true")))
    assert open_files() == files
    assert set(children()) <= before
    assert threading.active_count() == 1 or not any(
        "STD" in thread.name for thread in threading.enumerate()
    )


# Threads


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads that import, allocate and log while others fork."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            json.loads(json.dumps([{"a": list(range(100))}]))
            "".join(random.choices("abc", k=100))
            time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("busy_threads")
def test_programs_run_where_there_are_threads() -> None:
    # Python 3.12 and later warn of every fork in a process that has threads.
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for number in range(20):
            assert run(sh("echo $1", str(number))).output == f"{number}\n"
    assert warned == []


def test_programs_run_in_threads() -> None:
    # On Python 3.12 and later it refuses that two threads fork at once.
    assert filelock.__version__
    before = set(children())
    said: list[str] = []

    def work(name: str) -> None:
        for number in range(10):
            said.append(run(sh("echo $1", f"{name} {number}")).output)

    threads = [threading.Thread(target=work, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == sorted(f"{name} {number}\n" for name in "abcd" for number in range(10))
    assert set(children()) <= before


# Interruptions


class Script:
    """A Python process of the test's own that runs programs, and can be interrupted."""

    def __init__(self, body: str) -> None:
        text = (
            "import os, signal, sys, time\n"
            "from pathlib import Path\n"
            "from django_dbdev.process.command import Command\n"
            "from django_dbdev.process.run import run, spawn\n"
            "def say(words): os.write(1, f'{words}'.rstrip().encode() + b'\\n')\n"
        ) + dedent(body)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def line(self, timeout: float = 20.0) -> str:
        """The next line that the script says; empty when it says none in time."""
        stream: IO[bytes] | None = self.process.stdout
        assert stream is not None
        if not select.select([stream], [], [], timeout)[0]:
            return ""
        # Byte by byte: what a buffer holds, select does not see.
        said = b""
        while not said.endswith(b"\n") and (byte := os.read(stream.fileno(), 1)):
            said += byte
        return said.decode().rstrip("\n")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors.decode()

    def clean_up(self) -> None:
        if self.process.returncode is None:
            for each in (*self.family(), psutil.Process(self.process.pid)):
                each.kill()
            self.end()


ScriptFactory = Callable[[str], Script]


@pytest.fixture
def new_script() -> Iterator[ScriptFactory]:
    made: list[Script] = []

    def make(body: str) -> Script:
        made.append(Script(body))
        return made[-1]

    yield make
    for script in made:
        script.clean_up()


def gone(family: list[psutil.Process]) -> bool:
    return all(
        not each.is_running() or each.status() == psutil.STATUS_ZOMBIE
        for each in family
        if psutil.pid_exists(each.pid)
    )


#: A program with a child of its own, both of which would run for minutes.
SLEEPERS = 'run(Command(Path("/bin/sh"), ("-c", "sleep 300 & echo up; wait")), on_line=say)'


def test_an_interruption_ends_the_program_and_its_children(new_script: ScriptFactory) -> None:
    """Only we get the signal here; a terminal's Ctrl-C goes to the programs as well."""
    script = new_script(f"""
        try:
            {SLEEPERS}
        except KeyboardInterrupt:
            say("interrupted")
    """)
    assert script.line() == "up"
    family = script.family()
    assert len(family) == 2
    script.process.send_signal(signal.SIGINT)
    assert script.line() == "interrupted", script.end()
    wait_until(lambda: gone(family))
    assert script.end() == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that we are gone")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_program_ends_with_us_when_we_are_killed(
    new_script: ScriptFactory, number: signal.Signals
) -> None:
    script = new_script(
        'run(Command(Path("/bin/sh"), ("-c", "echo $$; exec sleep 300")), on_line=say)'
    )
    (program,) = [psutil.Process(int(script.line()))]
    script.process.send_signal(number)
    assert script.end()[0] == -number
    wait_until(lambda: gone([program]))


def test_many_interruptions_at_any_moment_leave_nothing_behind(new_script: ScriptFactory) -> None:
    """Also between fork and exec, where the child is a copy of the caller."""
    script = new_script("""
        inside = False
        def interrupt(number, frame):
            if inside:
                raise KeyboardInterrupt
        signal.signal(signal.SIGINT, interrupt)
        me = os.getpid()
        say("ready")
        while True:
            try:
                inside = True
                run(Command(Path("/bin/sleep"), ("300",)))
            except KeyboardInterrupt:
                inside = False
                say("interrupted" if os.getpid() == me else "the child goes on as if it were us")
    """)
    assert script.line() == "ready"
    chance = random.Random(1)
    for _ in range(40):
        said = ""
        while not said:
            assert script.process.poll() is None, script.end()
            time.sleep(chance.uniform(0, 0.012))
            script.process.send_signal(signal.SIGINT)
            said = script.line(timeout=0.5)
        assert said == "interrupted"
    family = script.family()
    assert len(family) <= 1, family
    script.process.kill()
    script.end()
    wait_until(lambda: gone(family))


def test_an_interruption_is_held_back_and_not_lost() -> None:
    reached = []

    def work() -> None:
        with _uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_programs_can_be_interrupted_and_hear_a_hang_up() -> None:
    """The signals that are held back while it starts are not withheld from the program."""
    script = (
        "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), "
        "signal.getsignal(signal.SIGHUP) == signal.SIG_DFL, "
        "signal.getsignal(signal.SIGINT) == signal.default_int_handler)"
    )
    assert run(Command(PYTHON, ("-c", script))).output == "set() True True\n"


# Programs in the background


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def wait_ended(spawned: Spawned) -> None:
    wait_until(lambda: not spawned.is_alive())


def test_a_spawned_program_writes_to_its_log(log: Path) -> None:
    before = os.umask(0)
    try:
        spawned = spawn(sh("echo out; echo err >&2; exit 5"), log)
    finally:
        os.umask(before)
    wait_ended(spawned)
    assert spawned.status() == 5
    assert log.read_text() == "out\nerr\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    again = spawn(sh("echo again; kill -KILL $$"), log)
    wait_ended(again)
    assert again.status() == -signal.SIGKILL
    assert log.read_text() == "out\nerr\nagain\n"


def test_a_spawned_program_that_somebody_else_has_reaped(log: Path) -> None:
    spawned = spawn(sh("exit 5"), log)
    wait_until(lambda: not processes.is_alive(spawned.pid))
    wait_ended(spawned)
    assert spawned.status() in (None, 5)


def test_a_spawned_program_outlives_us_and_has_nothing_of_ours(
    new_script: ScriptFactory, tmp_path: Path, log: Path
) -> None:
    script = new_script(f"""
        held = open({str(tmp_path / "held")!r}, "w")
        os.set_inheritable(held.fileno(), True)
        command = Command(Path("/bin/sh"), ("-c", "echo up; exec sleep 300"))
        say(spawn(command, Path({str(log)!r})).pid)
    """)
    spawned = psutil.Process(int(script.line()))
    try:
        assert script.end() == (0, "")
        wait_until(lambda: spawned.name() == "sleep")
        assert os.getsid(spawned.pid) == spawned.pid
        if sys.platform == "linux":
            folder = Path(f"/proc/{spawned.pid}/fd")
            targets = {int(fd.name): os.readlink(fd) for fd in folder.iterdir()}
            assert targets == {0: os.devnull, 1: str(log), 2: str(log)}
        assert log.read_text() == "up\n"
    finally:
        spawned.kill()


def test_ctrl_c_does_not_reach_a_spawned_program(new_script: ScriptFactory, log: Path) -> None:
    script = new_script(f"""
        command = Command(Path("/bin/sleep"), ("300",))
        try:
            say(spawn(command, Path({str(log)!r})).pid)
            time.sleep(300)
        except KeyboardInterrupt:
            say("interrupted")
    """)
    spawned = psutil.Process(int(script.line()))
    try:
        # As a terminal does: to all that are in the foreground.
        os.killpg(script.process.pid, signal.SIGINT)
        assert script.line() == "interrupted"
        assert script.end() == (0, "")
        assert spawned.is_running()
        assert spawned.status() != psutil.STATUS_ZOMBIE
    finally:
        spawned.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that we are gone")
def test_a_spawned_program_can_be_tied_to_us(new_script: ScriptFactory, log: Path) -> None:
    script = new_script(f"""
        command = Command(Path("/bin/sleep"), ("300",))
        say(spawn(command, Path({str(log)!r}), ends_with_us=True).pid)
        time.sleep(300)
    """)
    spawned = psutil.Process(int(script.line()))
    script.process.kill()
    script.end()
    wait_until(lambda: gone([spawned]))
