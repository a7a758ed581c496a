"""SpatiaLite: SQLite with an extension that this machine has, for GeoDjango.

The backend is SQLite's; here are the settings, and a look whether the extension can be loaded.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from .. import conf
from ..exceptions import ConfigurationError
from .sqlite import DEFAULT_FILE

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.contrib.gis.db.backends.spatialite",
    "NAME": DEFAULT_FILE,
}


def require_spatialite() -> None:
    """See that SpatiaLite loads, from where Django would take it.

    :raises ConfigurationError: when Python's SQLite takes no extensions, or there is none.
    """
    names = [str(conf.setting("SPATIALITE_LIBRARY_PATH") or ""), "mod_spatialite"]
    reasons = []
    with closing(sqlite3.connect(":memory:")) as connection:
        if not hasattr(connection, "enable_load_extension"):
            raise ConfigurationError(
                "This Python's sqlite3 cannot load extensions, and SpatiaLite is one.",
                hints=[
                    "use a Python that can, such as the system's own; one that is built here "
                    "needs --enable-loadable-sqlite-extensions"
                ],
            )
        connection.enable_load_extension(True)
        for name in filter(None, names):
            try:
                connection.load_extension(name)
            except sqlite3.Error as error:
                reasons.append(f"{name}: {error}")
            else:
                return
    raise ConfigurationError(
        f"SpatiaLite cannot be loaded ({'; '.join(reasons)}).",
        hints=[
            "install it: apt-get install libsqlite3-mod-spatialite, dnf install libspatialite, "
            "or brew install libspatialite",
            "or set SPATIALITE_LIBRARY_PATH to the whole path of mod_spatialite",
        ],
    )
