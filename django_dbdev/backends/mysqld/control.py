"""Starting and stopping MariaDB and MySQL, and knowing whether they run."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import ClassVar

from ...binaries.toolchain import Toolchain
from ...exceptions import ServerError
from ...process.command import Command
from ..server.control import Recorded, ServerControl, read_pid
from . import commands, sql
from .files import MySqlFiles

#: Our own account, by which the server is administered over its socket.
ADMIN = "dbdev_admin"
_OPTION = re.compile(r'^(port|socket) = "?(.*?)"?$', re.MULTILINE)


class MySqlControl(ServerControl):
    files: MySqlFiles
    names: ClassVar[tuple[str, ...]] = ("mariadbd", "mysqld")
    #: They ignore SIGINT. A kill would cost nothing that is committed, and the data goes anyway.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    discard_signal: ClassVar[signal.Signals] = signal.SIGKILL
    abandon_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGKILL)
    #: A server that is still starting or stopping, whose command was killed.
    remains_left: ClassVar[tuple[str, ...]] = (
        "Unable to lock ./ibdata1",
        "Can't lock aria control file",
        "Another process with pid",
    )

    def __init__(self, files: MySqlFiles, title: str) -> None:
        super().__init__(files, title)

    @property
    def pid_file(self) -> Path:
        return self.files.pid_file

    def recorded(self) -> Recorded | None:
        """The pid by the server's own file, the rest by the options that it was started with."""
        try:
            pid = read_pid(self.pid_file.read_text("ascii"))
            options = dict(_OPTION.findall(self.files.local.read_text("utf-8", "surrogateescape")))
            socket = Path(options["socket"].replace("\\\\", "\\"))
            return Recorded(pid, int(options["port"]), socket.parent)
        except (OSError, ValueError, LookupError):
            return None

    def is_ready(self, pid: int) -> bool:
        recorded = self.recorded()
        if recorded is None or recorded.pid != pid:
            return False
        try:
            with sql.connect(self.admin(recorded)):
                return True
        except ServerError as error:
            # One that refuses us is up as well: a cluster from elsewhere has no such account.
            return sql.is_met(error)

    def admin(self, recorded: Recorded) -> sql.Login:
        """Our own account; the password is empty where the cluster has none yet."""
        try:
            password = self.files.admin.read_text("ascii").strip()
        except OSError:
            password = ""
        socket = recorded.socket_directory / self.files.socket(recorded.port).name
        return sql.Login(ADMIN, password, socket)

    def command(self, toolchain: Toolchain, *options: str) -> Command:
        return commands.server(toolchain, self.files.datadir, self.files.config, *options)

    def clear_stale(self, port: int) -> None:
        """The server itself takes over pid file and socket of one that is gone."""
