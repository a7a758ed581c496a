from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig


class DbdevConfig(AppConfig):
    name = "django_dbdev"
    verbose_name = "django_dbdev"

    def ready(self) -> None:
        from . import checks, conf  # noqa: F401

        if conf.is_ephemeral():
            conf.use_ephemeral_ports()
            return
        from .exceptions import ConfigurationError
        from .servers import use_recorded_ports

        # The commands and the checks say what is malformed.
        with suppress(ConfigurationError):
            use_recorded_ports()
