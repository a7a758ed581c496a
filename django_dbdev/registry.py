"""Which backend serves which database engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .exceptions import ConfigurationError

if TYPE_CHECKING:
    from .backends.base import BaseDbdevBackend

#: The backend for each ``DatabaseWrapper.vendor``, for engines that wrap a built-in one.
VENDORS = {
    "mysql": "django.db.backends.mysql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}


@dataclass(frozen=True)
class ServerOf:
    """The server of an alias: its name, and all aliases that share it."""

    name: str
    aliases: tuple[str, ...]


class BackendRegistry(Mapping[str, "type[BaseDbdevBackend]"]):
    """A mapping from engine string (``DATABASES[alias]["ENGINE"]``) to backend class.

    Classes may be registered by dotted path; they are imported when they are asked for.
    """

    def __init__(self, backends: Mapping[str, type[BaseDbdevBackend] | str]) -> None:
        self._backends = dict(backends)

    def register(self, engine: str, backend: type[BaseDbdevBackend] | str) -> None:
        """Use ``backend``, a class or its dotted path, for ``engine``, also in place of another."""
        self._backends[engine] = backend

    def __getitem__(self, engine: str) -> type[BaseDbdevBackend]:
        backend = self._backends[engine]
        if isinstance(backend, str):
            backend = self._backends[engine] = _import(engine, backend)
        return backend

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def for_engine(self, engine: str) -> type[BaseDbdevBackend]:
        """The backend for ``engine``: the registered one, else that of what it wraps.

        That is the nearest registered engine whose wrapper it inherits, else the vendor's.

        :raises ConfigurationError: when neither is known, or the backend cannot be imported.
        """
        if engine in self._backends:
            return self[engine]
        wrapper, problem = _wrapper(engine)
        for ancestor in wrapper.__mro__ if wrapper is not None else ():
            # PostGIS's vendor is PostgreSQL's as well.
            if (wrapped := ancestor.__module__.removesuffix(".base")) in self:
                return self[wrapped]
        vendor = getattr(wrapper, "vendor", None)
        if vendor in VENDORS:
            return self[VENDORS[vendor]]
        supported = "\n".join(f"  - {known}: {self._name(known)}" for known in self)
        raise ConfigurationError(
            f"No backend is registered for the database engine {engine!r}{problem}.\n"
            f"Supported engines:\n{supported}",
            hints=[
                "register one in settings.py: from django_dbdev import backendregistry; "
                f'backendregistry.register({engine!r}, "mypackage.backends.MyBackend")'
            ],
        )

    def server_of(self, alias: str, databases: Mapping[str, Mapping[str, Any]]) -> ServerOf:
        """Which server serves ``alias``: aliases share one with the same backend, HOST and PORT.

        The first server of a backend ("default" first, then in the order of DATABASES) bears
        the class's name, further ones that of their first alias as well.
        """
        backend = self.for_engine(databases[alias]["ENGINE"])
        servers: dict[tuple[str, str], list[str]] = {}
        for other in sorted(databases, key=lambda name: name != "default"):
            settings = databases[other]
            if other != alias and not self._serves(settings["ENGINE"], backend):
                continue
            servers.setdefault(backend.place(settings), []).append(other)
        for index, aliases in enumerate(servers.values()):
            if alias in aliases:
                suffix = f"-{aliases[0]}" if index else ""
                if suffix.endswith("-backups"):
                    # That is where the backups of another server are.
                    suffix += "_"
                return ServerOf(f"{backend.__name__}{suffix}", tuple(aliases))
        raise AssertionError("the alias is among its own servers")

    def _serves(self, engine: str, backend: type[BaseDbdevBackend]) -> bool:
        try:
            return self.for_engine(engine) is backend
        except ConfigurationError:
            return False

    def _name(self, engine: str) -> str:
        backend = self._backends[engine]
        if isinstance(backend, str):
            return backend
        return f"{backend.__module__}.{backend.__qualname__}"


def _import(engine: str, path: str) -> type[BaseDbdevBackend]:
    module, _, name = path.rpartition(".")
    try:
        backend: type[BaseDbdevBackend] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"The backend {path!r}, registered for {engine!r}, cannot be imported: {error}"
        ) from error
    return backend


def _wrapper(engine: str) -> tuple[type | None, str]:
    """The class by which Django drives an engine, and what there is to say of it in an error."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db.utils import load_backend

    try:
        wrapper: type = load_backend(engine).DatabaseWrapper
    except (ImproperlyConfigured, ImportError, AttributeError) as error:
        return None, f", and Django cannot load it ({str(error).splitlines()[0]})"
    return wrapper, f" (vendor {getattr(wrapper, 'vendor', None)!r})"


backendregistry = BackendRegistry(
    {
        "django.contrib.gis.db.backends.mysql": "django_dbdev.backends.mysql.MySqlBackend",
        "django.db.backends.mysql": "django_dbdev.backends.mysql.MySqlBackend",
        "django.db.backends.postgresql": "django_dbdev.backends.postgres.PostgresBackend",
        "django.db.backends.sqlite3": "django_dbdev.backends.sqlite.SqliteBackend",
        "django.contrib.gis.db.backends.spatialite": "django_dbdev.backends.sqlite.SqliteBackend",
        "django.contrib.gis.db.backends.postgis": "django_dbdev.backends.postgis.PostGisBackend",
    }
)
