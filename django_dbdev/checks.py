"""System checks: what is wrong with the set-up, before a command stumbles over it.

================== ======= ==========================================================
id                 level   meaning
================== ======= ==========================================================
django_dbdev.E001  error   no provider satisfies the pin, or the pin is malformed
django_dbdev.E002  error   aliases share one port, and so one server, but differ
django_dbdev.W001  warning the data directory is not ignored by git
django_dbdev.W002  warning HOST is not this machine's loopback
django_dbdev.W003  warning django_dbdev is installed although DEBUG is off
================== ======= ==========================================================

They run nothing and fetch nothing, so ``manage.py check`` stays as fast as it was. Whether the
package index has what is pinned is asked by ``manage.py check --database ALIAS`` alone, and by
``migrate``, where neither the lock nor this machine has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks, mail

from . import conf
from .backends.base import BaseDbdevBackend
from .exceptions import DbdevError, SharedServerError, ToolchainError
from .registry import backendregistry

TAG = "django_dbdev"


@checks.register(TAG)
def check_setup(**kwargs: Any) -> list[checks.CheckMessage]:
    try:
        conf.project()
        conf.tempdata()
    except DbdevError as error:
        return [_error(error, "E001")]
    return [*_project_checks(), *_alias_checks()]


@checks.register(checks.Tags.database)
def check_obtainable(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Ask for the aliases that Django names, when it checks databases."""
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        backend = _backend(alias, conf.databases())
        try:
            if backend is not None and _is_here(backend):
                backend.check(ask=True)
        except ToolchainError as error:
            found.append(_error(error, "E001"))
        except DbdevError:
            continue  # The other check names it.
    return found


def _project_checks() -> Iterator[checks.CheckMessage]:
    if not settings.DEBUG and not _is_under_test():
        yield checks.Warning(
            "django_dbdev is in INSTALLED_APPS although DEBUG is off.",
            hint="It is for development: list it in the development settings only.",
            id=f"{TAG}.W003",
        )
    folder = conf.tempdata()
    if not keeps_out_of_git(folder):
        yield checks.Warning(
            f"The data directory {folder} is not ignored by git.",
            hint=f"Put a file {folder / '.gitignore'} with the line * there.",
            id=f"{TAG}.W001",
        )


def _is_under_test() -> bool:
    """Whether Django's test environment is set up, which switches DEBUG off."""
    return hasattr(mail, "outbox")


def _alias_checks() -> Iterator[checks.CheckMessage]:
    databases = conf.databases()
    seen: set[str] = set()
    ports: dict[int, str] = {}
    for alias, alias_settings in databases.items():
        backend = _backend(alias, databases)
        if backend is None:
            continue
        if not _is_here(backend):
            yield checks.Warning(
                f"DATABASES[{alias!r}]['HOST'] is {alias_settings.get('HOST')!r}, "
                "not this machine's loopback.",
                hint="django_dbdev does not start a server there; use DBSETTINGS.",
                id=f"{TAG}.W002",
            )
            continue
        if backend.server_name in seen:
            continue
        seen.add(backend.server_name)
        try:
            backend.check()
            if backend.has_server:
                _check_port(backend, ports)
        except DbdevError as error:
            yield _error(error, "E002" if isinstance(error, SharedServerError) else "E001")


def _check_port(backend: BaseDbdevBackend, ports: dict[int, str]) -> None:
    """Look whether a server of another backend has the same port.

    :param ports: of the servers that were looked at, with an alias of each; this one's is added.
    :raises SharedServerError: when another server has the same.
    """
    from .backends.server.alias import ServerAlias

    if not isinstance(backend, ServerAlias):
        return
    alias, port = backend.alias, backend.port
    if (other := ports.setdefault(port, alias)) != alias:
        raise SharedServerError(
            f"The aliases {other!r} and {alias!r} have the port {port}, and each has a server of "
            "its own.",
            hints=[
                f"dbdev_init --database {alias} takes another port while the other server runs"
                if backend.is_movable(backend.dbsettings)
                else f"set another PORT in DATABASES[{alias!r}]"
            ],
        )


def _error(error: DbdevError, number: str) -> checks.Error:
    return checks.Error(error.message, hint=" ".join(error.hints) or None, id=f"{TAG}.{number}")


class _Alias:
    """What a backend needs to know of the command that called it; here there is none."""

    def __init__(self, alias: str, server_name: str, server_aliases: tuple[str, ...]) -> None:
        self.alias = alias
        self.server_name = server_name
        self.server_aliases = server_aliases


def _backend(alias: str, databases: Mapping[str, Mapping[str, Any]]) -> BaseDbdevBackend | None:
    """The alias's backend, where it looks for mistakes; others may need a real command.

    None for an engine that is nobody's too, which the commands report.
    """
    try:
        server = backendregistry.server_of(alias, databases)
        backend = backendregistry.for_engine(databases[alias]["ENGINE"])
    except DbdevError:
        return None
    if backend.check is BaseDbdevBackend.check:
        return None
    return backend(_Alias(alias, server.name, server.aliases))  # type: ignore[arg-type]


def _is_here(backend: BaseDbdevBackend) -> bool:
    """Whether the alias's server is one that the backend starts."""
    return backend.is_here(str(backend.dbsettings.get("HOST") or ""))


def keeps_out_of_git(folder: Path) -> bool:
    """Whether the folder's own .gitignore, or that of a folder above, covers it.

    True too where there is nothing to keep out, or where another account's files cannot be read.
    """
    try:
        return _is_ignored(folder)
    except OSError:
        return True


def _is_ignored(folder: Path) -> bool:
    if not folder.is_dir():
        return True
    own = folder / ".gitignore"
    if own.is_file() and "*" in own.read_text("utf-8", "replace").split():
        return True
    for above in folder.parents:
        ignore = above / ".gitignore"
        if ignore.is_file():
            lines = {
                line.strip().strip("/")
                for line in ignore.read_text("utf-8", "replace").splitlines()
            }
            if str(folder.relative_to(above)) in lines or folder.name in lines:
                return True
        if (above / ".git").exists():
            return False
    return True
