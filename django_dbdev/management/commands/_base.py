"""What all commands of django_dbdev share."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from ... import conf
from ...backends.base import BaseDbdevBackend
from ...exceptions import ConfigurationError, DbdevError
from ...process.privileges import as_project_owner, whose
from ...registry import backendregistry
from ...servers import Caller, servers_of
from ..console import Console


class BaseDbdevCommand(BaseCommand):
    """A command that works on one alias; subclasses override :meth:`dbdev_handle`.

    After the arguments are parsed it knows ``alias``, ``server_name``, ``server_aliases``,
    ``reporter`` and ``options``, which backends read.
    """

    # The commands must run where checks fail: they are what mends that.
    requires_system_checks = ()
    #: Whether what is printed is what was asked for, and so is printed at verbosity 0 as well.
    prints_result = False
    #: The alias to work with where --database names none; None for all of them.
    default_alias: ClassVar[str | None] = "default"

    alias: str
    server_name: str
    server_aliases: tuple[str, ...]
    reporter: Console
    options: dict[str, Any]

    def run_from_argv(self, argv: list[str]) -> None:
        # Collecting all of Django's objects before the process ends is a good part of a command.
        atexit.register(gc.freeze)
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default=self.default_alias,
            metavar="ALIAS",
            help="The alias in DATABASES to work with. "
            f"Default: {self.default_alias or 'all of them'}.",
        )
        self.add_extra_arguments(parser)

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        """Subclasses add arguments of their own here."""

    def handle(self, *args: Any, **options: Any) -> None:
        self.options = options
        verbosity = options["verbosity"]
        if verbosity == 0 and not self.prints_result:
            self.stdout = OutputWrapper(io.StringIO())
        self.reporter = Console(self.stdout, self.stderr, self.style, verbosity)
        with self._errors_told(), _ended_as_by_ctrl_c():
            owner = as_project_owner(conf.project_root()[0], conf.tempdata())
            with owner as problem, self.reporter.programs_shown():
                if problem is not None:
                    self.reporter.warning(problem)
                for folder in (conf.project_root()[0], conf.tempdata()):
                    _check_is_text(folder)
                if options["database"] is not None:
                    self._know_alias(options["database"])
                self.dbdev_handle()
            self.last_step()

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Turn what is raised into the words of a command."""
        try:
            yield
        except DbdevError as error:
            raise CommandError(str(error), returncode=error.exit_status) from error
        except NotImplementedError as error:
            raise CommandError(
                f"The backend of {settings.DATABASES[self.alias]['ENGINE']} does not do this."
            ) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            hint = ""
            if error.filename and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                hint = f"\nhint: {whose(Path(error.filename))}django_dbdev needs to write there"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = (
                    "\nhint: free some space (dbdev_clearbackups and dbdev_store prune do), "
                    "then run this again"
                )
            raise CommandError(f"{where}{error.strerror or error}{hint}") from error
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            raise CommandError(
                "Interrupted. What is unfinished is mended by the next command.",
                returncode=128 + number,
            ) from None

    def _know_alias(self, alias: str) -> None:
        conf.database(alias)
        self.alias = alias
        server = backendregistry.server_of(alias, conf.databases())
        self.server_name, self.server_aliases = server.name, server.aliases

    def dbdev_handle(self) -> None:
        """What the command does."""
        raise NotImplementedError

    def last_step(self) -> None:
        """What a command does at its very end, as whoever called it."""

    @property
    def dbdev_backends(self) -> list[BaseDbdevBackend]:
        """A backend for each server: that of the alias, or of all where none is chosen."""
        chosen = self.options["database"]
        caller = Caller(self.stdout, self.stderr, self.reporter, self.options)
        return servers_of([chosen] if chosen else list(conf.databases()), caller)

    @property
    def dbdev_backend(self) -> BaseDbdevBackend:
        """A new backend object for the alias."""
        backend = backendregistry.for_engine(conf.database(self.alias)["ENGINE"])
        return backend(self)

    def confirm(self, question: str) -> None:
        """Ask before something is lost; ``--noinput`` does not ask.

        :raises CommandError: when the answer is not yes, or there is nobody to ask.
        """
        if not self.options.get("interactive", True):
            return
        try:
            answer = input(f"{question}\nType 'yes' to go on: ")
        except EOFError:
            answer = ""
        if answer.strip().lower() != "yes":
            raise CommandError("Nothing was changed. (--noinput does it without asking.)")


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the block as Ctrl-C does.

    Else a server would stay down that was stopped for a moment.
    """

    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        # One is enough, and what it has begun to mend is not to be cut off.
        if not came:
            came.append(number)
            raise KeyboardInterrupt(number)

    ending: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        both = (signal.SIGTERM, signal.SIGHUP)
        ending = [each for each in both if signal.getsignal(each) is signal.SIG_DFL]
    for each in ending:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in ending:
            if signal.getsignal(each) is end:
                signal.signal(each, signal.SIG_DFL)


def _check_is_text(folder: Path) -> None:
    """Refuse a path that could not be written into configuration, URLs and messages."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"The path {str(folder)!a} is not UTF-8 text.", hints=["rename the folder"]
        ) from None
    if len(str(folder).splitlines()) > 1:
        # PostgreSQL counts the lines of its pid file, of which this would be several.
        raise ConfigurationError(
            f"The path {str(folder)!a} has a line break in it.", hints=["rename the folder"]
        )


def add_noinput(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--noinput",
        "--no-input",
        action="store_false",
        dest="interactive",
        help="Do not ask before data is removed.",
    )


def add_provisioning(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--locked",
        action="store_true",
        help="Fail rather than use programs that dbdev.lock does not name. Also DBDEV_LOCKED=1.",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="Fetch nothing: use what the store has. Also DBDEV_OFFLINE=1.",
    )
