from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig


class DbdevConfig(AppConfig):
    name = "django_dbdev"
    verbose_name = "django_dbdev"

    def ready(self) -> None:
        from . import checks, conf  # noqa: F401
        from .exceptions import ConfigurationError
        from .servers import use_default_files, use_ephemeral_places, use_recorded_ports

        if conf.is_ephemeral():
            # What it raises ends the command: it would work on the developer's own data.
            use_ephemeral_places()
            return
        # The commands and the checks say what is malformed.
        with suppress(ConfigurationError):
            use_default_files()
            use_recorded_ports()
