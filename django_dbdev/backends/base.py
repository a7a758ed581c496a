"""The published contract for backends.

settings.py may import a custom backend, and with it this module: nothing here needs Django to
be set up before a method is called, and nothing slow is imported.
"""

from __future__ import annotations

import glob
import importlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import conf
from ..records import write_atomically
from ..reporting import SILENT, Reporter

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand, OutputWrapper

    from ..findings import Finding
    from .info import ServerInfo


class BaseDbdevBackend:
    """Abstract base class for dbdev backends.

    A backend overrides :meth:`init`, :meth:`destroy`, :meth:`run_database_server_in_foreground`,
    :meth:`start_database_server`, :meth:`stop_database_server`, :meth:`backup`,
    :meth:`restore` and :meth:`serverinfo`; its module has a dict ``DBSETTINGS``, and a Django
    template ``django_dbdev/<class name in lower case>.rst`` holds its guide.

    :param command: A Django management command. Always a subclass of
        ``django_dbdev.management.commands._base.BaseDbdevCommand``, which knows the alias.
    """

    #: Whether :meth:`info` tells in a structure what :meth:`serverinfo` prints.
    has_info: ClassVar[bool] = False
    #: What HOST may be in DATABASES for the alias's server to be one of this backend's.
    hosts: ClassVar[frozenset[str]] = frozenset({"", "127.0.0.1", "::1", "localhost"})
    #: Whether :meth:`create_dbdump` and :meth:`load_dbdump` read the command's options, take "-"
    #: for a standard stream, and lose nothing when they fail.
    has_dump_options: ClassVar[bool] = False
    #: Whether :meth:`restore` builds the new data beside the old, keeps the old as a backup, and
    #: reads the command's options; else the command makes a backup, and calls :meth:`reinit`.
    restores_beside: ClassVar[bool] = False
    #: Whether any other machine can restore what :meth:`backup` makes without --portable.
    backups_are_portable: ClassVar[bool] = False
    #: Whether aliases with the same HOST and PORT share one server, and so its backups.
    shares_server: ClassVar[bool] = True
    #: Whether there is a server that :meth:`bring_up` starts for a while.
    has_server: ClassVar[bool] = False
    #: Whether :meth:`examine` and :meth:`digests` tell of the server for ``dbdev_doctor``.
    has_examination: ClassVar[bool] = False
    #: Whether :meth:`upgrade` moves data along to another series of the server.
    has_upgrade: ClassVar[bool] = False
    #: Whether :meth:`lock` and :meth:`check_lock` keep the backend's programs in ``dbdev.lock``.
    has_lock: ClassVar[bool] = False

    def __init__(self, command: BaseCommand) -> None:
        self.command = command

    # What a backend does.

    def init(self) -> None:
        """Create the database and grant the required privileges to the database user."""
        raise NotImplementedError

    def destroy(self) -> None:
        """Remove all the files for the database, typically after stopping its server."""
        raise NotImplementedError

    def reinit(self) -> None:
        """Destroy and re-initialize."""
        self.destroy()
        self.init()

    def run_database_server_in_foreground(self) -> None:
        """Run the database server in the foreground."""
        raise NotImplementedError

    def start_database_server(self) -> None:
        """Start the database server in the background."""
        raise NotImplementedError

    def stop_database_server(self) -> None:
        """Stop the server that :meth:`start_database_server` started."""
        raise NotImplementedError

    def backup(self, directory: str) -> None:
        """Create a backup of the database in ``directory``."""
        raise NotImplementedError

    def restore(self, directory: str) -> None:
        """Restore a backup that :meth:`backup` created in ``directory``."""
        raise NotImplementedError

    def create_dbdump(self, dumpfile: str) -> None:
        """Write a dump of the database to ``dumpfile``. A backend need not have dumps."""
        raise NotImplementedError

    def load_dbdump(self, dumpfile: str) -> None:
        """Load the dump ``dumpfile`` into the database. A backend need not have dumps."""
        raise NotImplementedError

    def serverinfo(self) -> None:
        """Print information about the server, at least whether it runs."""
        raise NotImplementedError

    def info(self) -> ServerInfo:
        """What there is to know of the server; for backends with :attr:`has_info`."""
        raise NotImplementedError

    def check(self, *, ask: bool = False) -> None:
        """Look for mistakes in the settings, for Django's system checks; fetches nothing.

        :param ask: ask the network too whether what is pinned can be had.

        :raises DbdevError: the first mistake. A backend need not look for any.
        """

    def mend(self) -> None:
        """Bring what a killed command has begun to its end, or back; the server's lock is held.

        For backends with :attr:`restores_beside`. One need not have anything to mend.
        """

    def bring_up(self) -> int | None:
        """As :meth:`init`, for backends with :attr:`has_server`.

        :returns: The server's pid where this started it, None where it ran before.
        """
        raise NotImplementedError

    def lock(self, *, upgrade: bool = False) -> None:
        """Write the lock's entry; for backends with :attr:`has_lock`.

        What is locked and satisfies the pin stays, unless ``upgrade``.
        """
        raise NotImplementedError

    @property
    def lock_key(self) -> tuple[str, str | None]:
        """The lock's entry: the engine's name in pins, and the alias that has a pin of its own.

        For backends with :attr:`has_lock`; None where the server's aliases have no pin apart.
        """
        raise NotImplementedError

    def check_lock(self) -> None:
        """Look whether the lock satisfies the pin; for backends with :attr:`has_lock`.

        :raises LockError: when it does not.
        """
        raise NotImplementedError

    def upgrade(self) -> None:
        """Move the data to the pinned version; for backends with :attr:`has_upgrade`.

        The data of the old version stays as a backup.
        """
        raise NotImplementedError

    def examine(self) -> Iterator[Finding]:
        """What is not as it should be; for backends with :attr:`has_examination`."""
        raise NotImplementedError

    def declined(self) -> Sequence[tuple[str, str]]:
        """Who could have provided the programs and did not, and why.

        For backends with :attr:`has_examination`.
        """
        raise NotImplementedError

    def digests(self) -> Mapping[str, str]:
        """Digests of the programs' files and of each rendered file, by name.

        For backends with :attr:`has_examination`: equal wherever the same is used; empty where
        there are no programs yet.
        """
        raise NotImplementedError

    def guide(self) -> None:
        """Print useful commands and tips for this database."""
        show = getattr(self.command, "show_guide", self.stdout.write)
        show(self.guide_text())

    def guide_text(self) -> str:
        """What :meth:`guide` prints, in reStructuredText.

        Renders ``django_dbdev/<class name in lower case>.rst`` with ``backend`` (this object)
        and ``dbsettings`` (the module's DBSETTINGS, with what the alias sets differently).
        """
        from ..guide import render_template, template_names

        module = importlib.import_module(type(self).__module__)
        return render_template(
            template_names(type(self)),
            {
                "backend": self,
                "dbsettings": {**getattr(module, "DBSETTINGS", {}), **self.dbsettings},
            },
        )

    # Helpers.

    @classmethod
    def place(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        """HOST and PORT; ``localhost`` is one name of the address on which servers listen."""
        host = str(settings.get("HOST") or "")
        return ("127.0.0.1" if host == "localhost" else host, str(settings.get("PORT") or ""))

    def is_here(self, host: str) -> bool:
        """Whether HOST names a place where a server of this backend's is."""
        return host in self.hosts

    @property
    def alias(self) -> str:
        """The database alias that the command was called for."""
        return getattr(self.command, "alias", "default")

    @property
    def dbsettings(self) -> Mapping[str, Any]:
        """``settings.DATABASES`` for the alias."""
        return conf.database(self.alias)

    @property
    def server_name(self) -> str:
        """The name of the alias's server: the class's name, with the alias for further ones."""
        return getattr(self.command, "server_name", None) or type(self).__name__

    @property
    def server_aliases(self) -> Sequence[str]:
        """All aliases that share the server, this one among them."""
        return getattr(self.command, "server_aliases", None) or (self.alias,)

    @property
    def reporter(self) -> Reporter:
        """Where facts and warnings go."""
        return getattr(self.command, "reporter", SILENT)

    @property
    def locked(self) -> bool:
        """Whether programs may only be those of the lock: ``--locked`` or ``DBDEV_LOCKED``."""
        return self._switched_on("locked")

    @property
    def offline(self) -> bool:
        """Whether nothing may be fetched: ``--offline`` or ``DBDEV_OFFLINE``."""
        return self._switched_on("offline")

    def _switched_on(self, name: str) -> bool:
        options = getattr(self.command, "options", {})
        return bool(options.get(name)) or conf.flag(f"DBDEV_{name.upper()}")

    @property
    def lost_by_destroy(self) -> str:
        """What :meth:`destroy` removes, for the question that is asked before."""
        return f"all data of {', '.join(self.server_aliases)} ({self.server_name})"

    @property
    def tempdata(self) -> Path:
        """The folder below which all state of this project is."""
        return conf.tempdata()

    @property
    def datadir(self) -> str:
        """The path of the data directory. It is created if it does not exist."""
        self.create_datadir_if_not_exists()
        return str(self._datadir)

    @property
    def _datadir(self) -> Path:
        return self.tempdata / self.server_name

    def create_datadir_if_not_exists(self) -> None:
        """Create :attr:`datadir` if it does not exist, for ourselves alone."""
        make_tempdata(self.tempdata)
        self._datadir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove_datadir(self) -> None:
        """Remove the :attr:`datadir`."""
        remove_tree(self._datadir)

    @property
    def stdout(self) -> OutputWrapper:
        """Shortcut for ``self.command.stdout``. Use for normal messages."""
        return self.command.stdout

    @property
    def stderr(self) -> OutputWrapper:
        """Shortcut for ``self.command.stderr``. Use for error messages."""
        return self.command.stderr

    @property
    def root_backupdir(self) -> str:
        """The path of the directory in which the backups of this backend are."""
        return str(self.tempdata / f"{self.server_name}-backups")

    def create_timestamped_backupdir(self, name: str | None = None) -> str:
        """Create a directory named by the time in :attr:`root_backupdir`.

        :returns: The path of the created directory.
        """
        from ..backups.names import new_time, refuse_dangling

        make_tempdata(self.tempdata)
        suffix = f".{name}" if name else ""
        root = Path(self.root_backupdir)
        refuse_dangling(root)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = root / f"backup-{new_time(root)}{suffix}"
        directory.mkdir(mode=0o700)
        return str(directory)


def remove_tree(folder: Path) -> None:
    """Remove a folder, renamed first: half a folder never bears the name of a whole one."""
    if not folder.exists():
        return
    doomed = folder.with_name(f".{folder.name.lstrip('.')}.{timestamp()}.removed")
    folder.rename(doomed)
    _remove(doomed)


#: How names end that killed commands leave: what they built, and its server's own files.
_LEFTOVERS = (".new", ".removed", ".new.log", ".new.pgpass", ".new.cnf")


#: A :func:`timestamp` for glob, which tells ``a.<time>`` from ``a.b.<time>`` of an alias "a.b".
A_TIME = "????-??-??_??-??-??-??????"


def sweep(folder: Path) -> None:
    """Remove what commands that were killed left of ``folder``, whose lock is held."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.{A_TIME}.*"):
        if leftover.name.endswith(_LEFTOVERS):
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def timestamp() -> str:
    """The local time to the microsecond, as 1.2.3 wrote it into names."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


def make_tempdata(folder: Path) -> None:
    """Make the folder for all state, which keeps itself out of git.

    :raises ConfigurationError: when somebody else may have planted it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    conf.refuse_planted(folder)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        write_atomically(ignore, "# Made by django_dbdev: local to this machine.\n*\n")
