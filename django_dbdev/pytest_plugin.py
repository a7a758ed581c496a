"""``pytest --dbdev``: the servers of the project are up while its tests run.

Off unless it is asked for on the command line or by ``dbdev = project`` (or ``ephemeral``) in
pytest's configuration; nothing but pytest is imported then. The controller of pytest-xdist brings
the servers up before it starts its workers, which inherit the environment; with pytest-django it
does so before Django's test databases are made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .session import Up

OFF, PROJECT, EPHEMERAL = "off", "project", "ephemeral"
_CHOICES = (OFF, PROJECT, EPHEMERAL)
#: Options of pytest with which it runs no test, as it names them itself.
_TELLING = (
    "help",
    "markers",
    "collectonly",
    "showfixtures",
    "show_fixtures_per_test",
    "cacheshow",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("django_dbdev", "databases (django_dbdev)")
    group.addoption(
        "--dbdev",
        nargs="?",
        const=PROJECT,
        choices=_CHOICES,
        help="Have the project's database servers up during the tests; `--dbdev=ephemeral` has "
        "new ones, which go afterwards. Before paths write `--dbdev=project`.",
    )
    parser.addini("dbdev", f"What --dbdev is by default: {', '.join(_CHOICES)}.", default=OFF)


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Before pytest-django reads the settings, which may have GeoDjango's libraries fetched."""
    if _how(early_config, early_config.known_args_namespace.dbdev) in (PROJECT, EPHEMERAL):
        from . import invocation

        invocation.servers_asked_for = True
    yield


def _how(config: pytest.Config, chosen: str | None) -> str:
    return str(chosen or config.getini("dbdev"))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    how = _how(config, config.getoption("--dbdev"))
    if how not in _CHOICES:
        raise pytest.UsageError(
            f"dbdev is {how!r} in pytest's configuration, not one of {_CHOICES}"
        )
    if how == OFF or _has_servers_already(config) or _tells_only(config):
        return
    config.pluginmanager.register(_Servers(how == EPHEMERAL), "django_dbdev_servers")


def _tells_only(config: pytest.Config) -> bool:
    """Whether pytest is asked for what needs no test to run."""
    return any(getattr(config.option, name, None) for name in _TELLING)


def _has_servers_already(config: pytest.Config) -> bool:
    """A worker of xdist has those of its controller, and ``dbdev_run`` those that it has made."""
    return hasattr(config, "workerinput") or "DBDEV_EPHEMERAL" in os.environ


class _Servers:
    """The servers, from registration until pytest ends."""

    def __init__(self, ephemeral: bool) -> None:
        self._stack = ExitStack()
        self._before = dict(os.environ)
        self._up = self._bring_up(ephemeral)
        os.environ.update(self._up.environment)

    def _bring_up(self, ephemeral: bool) -> Up:
        import django
        from django.core.exceptions import ImproperlyConfigured

        from . import conf
        from .exceptions import DbdevError
        from .servers import Caller
        from .session import servers_up

        try:
            django.setup()
        except (ImportError, ImproperlyConfigured) as error:
            raise pytest.UsageError(f"--dbdev needs Django's settings: {error}") from None
        try:
            self._places = (conf.project_root()[0], conf.tempdata())
            with self._as_owner() as self._problem:
                caller = Caller(None, None, options={})
                return self._stack.enter_context(
                    servers_up(list(conf.databases()), caller, ephemeral=ephemeral)
                )
        except (DbdevError, OSError, ImproperlyConfigured) as error:
            raise pytest.UsageError(f"--dbdev: {error}") from None

    def _as_owner(self) -> AbstractContextManager[str | None]:
        """What the servers write is the project's owner's; the tests run as who runs pytest."""
        from .process.privileges import as_project_owner

        return as_project_owner(*self._places)

    def pytest_report_header(self) -> list[str]:
        return [f"dbdev: {server}" for server in self._up.servers]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._problem is not None:
            terminalreporter.write_line(f"dbdev: {self._problem}", yellow=True)

    def pytest_unconfigure(self) -> None:
        os.environ.clear()
        os.environ.update(self._before)
        with self._as_owner():
            self._stack.close()
