from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from django_dbdev.backends.base import BaseDbdevBackend
from django_dbdev.backends.postgres import PostgresBackend
from django_dbdev.exceptions import ConfigurationError
from django_dbdev.registry import BackendRegistry


class OracleBackend(BaseDbdevBackend):
    pass


def test_importing_it_in_settings_loads_nothing_slow() -> None:
    script = (
        "import sys; from django_dbdev import backendregistry\n"
        "from django_dbdev.backends.postgres import DBSETTINGS\n"
        "from django_dbdev.backends.base import BaseDbdevBackend\n"
        "slow = {'sh', 'jinja2', 'psutil', 'filelock', 'rich', 'packaging', 'psycopg',"
        " 'django.db', 'django.db.models', 'docutils'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_it_maps_engines_to_classes() -> None:
    registry = BackendRegistry({"a": "django_dbdev.backends.postgres.PostgresBackend"})
    assert dict(registry) == {"a": PostgresBackend}
    registry.register("a", OracleBackend)
    registry.register("b", f"{__name__}.OracleBackend")
    assert registry["a"] is registry["b"] is OracleBackend
    assert len(registry) == 2


def test_a_dotted_path_that_leads_nowhere_says_so() -> None:
    registry = BackendRegistry({"a": "django_dbdev.backends.nothing.Backend"})
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        registry["a"]


def test_an_engine_that_wraps_a_known_one_uses_its_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "wrapped_engine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "base.py").write_text("from django.db.backends.postgresql.base import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = BackendRegistry(
        {"django.db.backends.postgresql": "django_dbdev.backends.postgres.PostgresBackend"}
    )
    assert registry.for_engine("wrapped_engine") is PostgresBackend


def test_an_engine_that_wraps_one_of_the_same_vendor_uses_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that wraps PostGIS's, which is PostgreSQL to Django."""
    for name, wrapped in (
        ("inner_engine", "django.db.backends.sqlite3"),
        ("outer", "inner_engine"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "base.py").write_text(
            f"from {wrapped} import base\n\nclass DatabaseWrapper(base.DatabaseWrapper): pass\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    registry = BackendRegistry({"django.db.backends.sqlite3": PostgresBackend})
    assert registry.for_engine("outer") is PostgresBackend
    registry.register("inner_engine", OracleBackend)
    assert registry.for_engine("outer") is OracleBackend


def test_an_unknown_engine_lists_what_is_supported_and_how_to_register() -> None:
    registry = BackendRegistry({"a": "django_dbdev.backends.postgres.PostgresBackend"})
    with pytest.raises(ConfigurationError) as caught:
        registry.for_engine("django.db.backends.nosuch")
    assert "a: django_dbdev.backends.postgres.PostgresBackend" in str(caught.value)
    assert "backendregistry.register('django.db.backends.nosuch'" in str(caught.value)


def test_a_known_engine_without_backend_names_its_vendor() -> None:
    with pytest.raises(ConfigurationError, match=r"vendor 'oracle'|cannot load it"):
        BackendRegistry({}).for_engine("django.db.backends.oracle")


def test_aliases_share_a_server_by_backend_host_and_port() -> None:
    registry = BackendRegistry({"pg": PostgresBackend, "ora": OracleBackend})
    databases: dict[str, dict[str, object]] = {
        "reporting": {"ENGINE": "pg", "HOST": "127.0.0.1", "PORT": 2},
        "archive": {"ENGINE": "pg", "HOST": "127.0.0.1", "PORT": "1"},
        "default": {"ENGINE": "pg", "HOST": "localhost", "PORT": 1},
        "legacy": {"ENGINE": "ora", "HOST": "127.0.0.1", "PORT": 1},
        "odd": {"ENGINE": "nothing.at.all"},
    }
    server = registry.server_of("archive", databases)
    assert server.name == "PostgresBackend"
    assert server.aliases == ("default", "archive")
    assert registry.server_of("reporting", databases).name == "PostgresBackend-reporting"
    assert registry.server_of("legacy", databases).name == "OracleBackend"
    # A data directory of its own, where no other server's backups are.
    databases["backups"] = {"ENGINE": "pg", "HOST": "127.0.0.1", "PORT": 3}
    name = registry.server_of("backups", databases).name
    assert name not in ("PostgresBackend", "PostgresBackend-backups")
    # The driver's own port where none is named.
    databases["reporting"]["PORT"], databases["archive"]["PORT"] = "", 5432
    assert registry.server_of("archive", databases).aliases == ("reporting", "archive")
